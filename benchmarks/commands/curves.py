"""``deblur-bench curves``: how training runs went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblurgan.runtime import console


def curves_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders that deblur-train run made.")
    ],
    picture: Annotated[
        Path, typer.Option("--output", "-o", metavar="PICTURE", help="A PNG file to draw to.")
    ],
) -> None:
    """Draw how training runs went: their loss, and the gain on held-out pairs.

    Example: deblur-bench curves runs/mine -o curves.png
    """
    console.require("bench", "matplotlib")
    from deblurgan.benchmarks.curves import draw_curves
    from deblurgan.benchmarks.drawing import to_png
    from deblurgan.runtime.whole_file import check_new_file, write_whole

    check_new_file(picture, ".png", overwrite=True)
    write_whole(picture, to_png(draw_curves(runs)))
