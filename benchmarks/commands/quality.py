"""``deblur-bench quality``: PSNR, SSIM and CW-SSIM of pictures, beside the papers'."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Column, Table

from deblurgan.benchmarks.commands.models import ModelsOption, open_models
from deblurgan.benchmarks.commands.options import (
    BackendOption,
    JsonOption,
    check_drawn_target,
    check_json_target,
    output,
)
from deblurgan.benchmarks.commands.pictures import (
    GammaOption,
    LimitOption,
    PairsOption,
    PhotosOption,
    choose_pictures,
)
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import backends, console
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT
from deblurgan.runtime.targets import check_all_apart

if TYPE_CHECKING:
    from deblurgan.benchmarks.pictures import Pictures
    from deblurgan.benchmarks.quality import ModelQuality, Score

CROPS = 6
LISTED = 60  # rows; a longer table shows the means alone, the JSON has the rest
# Columns and their widths, so that a narrow terminal takes the room from the names alone.
NUMBERS = {"px": 2, "PSNR": 13, "gain": 5, "SSIM": 13, "CW-SSIM": 13, "shift": 9}
PLAIN: dict[str, Any] = {"box": box.SIMPLE, "padding": (0, 1, 0, 0), "pad_edge": False}


class Size(str, Enum):
    full = "full"
    half = "half"


def quality_command(
    pairs: PairsOption = None,
    photos: PhotosOption = None,
    sharp: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Sharp photographs, to be deblurred as they are: for harm."
        ),
    ] = None,
    models: ModelsOption = [DEFAULT],  # noqa: B006
    backend: BackendOption = backends.AUTO,
    size: Annotated[
        Size, typer.Option(help="half makes both pictures smaller first, as the paper trained.")
    ] = Size.full,
    limit: LimitOption = None,
    all_lengths: Annotated[
        bool,
        typer.Option(
            "--all-lengths",
            help="Blur each photograph at every length of eval-v1, so that all lengths are "
            "measured on the same pictures; otherwise the lengths take turns.",
        ),
    ] = False,
    gamma: GammaOption = False,
    worst: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the crops that each model did worst on (.png)."),
    ] = None,
    cw_ssim: Annotated[
        bool,
        typer.Option("--cw-ssim/--no-cw-ssim", help="CW-SSIM takes as long as all else together."),
    ] = True,
    crops: Annotated[
        int | None,
        typer.Option(min=1, help=f"How many crops --worst draws of each model ({CROPS})."),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw quality over the length of the blur (.png)."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """PSNR, SSIM and CW-SSIM before and after, for each picture and in the mean.

    Pairs are shown next to what papers report. CW-SSIM is what the paper calls SSIM.

    Examples: deblur-bench quality --pairs GOPRO_Large --worst worst.png

    deblur-bench quality --photos kodak24/ --all-lengths --curve curve.png
    """
    console.require("bench", "torch", "safetensors", "skimage", "matplotlib")
    from deblurgan.benchmarks.drawing import pixels_to_png, to_png
    from deblurgan.benchmarks.pictures import find_pictures
    from deblurgan.benchmarks.quality import measure_quality
    from deblurgan.benchmarks.quality_curve import check_lengths, draw_quality_curve
    from deblurgan.benchmarks.worst import WorstCrops
    from deblurgan.runtime.whole_file import write_whole
    from deblurgan.train.layouts import check_not_read
    from deblurgan.train.metrics import SSIM_WINDOW

    check_json_target(json_file)
    check_all_apart(json_file, worst, curve)
    if worst is None:
        console.refuse_idle({"--crops": crops}, "a picture to draw them to", "none", "--worst FILE")
    kind, folder = choose_pictures("quality", {"pairs": pairs, "photos": photos, "sharp": sharp})
    if all_lengths and kind != "photos":
        raise DeblurError(
            "--all-lengths",
            expected="--photos, which are blurred for it",
            found=f"--{kind}",
            remedy="leave it out",
        )
    pictures = find_pictures(
        kind, folder, size=size.value, limit=limit, all_lengths=all_lengths, gamma=gamma
    )
    for target in (worst, curve):
        if target is not None:
            check_not_read(target, pictures.source)
            check_drawn_target(target, ".png")
    if curve is not None:
        check_lengths(pictures)
    worst_crops = WorstCrops(crops or CROPS)
    with ExitStack() as opened:
        deblurrers = open_models(opened, models, backend)
        smallest = max(d.model.card.minimum_size for d in deblurrers.values())
        with console.watching("checked") as watch:
            pictures.check(max(smallest, SSIM_WINDOW), watch)
        watch = opened.enter_context(console.watching("measured"))
        done = 0

        def hear(name: str, pair: Any, deblurred: Any, score: Score) -> None:
            nonlocal done
            done += 1
            watch(done, len(pictures) * len(deblurrers))
            if worst is not None:
                worst_crops.watch(name, pair, deblurred)

        measured = measure_quality(
            deblurrers, pictures, size=size.value, with_cw_ssim=cw_ssim, watch=hear
        )
    try:
        write_result(json_file, "quality", as_figures(pictures, measured))
        if worst is not None:
            write_whole(worst, pixels_to_png(worst_crops.draw()))
        if curve is not None:
            write_whole(curve, to_png(draw_quality_curve(measured, describe(pictures))))
    finally:
        show(pictures, measured)


def show(pictures: Pictures, measured: list[ModelQuality]) -> None:
    table = Table(
        Column("picture", overflow="ellipsis", no_wrap=True),
        *(Column(n, justify="right", no_wrap=True, min_width=w) for n, w in NUMBERS.items()),
        **PLAIN,
    )
    listed = sum(len(model.scores) for model in measured) <= LISTED
    several = len(measured) > 1
    for model in measured if listed else ():
        if several:
            table.add_row(f"{model.model}:")
        for place, score in enumerate(model.scores):
            table.add_row(*cells(score.name, score), end_section=place == len(model.scores) - 1)
    count = f"mean of {len(pictures)}"
    if several:
        table.add_row(f"{count}:")
    for model in measured:
        table.add_row(*cells(model.model if several else count, model.mean))
    output.print(table)
    output.print(
        "px: length of the blur; shift: of the mean of a colour channel against the sharp "
        "picture's, in levels of 255, the largest in the last row"
    )
    if measured[0].by_length:
        show_lengths(measured)
    if pictures.kind == "pairs":
        show_published(pictures)


def cells(name: str, score: Score) -> list[str]:
    cw_ssim = (score.cw_ssim_before, score.cw_ssim_after)
    return [
        name,
        "" if score.length is None else f"{score.length:g}",
        arrow(score.psnr_before, score.psnr_after, 2),
        f"{score.gain:+.2f}",
        arrow(score.ssim_before, score.ssim_after, 3),
        "" if cw_ssim[0] is None or cw_ssim[1] is None else arrow(cw_ssim[0], cw_ssim[1], 3),
        arrow(score.colour_shift_before, score.colour_shift, 1),
    ]


def arrow(before: float, after: float, digits: int) -> str:
    return f"{before:.{digits}f} → {after:.{digits}f}"


def show_lengths(measured: list[ModelQuality]) -> None:
    table = Table("px", "model", "pictures", "PSNR", "gain", "SSIM", **PLAIN)
    for place in range(len(measured[0].by_length)):
        for model in measured:
            row = model.by_length[place]
            error = "" if row.gain_error is None else f" ±{row.gain_error:.2f}"
            table.add_row(
                f"{row.length:g}",
                model.model,
                str(row.pictures),
                arrow(row.psnr_before, row.psnr_after, 2),
                f"{row.gain:+.2f}{error}",
                arrow(row.ssim_before, row.ssim_after, 3),
            )
    output.print(table)
    output.print("±: standard error of the mean gain")


def show_published(pictures: Pictures) -> None:
    from deblurgan.benchmarks.paper import GOPRO, QUALITY, SSIM_NOTE, TEST_PAIRS

    table = Table("published: GoPro's test set", "PSNR", "SSIM", "CW-SSIM", "source", **PLAIN)
    for row in QUALITY:
        if row.data != GOPRO or row.ssim is None or "ssim" in row.recalled:
            continue
        columns = ("", f"{row.ssim:.3f}") if row.is_cw_ssim else (f"{row.ssim:.3f}", "")
        table.add_row(row.method, f"{row.psnr:.2f}", *columns, row.source)
    output.print(table)
    output.print(SSIM_NOTE)
    if pictures.layout != "gopro" or len(pictures) != TEST_PAIRS:
        output.print(
            f"Theirs are means over GoPro's {TEST_PAIRS:,} test pairs, ours over {len(pictures)} "
            "pairs that are not these: no ranking follows."
        )


def describe(pictures: Pictures) -> str:
    """What the curve is of."""
    folder = pictures.source.path.resolve().name
    same = "the same" if pictures.all_lengths else "other"
    return f"{folder}, {pictures.blur}, {pictures.size} size: {same} pictures at each length"


def as_figures(pictures: Pictures, measured: list[ModelQuality]) -> dict[str, Any]:
    return {
        "kind": pictures.kind,
        "folder": pictures.source.path.resolve().name,
        "layout": pictures.layout,
        "blur": pictures.blur,
        "all_lengths": pictures.all_lengths,
        "size": pictures.size,
        "models": [
            {
                "model": model.model,
                "precision": model.precision,
                "engine": model.engine,
                "pictures": [with_gain(score) for score in model.scores],
                "mean": with_gain(model.mean),
                "by_length": [asdict(row) for row in model.by_length],
            }
            for model in measured
        ],
    }


def with_gain(score: Score) -> dict[str, Any]:
    return {**asdict(score), "gain": score.gain}
