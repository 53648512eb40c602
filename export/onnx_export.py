"""Checkpoint to contract ONNX: export, quantise, describe, check, and only then name it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from deblurgan.export.calibration import Calibration, Progress, read_calibration
from deblurgan.export.frames import HALF, FramesModule, Precision, export_module, reference_module
from deblurgan.export.graph import OTHER_FOLDER, build_model, check_norms_in_float, write_model
from deblurgan.export.proof import (
    check_difference,
    check_half,
    check_range,
    check_shapes,
    find_engine,
    load_pictures,
    prove,
    run_module,
)
from deblurgan.export.search import (
    Choice,
    Pairs,
    QuantisationRequest,
    check_request,
    choose_layers,
    read_pairs,
)
from deblurgan.export.trial import EQUAL, Trial
from deblurgan.runtime.contract import ModelCard, open_model
from deblurgan.runtime.difference import Difference, measure_difference
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import LARGEST, make_golden
from deblurgan.runtime.whole_file import check_new_file
from deblurgan.train.checkpoint import Checkpoint, weights_sha256
from deblurgan.train.networks import describe_generator

REPLACE = "--overwrite, in Python overwrite=True"
FAR = 30.0  # dB between int8 and fp32: below it the difference is seen


@dataclass(frozen=True)
class ExportReport:
    """What was written: ``size`` in bytes, how far it is from PyTorch, what a user
    should know of it, and what was chosen to be int8.
    """

    path: Path
    card: ModelCard
    size: int
    difference: Difference
    warnings: tuple[str, ...] = ()
    choice: Choice | None = None


def export_onnx(
    checkpoint: Checkpoint,
    path: Path,
    precision: Precision = "fp32",
    size: tuple[int, int] | None = None,
    *,
    quantisation: QuantisationRequest | None = None,
    choice: Choice | None = None,
    licence: str = "",
    quality: dict[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a checkpoint's generator as a contract ONNX file at ``path``.

    ``size`` freezes width and height in pixels; the batch stays free. int8 and
    int8-fp16 want ``quantisation``; the others take none. ``choice`` is an earlier
    report's of the same checkpoint and request: it spares the search. ``licence``
    and ``quality`` (measured figures) go into the file. Raises :class:`DeblurError`
    when the file exists already, when the size is too small, when there is too
    little to calibrate on, and when the file's picture is not PyTorch's: then
    nothing is written.
    """
    generator = checkpoint.generator
    check_new_file(path, ".onnx", overwrite, ", which engines go by", REPLACE)
    check_size(size, generator.minimum_size)
    check_quantisation(precision, quantisation)
    check_folder(path)
    find_engine()
    card = ModelCard(
        generator=describe_generator(generator),
        stride=generator.stride,
        minimum_size=generator.minimum_size,
        precision=precision,
        weights_sha256=weights_sha256(generator),
        licence=licence,
        training=checkpoint.training,
        quality=quality or {},
    )
    # All that is read is read before the work begins.
    material = None if quantisation is None else read_material(quantisation, card)
    reference = reference_module(generator)
    if precision in HALF:
        check_range(reference, size)
    model = build_model(export_module(generator, precision), size)
    if precision in HALF:
        check_norms_in_float(model)
    if material is None:
        return write_proven(path, model, card, reference, overwrite=overwrite)

    dynamic_fp32 = model
    if precision in HALF or size is not None:
        dynamic_fp32 = build_model(export_module(generator, "int8"), None)
    # The search only sees how far int8 is from this graph, not how far this one is from PyTorch.
    check_difference(measure_candidate(dynamic_fp32, card, reference, size, find_engine()), "fp32")
    if choice is None:
        choice = choose_layers(
            dynamic_fp32, card, material.request, material.calibration, material.pairs, progress
        )
    card = replace(
        card, calibration_sha256=material.calibration.sha256, quantisation=choice.to_json()
    )
    in_float = None
    if precision in HALF:
        in_float = measure_candidate(choice.quantise(dynamic_fp32), card, reference, size)
    report = write_proven(
        path, choice.quantise(model), card, reference, in_float, overwrite=overwrite
    )
    warnings = material.calibration.warnings + report.warnings
    return replace(report, warnings=warnings, choice=choice)


@dataclass(frozen=True, eq=False)
class Material:
    """What a request names, read."""

    request: QuantisationRequest
    calibration: Calibration
    pairs: Pairs | None


