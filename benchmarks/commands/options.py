"""What the commands share: options and the terminal."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deblurgan.benchmarks.earlier import is_free_or_drawn, is_free_or_result
from deblurgan.runtime import backends
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import check_may_write, check_new_file

output = Console(highlight=False, soft_wrap=True, markup=False)

ModelOption = Annotated[
    str, typer.Option(help="A shipped model's name, or a file that deblur-export wrote.")
]
BackendOption = Annotated[str, typer.Option(help=f"The engine: {', '.join(backends.NAMES)}.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures there.")
]


def check_json_target(path: Path | None, kind: str | None = None) -> None:
    """Before the measurement, not after it. Of what is there, only a result (of the ``kind``)
    may be replaced.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise DeblurError(
            path,
            expected="a folder that exists",
            found="no such folder",
            remedy=f"make it with: mkdir -p {shlex.quote(str(path.parent))}",
        )
    check_may_write(path)
    if path.exists() and not path.is_file():
        raise DeblurError(
            path,
            expected="the name of a file",
            found="a folder, a pipe or a device of that name",
            remedy="choose another name",
        )
    if not is_free_or_result(path, kind):
        raise another_kind(path, f"an earlier {kind or 'result'}")


def check_drawn_target(path: Path | None, ending: str) -> None:
    """The same for a picture, or a table by its own option: an earlier one may be replaced."""
    if path is None:
        return
    check_new_file(path, ending, overwrite=True)
    if not is_free_or_drawn(path):
        raise another_kind(path, f"an earlier {'drawing' if ending == '.png' else 'table'}")


def another_kind(path: Path, earlier: str) -> DeblurError:
    return DeblurError(
        path,
        expected=f"a new name, or that of {earlier}",
        found="a file of another kind",
        remedy="choose another name",
    )


def check_threads(count: int, most: int) -> None:
    if count > most:
        raise DeblurError(
            "--threads",
            expected=f"at most {most}, the processors that this process may use",
            found=str(count),
            remedy=f"write --threads {most}",
        )
