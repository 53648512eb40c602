"""What the commands share: options and the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deblurgan.runtime import backends
from deblurgan.runtime.errors import DeblurError

output = Console(highlight=False, soft_wrap=True)

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
            remedy=f"make it with: mkdir -p {path.parent}",
        )
    if path is not None and path.exists() and not path.is_file():
        raise DeblurError(
            path,
            expected="the name of a file",
            found="a folder, a pipe or a device of that name",
            remedy="choose another name",
        )
