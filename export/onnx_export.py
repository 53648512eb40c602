"""Checkpoint to contract ONNX: export, clean, describe, check, and only then name it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch

from deblurgan.export.frames import FramesModule, Precision, export_module, reference_module
from deblurgan.export.proof import check_range, find_engine, prove
from deblurgan.runtime.contract import INPUT, OUTPUT, ModelCard
from deblurgan.runtime.difference import Difference
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import Checkpoint, weights_sha256
from deblurgan.train.networks import describe_generator

# The newest that TensorRT 10.3 reads; half-typed Q/DQ scales need 19.
OPSET = 20
DIMENSIONS = ("batch", "height", "width")


@dataclass(frozen=True)
class ExportReport:
    """What was written: ``size`` in bytes, and how far it is from PyTorch."""

    path: Path
    card: ModelCard
    size: int
    difference: Difference


def export_onnx(
    checkpoint: Checkpoint,
    path: Path,
    precision: Precision = "fp32",
    size: tuple[int, int] | None = None,
    *,
    licence: str = "",
    quality: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a checkpoint's generator as a contract ONNX file at ``path``.

    ``size`` freezes width and height in pixels; the batch stays free.
    ``licence`` and ``quality`` (measured figures) go into the file. Raises
    :class:`DeblurError` when the file exists already, when the size is too
    small, and when the file's picture is not PyTorch's: then nothing is
    written.
    """
    check_target(path, overwrite)
    check_size(size, checkpoint.generator.minimum_size)
    find_engine()
    reference = reference_module(checkpoint.generator)
    if precision == "fp16":
        check_range(reference, size)
    model = build_model(export_module(checkpoint.generator, precision), size)
    card = ModelCard(
        generator=describe_generator(checkpoint.generator),
        stride=checkpoint.generator.stride,
        minimum_size=checkpoint.generator.minimum_size,
        precision=precision,
        weights_sha256=weights_sha256(checkpoint.generator),
        licence=licence,
        training=checkpoint.training,
        quality=quality or {},
    )
    onnx.helper.set_model_props(model, card.to_metadata())
    if precision == "fp16":
        check_norms_in_float(model)

    part = path.with_name(f".{path.stem}.{os.getpid()}.part.onnx")  # engines go by the ending
    try:
        write_model(model, part)
        onnx.checker.check_model(part, full_check=True)
        difference = prove(part, reference)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return ExportReport(path, card, path.stat().st_size, difference)


def build_model(frames: FramesModule, size: tuple[int, int] | None) -> onnx.ModelProto:
    """The contract's graph, with nothing in it of the machine that made it."""
    # Any will do that is not too small and, with most strides, wants padding.
    smallest = frames.generator.minimum_size
    width, height = size or (smallest + 75, smallest + 50)
    # Neither 0 nor 1 frames: the exporter takes those for constants.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    free = 1 if size else 3
    with quiet_exporter():
        program = torch.onnx.export(
            frames,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"frames": dict.fromkeys(range(free), torch.export.Dim.DYNAMIC)},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model_proto
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in enumerate(DIMENSIONS[:free]):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    strip(model)
    return model


def strip(model: onnx.ModelProto) -> None:
    """Drop what no engine reads: stack traces, source paths, the exporter's symbols."""
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    graph.name = "deblurgan"
    model.ClearField("metadata_props")
    model.ClearField("functions")
    used = {node.domain for node in graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def write_model(model: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.save_model(model, path)
    except OSError as error:
        raise DeblurError(
            path.parent,
            expected=f"room and permission to write {model.ByteSize():,} bytes",
            found=error.strerror or str(error),
            remedy="free some space or choose another folder",
        ) from error


def check_norms_in_float(model: onnx.ModelProto) -> None:
    """Every InstanceNormalization between a Cast to float and a Cast to half.

    TensorRT would take the statistics in half precision otherwise, and a CPU
    engine, which computes in fp32 anyway, would never show it.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    for norm in model.graph.node:
        if norm.op_type != "InstanceNormalization":
            continue
        before = makers.get(norm.input[0])
        after = [node for node in model.graph.node if norm.output[0] in node.input]
        if not (
            before is not None
            and casts_to(before, onnx.TensorProto.FLOAT)
            and after
            and all(casts_to(node, onnx.TensorProto.FLOAT16) for node in after)
        ):
            raise RuntimeError(f"{norm.name} does not stand between casts to float and to half")


def casts_to(node: onnx.NodeProto, element_type: int) -> bool:
    return node.op_type == "Cast" and any(
        attribute.name == "to" and attribute.i == element_type for attribute in node.attribute
    )


def check_target(path: Path, overwrite: bool) -> None:
    if path.suffix != ".onnx":
        raise DeblurError(
            path,
            expected="a name that ends in .onnx, which engines go by",
            found=f"{path.suffix!r}",
            remedy="for example -o model.onnx",
        )
    if not path.parent.is_dir():
        raise DeblurError(path, expected="a folder to write in", found="no such folder",
                          remedy=f"mkdir -p {path.parent}")  # fmt: skip
    if path.is_dir() or (path.exists() and not overwrite):
        raise DeblurError(
            path,
            expected="the name of a new file",
            found="a folder" if path.is_dir() else "a file that exists",
            remedy="choose another name" if path.is_dir() else "replace it with --overwrite",
        )


def check_size(size: tuple[int, int] | None, smallest: int) -> None:
    if size is not None and min(size) < smallest:
        raise DeblurError(
            "--size",
            expected=f"at least {smallest}x{smallest}",
            found=f"{size[0]}x{size[1]}",
            remedy="leave it out for any size",
        )


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter warns of its own insides, and of torchvision, which nothing here uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
