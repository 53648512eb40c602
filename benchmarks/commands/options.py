"""What the commands share: options and the terminal."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deblurgan.runtime import backends
from deblurgan.runtime.errors import DeblurError

output = Console(highlight=False, soft_wrap=True, markup=False)

ModelOption = Annotated[
    str, typer.Option(help="A shipped model's name, or a file that deblur-export wrote.")
]
BackendOption = Annotated[str, typer.Option(help=f"The engine: {', '.join(backends.NAMES)}.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures there.")
]


def check_json_target(path: Path | None) -> None:
    """Before the measurement, not after it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise DeblurError(
            path,
            expected="a folder that exists",
            found="no such folder",
            remedy=f"make it with: mkdir -p {shlex.quote(str(path.parent))}",
        )
    if path is not None and path.exists() and not path.is_file():
        raise DeblurError(
            path,
            expected="the name of a file",
            found="a folder, a pipe or a device of that name",
            remedy="choose another name",
        )
    if path is not None and not may_be_replaced(path):
        raise DeblurError(
            path,
            expected="a new name, or that of an earlier result",
            found="a file of another kind",
            remedy="choose another name",
        )


def may_be_replaced(path: Path) -> bool:
    """No model, clip or picture: what is there begins as JSON does, or is empty."""
    with suppress(OSError), path.open("rb") as there:
        start = there.read(64)
        return start.lstrip()[:1] in (b"", b"{") and b"\0" not in start
    return True


def check_threads(count: int, most: int) -> None:
    if count > most:
        raise DeblurError(
            "--threads",
            expected=f"at most {most}, the processors that this process may use",
            found=str(count),
            remedy=f"write --threads {most}",
        )
