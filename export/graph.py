"""The contract's ONNX graph: export a module, clean it, write it, look around in it."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import onnx
import torch

from deblurgan.export.frames import FramesModule
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import INPUT, OUTPUT
from deblurgan.runtime.errors import DeblurError

# The newest that TensorRT 10.3 reads; half-typed Q/DQ scales need 19.
OPSET = 20
DIMENSIONS = ("batch", "height", "width")
OTHER_FOLDER = "free some space or choose another folder"
# What PyTorch says of a float tensor among half-typed ones, in its many operators.
MIXED_TYPES = re.compile(r"dtype|\bhalf\b|float16|scalar type|Input type", re.IGNORECASE)


def build_model(frames: FramesModule, size: tuple[int, int] | None) -> onnx.ModelProto:
    """The contract's graph, with nothing in it of the machine that made it."""
    # Any will do that is not too small and, with most strides, wants padding.
    smallest = frames.generator.minimum_size
    width, height = size or (smallest + 75, smallest + 50)
    # Neither 0 nor 1 frames: the exporter takes those for constants.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    free = 1 if size else 3
    with quiet_exporter(), failures_told(frames.inside):
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


def write_model(model: onnx.ModelProto, path: Path, remedy: str = OTHER_FOLDER) -> None:
    """Raises :class:`DeblurError` where there is no room or no permission."""
    try:
        onnx.save_model(model, path)
    except OSError as error:
        raise DeblurError(
            path.parent,
            expected=f"room and permission to write {model.ByteSize():,} bytes",
            found=error.strerror or str(error),
            remedy=remedy,
        ) from error


class Wiring:
    """Who makes each tensor of a graph, where in its order, and who reads it; and its constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.places = {name: at for at, node in enumerate(graph.node) for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)


def check_norms_in_float(model: onnx.ModelProto) -> None:
    """Every InstanceNormalization works on floats, half-typed as the rest may be.

    TensorRT would take the statistics in half precision otherwise, and a CPU
    engine, which computes in fp32 anyway, would never show it. Raises
    :class:`DeblurError` for a network that calls its norms as functions.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    for norm in model.graph.node:
        if norm.op_type == "InstanceNormalization":
            found = types.get(norm.input[0])
            if found != onnx.TensorProto.FLOAT:
                raise DeblurError(
                    "--precision",
                    expected="instance norms whose statistics are taken in float",
                    found=f"{norm.name}, which takes them in half",
                    remedy="make it a module (nn.InstanceNorm2d), or export with --precision fp32",
                )


@contextmanager
def failures_told(inside: torch.dtype) -> Iterator[None]:
    """What the exporter cannot write is a network from elsewhere, and its owner's to mend."""
    try:
        yield
    except torch.onnx.errors.OnnxExporterError as error:
        check_interrupted()
        cause = error.__cause__ or error
        found = f"{type(cause).__name__}: {next(iter(str(cause).strip().splitlines()), '')}"
        if inside is torch.float16 and MIXED_TYPES.search(found):
            raise DeblurError(
                "--precision",
                expected="a network that computes in half precision throughout",
                found=found,
                remedy="make its own tensors with dtype=x.dtype, or export with --precision fp32",
            ) from error
        raise DeblurError(
            "export",
            expected="a network whose way does not depend on what is in the picture",
            found=found,
            remedy="torch.export.export() of it shows the line; torch.where() serves for an if",
        ) from error


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter warns of its own insides, and of torchvision, which nothing here uses;
    a network that it cannot write it prints by the page.
    """
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