def read_material(request: QuantisationRequest, card: ModelCard) -> Material:
    check_request(request)
    smallest = card.minimum_size
    pairs = None if request.pairs is None else read_pairs(request.pairs, smallest)
    calibration = read_calibration(request.calibration, request.limit, smallest=smallest)
    return Material(request, calibration, pairs)


def measure_candidate(
    model: onnx.ModelProto,
    card: ModelCard,
    reference: FramesModule,
    size: tuple[int, int] | None,
    engine: str | None = None,
) -> Difference:
    """How far a model of any frame size is from PyTorch on the package's pictures."""
    pictures = [np.ascontiguousarray(picture) for picture in load_pictures(size)]
    expected = [run_module(reference, picture[None])[0] for picture in pictures]
    made = Trial(card, pictures, engine=engine).run(model)
    pairs = list(zip(made, expected, strict=True))
    check_shapes(pairs)
    return measure_difference(pairs)


def write_proven(
    path: Path,
    model: onnx.ModelProto,
    card: ModelCard,
    reference: FramesModule,
    in_float: Difference | None = None,
    *,
    overwrite: bool = False,
) -> ExportReport:
    """Write a model, prove it, have it make its golden pair, and give it its name."""
    warnings: tuple[str, ...] = ()
    part = name_part(path)
    try:
        onnx.helper.set_model_props(model, card.to_metadata())
        write_model(model, part)
        onnx.checker.check_model(part, full_check=True)
        difference = prove(part, reference)
        if in_float is not None:
            check_half(difference, in_float)
        if card.quantisation:
            apart = asdict(difference) | {"psnr": min(difference.psnr, EQUAL)}
            apart = {name: round(value, 4) for name, value in apart.items()}
            card = replace(card, quantisation=card.quantisation | {"difference": apart})
            if difference.psnr < FAR:
                warnings += (warn_of_distance(difference, bool(card.quantisation["pairs"])),)
        card = replace(card, golden=make_golden(open_model(part)).to_json())
        onnx.helper.set_model_props(model, card.to_metadata())
        write_model(model, part)
        # Again, as all that took minutes.
        check_new_file(path, ".onnx", overwrite, replace=REPLACE)
        give_name(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return ExportReport(path, card, path.stat().st_size, difference, warnings)


def name_part(path: Path) -> Path:
    # Engines go by the ending; named after the process, as two may write the same file.
    return path.with_name(f".{path.stem[:80]}.{os.getpid()}.part.onnx")


def give_name(part: Path, path: Path) -> None:
    try:
        os.replace(part, path)
    except OSError as error:
        raise not_writable(path, error) from error


def check_folder(path: Path) -> None:
    """Before the work: refuse a folder in which nothing can be written."""
    part = name_part(path)
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise not_writable(path, error) from error


def not_writable(path: Path, error: OSError) -> DeblurError:
    return DeblurError(
        path,
        expected="room and permission to write it",
        found=error.strerror or str(error),
        remedy=OTHER_FOLDER,
    )


def warn_of_distance(difference: Difference, searched: bool) -> str:
    warning = f"int8 is {difference.psnr:.1f} dB from fp32, which is seen"
    if searched:
        return f"{warning}, though within the limits on the pairs: tighten --max-drop if it matters"
    return f"{warning}: give --pairs, by which the layers that do not survive int8 are found"


def check_quantisation(precision: Precision, request: QuantisationRequest | None) -> None:
    if (request is not None) == precision.startswith("int8"):
        return
    if request is None:
        raise DeblurError(
            "--calibration",
            expected=f"frames to calibrate {precision} on",
            found="none",
            remedy="name a folder of pictures or a clip: --calibration FOLDER",
        )
    raise DeblurError(
        "--calibration",
        expected="--precision int8 or int8-fp16 with it",
        found=precision,
        remedy="leave it out, or add --precision int8",
    )


def check_size(size: tuple[int, int] | None, smallest: int) -> None:
    if size is not None and min(size) < smallest:
        raise DeblurError(
            "--size",
            expected=f"at least {smallest}x{smallest}",
            found=f"{size[0]}x{size[1]}",
            remedy="leave it out for any size",
        )
    if size is not None and max(size) > LARGEST:
        raise DeblurError(
            "--size",
            expected=f"sides of at most {LARGEST} pixels",
            found=f"{size[0]}x{size[1]}",
            remedy="leave it out for any size, and let larger frames go through in tiles",
        )
