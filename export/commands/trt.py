"""``deblur-export trt``: a model file or a checkpoint to a TensorRT plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from deblurgan.export.commands.checkpoints import (
    CalibrationOption,
    DropoutOption,
    SkipOption,
    StatisticsOption,
    beside,
    check_choice,
    read_checkpoint,
    read_request,
    refuse_release_options,
)
from deblurgan.export.commands.rows import echo_rows, megabytes
from deblurgan.runtime.console import parse_size, say, watching
from deblurgan.runtime.contract import PRECISIONS, Model, ModelCard, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import WrongPicture
from deblurgan.runtime.tensorrt.builder import BuildOptions, build_plan, choose_bindings
from deblurgan.runtime.tensorrt.plan_card import PlanCard
from deblurgan.runtime.tensorrt.profiles import choose_profile
from deblurgan.runtime.tensorrt.runner import verify
from deblurgan.runtime.tensorrt.sidecar import sidecar_path, why_not_here, write_plan
from deblurgan.runtime.whole_file import check_new_file

if TYPE_CHECKING:
    from deblurgan.export.frames import Precision
    from deblurgan.export.search import QuantisationRequest
    from deblurgan.train.checkpoint import Checkpoint

UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def trt_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL.onnx|CHECKPOINT",
            help="A model file, which keeps its own precision, or a checkpoint to export first.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="MODEL.plan", help="Default: the source's name."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="One frame size, the fastest plan for it. This or --max, unless the model is "
            "frozen at a size.",
        ),
    ] = None,
    smallest: Annotated[
        str | None,
        typer.Option(
            "--min",
            metavar="WIDTHxHEIGHT",
            help="Smallest frame (--minShapes). Default: the model's smallest.",
        ),
    ] = None,
    optimal: Annotated[
        str | None,
        typer.Option(
            "--opt", metavar="WIDTHxHEIGHT", help="Frame to tune for (--optShapes). Default: --max."
        ),
    ] = None,
    largest: Annotated[
        str | None,
        typer.Option("--max", metavar="WIDTHxHEIGHT", help="Largest frame (--maxShapes)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Most frames at a time.")] = 1,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16|int8|int8-fp16",
            help="For a checkpoint: what to export it as. Default: fp16.",
        ),
    ] = None,
    calibration: CalibrationOption = None,
    workspace: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Scratch memory for layers: 512M, 2G; in MiB by itself. Default: all there is.",
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Timings of layers, kept for the next build (--timingCacheFile)."
        ),
    ] = None,
    optimization_level: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=5,
            help="Building time for speed (--builderOptimizationLevel). Default: TensorRT's, 3.",
        ),
    ] = None,
    hardware_compatible: Annotated[
        bool,
        typer.Option(
            "--hardware-compatible",
            help="For all GPUs in slots from Ampere on; slower. Refused on a Jetson.",
        ),
    ] = False,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="For later TensorRT versions too."),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="sm89,sm120",
            help="Build with TensorRT for RTX for these GPUs; needs no GPU.",
        ),
    ] = None,
    skip: SkipOption = None,
    statistics: StatisticsOption = None,
    no_dropout: DropoutOption = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", "-y", help="Replace MODEL.plan, and what stands beside it, if it exists."
        ),
    ] = False,
) -> None:
    """Build a TensorRT plan, on the device that will run it.

    Needs neither PyTorch nor onnx for a model file; a checkpoint becomes MODEL.onnx first. What
    the plan is stands in MODEL.plan.json beside it; trtexec --loadEngine reads the plan as well.

    Example: deblur-export trt edge-fp16.onnx -o edge.plan --size 1280x720
    """
    plan = output or beside(source, ".plan")
    check_new_file(plan, ".plan", overwrite)
    check_new_file(sidecar_path(plan), ".json", overwrite)
    given = {"size": size, "min": smallest, "opt": optimal, "max": largest}
    sizes = {
        name: parse_size(text, f"--{name}") for name, text in given.items() if text is not None
    }
    memory = None if workspace is None else parse_memory(workspace)

    def options_for(model: Model) -> BuildOptions:
        return BuildOptions(
            profile=choose_profile(model, **sizes, batch=batch),
            workspace=memory,
            timing_cache=timing_cache,
            optimization_level=optimization_level,
            hardware_compatible=hardware_compatible,
            version_compatible=version_compatible,
            targets=tuple(target.split(",")) if target else (),
        )

    if source.suffix == ".onnx":
        refuse_release_options(source, skip, statistics, no_dropout)
        model = open_model(source)
        check_precision(model, precision, calibration)
    else:
        wanted = precision or ("int8-fp16" if calibration else "fp16")
        request = read_request(wanted, calibration)
        exported = plan.with_suffix(".onnx")
        check_new_file(exported, ".onnx", overwrite)
        checkpoint = read_checkpoint(source, skip, statistics, no_dropout)
        # Before the export, which may take minutes.
        choose_bindings(options_for(describe_model(checkpoint, source, wanted)))
        model = export_first(checkpoint, exported, wanted, request, overwrite)
    options = options_for(model)
    try:
        with watching("parts of the plan") as progress:
            built = build_plan(model, options, progress, warn=say)
        card = write_plan(plan, built, model, options)
    except BaseException:
        if model.path != source:
            say(f"{model.path} is whole, and stays: deblur-export trt builds the plan from it")
        raise
    beside_it = [sidecar_path(plan).name, *([model.path.name] if model.path != source else [])]
    echo_rows(
        [
            ("written", f"{plan}, {megabytes(card.plan_size)}, and {', '.join(beside_it)}"),
            ("built", f"{card.title} in {built.seconds:.0f} s, {card.card.precision}"),
            prove_plan(card),
        ]
    )


def describe_model(checkpoint: Checkpoint, path: Path, precision: str) -> Model:
    """The model that a checkpoint will become, as far as the choice of frames goes."""
    generator = checkpoint.generator
    card = ModelCard(
        generator={},
        stride=generator.stride,
        minimum_size=generator.minimum_size,
        precision=precision,
        weights_sha256="",
    )
    return Model(path, card, None)


def export_first(
    checkpoint: Checkpoint,
    path: Path,
    precision: str,
    request: QuantisationRequest | None,
    overwrite: bool,
) -> Model:
    """The plan's own ONNX file, kept beside it: a plan is built again from that."""
    from deblurgan.export.onnx_export import export_onnx

    with watching("steps of export") as progress:
        report = export_onnx(
            checkpoint,
            path,
            cast("Precision", precision),
            quantisation=request,
            overwrite=overwrite,
            progress=progress,
        )
    for warning in report.warnings:
        say(warning)
    return open_model(report.path)


