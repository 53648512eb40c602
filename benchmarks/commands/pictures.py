"""The options that say which pictures to measure on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurgan.runtime.errors import DeblurError

if TYPE_CHECKING:
    from deblurgan.benchmarks.pictures import Kind

PairsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Blurred and sharp pictures: GOPRO_Large as it was unpacked (its test part), "
        "blur/ and sharp/, A/ and B/, or combined:FOLDER.",
    ),
]
PhotosOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Sharp photographs, to be blurred by eval-v1."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Measure only so many pictures, evenly spread."),
]
GammaOption = Annotated[bool, typer.Option("--gamma", help="Take GoPro's blur_gamma.")]


def choose_pictures(
    command: str, folders: dict[Kind, str | Path | None]
) -> tuple[Kind, str | Path]:
    """The one folder that was given, and what it is given as."""
    given = [(kind, folder) for kind, folder in folders.items() if folder is not None]
    if len(given) != 1:
        *others, last = (f"--{kind}" for kind in folders)
        raise DeblurError(
            f"deblur-bench {command}",
            expected=f"one of {', '.join(others)} and {last}",
            found=str(len(given)),
            remedy=f"see deblur-bench {command} --help",
        )
    return given[0]
