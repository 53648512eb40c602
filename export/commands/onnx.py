"""``deblur-export onnx``: a checkpoint to a model file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from deblurgan.export.commands.checkpoints import (
    CalibrationOption,
    CheckpointArgument,
    DropoutOption,
    MethodOption,
    SkipOption,
    StatisticsOption,
    beside,
    read_checkpoint,
    read_request,
)
from deblurgan.export.commands.rows import echo_rows, megabytes
from deblurgan.runtime.console import parse_size, say, watching
from deblurgan.runtime.errors import DeblurError

if TYPE_CHECKING:
    from deblurgan.export.frames import Precision
    from deblurgan.export.onnx_export import ExportReport
    from deblurgan.export.search import Choice


def onnx_command(
    checkpoint: CheckpointArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="MODEL.onnx",
            help="The model file. Default: the checkpoint's name with .onnx, -fp16.onnx and so on.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16|int8|int8-fp16",
            help="fp16 halves weights and activations, for GPUs. int8 is the fastest on a CPU, "
            "int8-fp16 is for TensorRT; both want --calibration.",
        ),
    ] = "fp32",
    calibration: CalibrationOption = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="int8: blurred and sharp pictures to judge it on. Layers that cost too much are "
            "put back to higher precision. Without it every layer is int8.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="DB", min=0.0, help="int8: PSNR it may lose on --pairs, in dB. Default: 0.1."
        ),
    ] = None,
    max_ssim_drop: Annotated[
        float | None,
        typer.Option(
            metavar="SSIM", min=0.0, help="int8: SSIM it may lose on --pairs. Default: 0.002."
        ),
    ] = None,
    method: MethodOption = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Freeze the frame size, in pixels."),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Take frames of any size: so it is without --size.")
    ] = False,
    skip: SkipOption = None,
    statistics: StatisticsOption = None,
    no_dropout: DropoutOption = False,
    licence: Annotated[
        str, typer.Option(help="The weights' licence, to be carried in the file.")
    ] = "",
    quality: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json",
            help="Figures to carry in the file: what deblur-bench quality --json wrote, of this "
            "model or of several with one in this precision. May be given several times.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace MODEL.onnx if it exists.")
    ] = False,
) -> None:
    """Write a checkpoint's generator as a model file.

    The file is compared with PyTorch on two pictures before it gets its name;
    one that makes another picture is not kept. Takes about half a minute, int8 some minutes.

    Example: deblur-export onnx best.safetensors -o edge-fp16.onnx --precision fp16
    """
    if size is not None and dynamic:
        raise DeblurError("--dynamic", expected="either it or --size", found="both",
                          remedy="leave one of them out")  # fmt: skip
    frozen = None if size is None else parse_size(size)
    request = read_request(precision, calibration, pairs, method, max_drop, max_ssim_drop)
    ending = ".onnx" if precision == "fp32" else f"-{precision}.onnx"
    measured = read_quality(quality or [], precision)
    target = output or beside(checkpoint, ending)
    loaded = read_checkpoint(checkpoint, skip, statistics, no_dropout)
    from deblurgan.export.onnx_export import export_onnx

    with watching("steps of int8", request is not None) as progress:
        report = export_onnx(
            loaded,
            target,
            cast("Precision", precision),
            frozen,
            quantisation=request,
            licence=licence,
            quality=measured,
            overwrite=overwrite,
            progress=progress,
        )
    echo_rows(report_rows(report))
    for warning in report.warnings:
        say(warning)


def report_rows(report: ExportReport) -> list[tuple[str, str]]:
    difference = report.difference
    psnr = f"{difference.psnr:.1f} dB" if difference.largest else "infinite"
    rows = [
        ("written", f"{report.path}, {megabytes(report.size)}, {report.card.precision}"),
        ("against PyTorch", f"largest difference {difference.largest}, mean "
         f"{difference.mean:.4f} levels of 255; PSNR {psnr}"),
    ]  # fmt: skip
    if report.choice is not None:
        rows.append(("int8", choice_said(report.choice)))
    return rows


def choice_said(choice: Choice) -> str:
    """``28 of 28 layers, ranges by entropy; 0.031 dB and 0.0005 SSIM below fp32 on 8 pairs``."""
    said = f"{len(choice.names)} of {len(choice.layers)} layers, ranges by {choice.method}"
    if choice.drop is None:
        return said
    drop = f"{choice.drop.psnr:.3f} dB and {choice.drop.ssim:.4f} SSIM"
    return f"{said}; {drop} below fp32 on {choice.pairs} pairs"


def read_quality(paths: Sequence[Path], precision: str) -> dict[str, dict[str, float]]:
    """The means of each file, under its name without the ending."""
    named = dict[str, Path]()
    for path in paths:
        twin = named.setdefault(path.stem, path)
        if twin != path:
            raise DeblurError(
                "--quality",
                expected="files whose names differ, as figures go under these",
                found=f"{twin} and {path}",
                remedy="name one of them otherwise",
            )
    return {name: read_mean(path, precision) for name, path in named.items()}


def read_mean(path: Path, precision: str) -> dict[str, float]:
    """The means in a result of ``deblur-bench quality --json``, or of ``deblur-train
    evaluate``, rounded; of several models those of the one in ``precision``.
    """
    try:
        result = json.loads(path.read_text())
        if "figures" in result:
            models = result["figures"]["models"]
            if len(models) > 1:
                models = [model for model in models if model["precision"] == precision]
            (result,) = models
        mean = {
            key: round(value, 4)
            for key, value in result["mean"].items()
            if isinstance(value, float) and math.isfinite(value)
        }
        if not mean:
            raise ValueError("no figure in it")
        return mean
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DeblurError(
            path,
            expected=f"figures that deblur-bench wrote, of one {precision} model",
            found="something else" if os.path.exists(path) else "no such file",
            remedy="make them with: deblur-bench quality --model MODEL.onnx --photos PHOTOS "
            f"--json {path}",
        ) from None
