"""``deblur-bench curves``: how training runs went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblurgan.benchmarks.commands.options import check_drawn_target, output
from deblurgan.runtime import console
from deblurgan.runtime.whole_file import write_whole


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

    check_drawn_target(picture, ".png")
    write_whole(picture, to_png(draw_curves(runs)))
    output.print(f"{picture}: {len(runs)} run{'s' if len(runs) > 1 else ''}")
