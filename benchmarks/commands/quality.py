"""``deblur-bench quality``: PSNR and SSIM of pictures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from deblurgan.benchmarks.commands.results import (
    BackendOption,
    JsonOption,
    ModelOption,
    check_json_target,
    output,
    write_result,
)
from deblurgan.runtime import backends, console
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT


def quality_command(
    pairs: Annotated[
        Path | None,
        typer.Option(help="A folder with blur/ and sharp/, partners named alike."),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of sharp photographs, to be blurred by eval-v1.")
    ] = None,
    sharp: Annotated[
        Path | None,
        typer.Option(help="A folder of sharp photographs, to be deblurred as they are."),
    ] = None,
    model: ModelOption = DEFAULT,
    backend: BackendOption = backends.AUTO,
    json_file: JsonOption = None,
) -> None:
    """PSNR and SSIM before and after, for each picture and in the mean.

    Example: deblur-bench quality --photos kodak24/
    """
    console.require("bench", "torch", "safetensors", "skimage")
    from deblurgan.benchmarks.quality import (
        Score,
        blur_photos,
        leave_sharp,
        mean_score,
        read_pairs,
        score,
    )

    check_json_target(json_file)
    kinds = {read_pairs: pairs, blur_photos: photos, leave_sharp: sharp}
    given = [(read, folder) for read, folder in kinds.items() if folder is not None]
    if len(given) != 1:
        raise DeblurError(
            "deblur-bench quality",
            expected="one of --pairs, --photos and --sharp",
            found=str(len(given)),
            remedy="see deblur-bench quality --help",
        )
    read, folder = given[0]
    scores: list[Score] = []
    with Deblurrer(model, backend=backend) as deblurrer:
        for pair in read(folder):
            scores.append(score(pair, deblurrer))
    table = Table(
        Column("picture", no_wrap=True), "px", "PSNR", "after", "gain", "SSIM", "after", "shift"
    )
    for row in [*scores, mean_score(f"mean of {len(scores)}", scores)]:
        table.add_row(
            row.name,
            "" if row.length is None else f"{row.length:g}",
            f"{row.psnr_before:.2f}",
            f"{row.psnr_after:.2f}",
            f"{row.psnr_after - row.psnr_before:+.2f}",
            f"{row.ssim_before:.4f}",
            f"{row.ssim_after:.4f}",
            f"{row.colour_shift:.2f}",
        )
    output.print(table)
    output.print("px: length of the blur; shift: of the mean of a colour channel, in levels of 255")
    write_result(json_file, "quality", {"pictures": [asdict(s) for s in scores],
                           "mean": asdict(mean_score("mean", scores))})  # fmt: skip