def prove_plan(card: PlanCard) -> tuple[str, str]:
    """What its golden pair says; a plan that makes another picture loses its name."""
    reasons = why_not_here(card)
    if reasons:
        return ("not run", "; ".join(reasons))
    if card.golden is None:
        return ("not verified", f"no golden pair: {card.golden_missing}")
    try:
        return ("golden pair", str(verify(card.path)))
    except WrongPicture:
        card.path.unlink(missing_ok=True)
        sidecar_path(card.path).unlink(missing_ok=True)
        raise


def check_precision(model: Model, precision: str | None, calibration: Path | None) -> None:
    """A model file keeps its own precision; refuse another with the command that makes it."""
    if precision is not None:
        check_choice("--precision", precision, PRECISIONS)
    wanted = precision or ("int8-fp16" if calibration else model.card.precision)
    if wanted == model.card.precision and calibration is None:
        return
    command = f"deblur-export onnx CHECKPOINT --precision {wanted}"
    if wanted.startswith("int8"):
        command += f" --calibration {calibration or 'FOLDER'}"
    raise DeblurError(
        model.path,
        expected=f"a model in {wanted}" if precision else "a checkpoint to go with --calibration",
        found=f"one in {model.card.precision}, which it keeps",
        remedy=f"write another with: {command}, or give the checkpoint to deblur-export trt",
    )


def parse_memory(text: str) -> int:
    """``512M`` or ``2G`` in bytes; a number by itself is MiB, as in trtexec."""
    match = re.fullmatch(r"([1-9][0-9]{0,9})([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise DeblurError("--workspace", expected="a size in memory", found=repr(text),
                          remedy="write it like --workspace 512M or 2G")  # fmt: skip
    return int(match[1]) * UNITS[match[2].upper()]
