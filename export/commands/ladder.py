"""``deblur-export ladder``: every precision of a checkpoint, measured side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from deblurgan.export.commands.checkpoints import (
    CheckpointArgument,
    DropoutOption,
    MethodOption,
    SkipOption,
    StatisticsOption,
    check_method,
    read_checkpoint,
)
from deblurgan.export.commands.rows import echo_rows
from deblurgan.runtime.console import messages, parse_size, require, say


def ladder_command(
    checkpoint: CheckpointArgument,
    pairs: Annotated[
        list[str],
        typer.Option(
            metavar="FOLDER",
            help="Blurred and sharp pictures to judge on, as deblur-train run takes them; "
            "sharp:FOLDER of photographs is blurred by eval-v1. May be given several times.",
        ),
    ],
    report: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="REPORT", help="The folder to write into."),
    ],
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|CLIP",
            help="int8: pictures or a clip like those to be deblurred, to take its ranges from. "
            "Default: blurred pictures of the first --pairs.",
        ),
    ] = None,
    tune: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pairs that decide which layers stay out of int8. Default: the first --pairs.",
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(metavar="DB", min=0.0, help="PSNR that int8 may lose there, in dB.")
    ] = 0.1,
    method: MethodOption = None,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Frames that are timed.")
    ] = "1280x720",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each engine is timed.")] = 10.0,
    pictures: Annotated[
        int | None, typer.Option(min=1, help="Most pictures of each --pairs. Default: all.")
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The one of --pairs whose pictures the page shows. Default: the worst of all.",
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="The report's name, and its files'. Default: the generator.")
    ] = None,
    note: Annotated[str, typer.Option(help="A sentence to stand on top of the report.")] = "",
    licence: Annotated[
        str, typer.Option(help="The weights' licence, to be carried in the files.")
    ] = "",
    skip: SkipOption = None,
    statistics: StatisticsOption = None,
    no_dropout: DropoutOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace a report that is there.")
    ] = False,
) -> None:
    """Export a checkpoint in every precision and measure each: speed, size, quality.

    Writes the model files, ladder.json and one page, ladder.html, into REPORT. Takes some
    minutes, in which nothing else should run.

    Example: deblur-export ladder best.safetensors --pairs pairs/ -o report
    """
    require("export", "skimage", "jinja2")
    timed = parse_size(size)
    chosen = check_method(method)
    loaded = read_checkpoint(checkpoint, skip, statistics, no_dropout)
    from deblurgan.export.ladder import HTML, Measuring, climb

    with messages.status("climbing") as status:
        made = climb(
            loaded,
            pairs,
            calibration,
            report,
            tune=tune,
            title=title,
            note=note,
            licence=licence,
            method=chosen,
            max_drop=max_drop,
            show=show,
            measuring=Measuring(size=timed, seconds=seconds, pictures=pictures),
            overwrite=overwrite,
            tell=lambda step: status.update(escape(step)),
        )
    echo_rows([("written", str(report / HTML))])
    for warning in made.warnings:
        say(warning)
