"""A contract file into a TensorRT network, and what the parser says when it refuses one.

The parser names a node by number and an assertion in its own source; here
that becomes the node, the operator, the reason, and what helps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblurgan.runtime.contract import INPUT
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.onnx_file import read_onnx
from deblurgan.runtime.tensorrt.bindings import Bindings, plain, read_release

# The newest operator set that the parser knows, from a release on. It reads a newer file
# by the old rules and says nothing. onnx-tensorrt's docs/operators.md names 20 for 10.0
# and 10.1 and 24 for 10.15, NVIDIA's ONNX opset guide 25 for 11; what was added between
# 10.3 and 10.15 came operator by operator (its changelog), so there it stays at 20.
NEWEST_OPSET = {
    "tensorrt": (((10, 3), 20), ((10, 15), 24), ((11, 0), 25)),
    "tensorrt_rtx": (((1, 7), 25),),
}
EXPORT_AGAIN = "export it again: deblur-export onnx CHECKPOINT -o MODEL.onnx"
ANOTHER_ENGINE = "or run the ONNX file itself: deblur-video --backend onnxruntime"


@dataclass(frozen=True)
class Refusal:
    """``reason`` and ``remedy`` for what TensorRT says in words that match ``sign``."""

    sign: str
    reason: str
    remedy: str


REFUSALS = (
    Refusal(
        r"Failed to open file: (?P<file>.+)|convertOnnxWeights|Failed to import initializer",
        "weights in another file{file}, which is not there or cut short",
        f"put that file beside it again, or {EXPORT_AGAIN} (which keeps the weights inside)",
    ),
    Refusal(
        r"ParseFromCodedStream|Failed to parse the ONNX|MODEL_DESERIALIZE_FAILED",
        "something else than ONNX, or a part of a file",
        EXPORT_AGAIN,
    ),
    # Before the unknown operators: it calls some of these an unsupported node as well.
    Refusal(
        r"UInt8|kUINT8|with type UINT8|UINT8 types",
        "it works on uint8, which TensorRT takes only in a Cast at the input or the output",
        f"Cast to float before it and to uint8 after all else, {ANOTHER_ENGINE}",
    ),
    Refusal(
        r"Plugin not found|checkFallbackPluginImporter|No importer registered|UNSUPPORTED_NODE\b",
        "an operator that it does not know, and no plugin of that name",
        "build it of operators in the list of onnx-tensorrt (docs/operators.md), "
        f"load its plugin, {ANOTHER_ENGINE}",
    ),
    Refusal(
        r"must have (?:the )?same (?:input )?type|type mismatch|have different types",
        "its inputs differ in type ({detail})",
        "networks are strongly typed: Cast one of them to the type of the other",
    ),
    Refusal(
        r"Shape Error|broadcast dimensions|dimensions must be",
        "its inputs do not fit in shape ({detail})",
        f"mend the graph, {ANOTHER_ENGINE}",
    ),
    Refusal(
        r"Node input was not registered|toposort",
        "a broken graph: a node reads what none before it makes",
        "run onnx.checker.check_model over it, and mend the exporter that wrote it",
    ),
)


@dataclass(frozen=True)
class Parsed:
    """A network, and the parser that owns its weights: keep both until the build ends."""

    network: Any
    parser: Any


def parse_onnx(bindings: Bindings, builder: Any, path: Path) -> Parsed:
    """A strongly typed network of a contract file.

    Raises :class:`DeblurError` for a file that this TensorRT does not take.
    """
    check_opset(bindings, path)
    trt, log = bindings.trt, bindings.log
    log.clear()
    # Absent once all networks are strongly typed.
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, log.logger)
    # As a plugin instance norm is refused in version-compatible and Ampere-plus plans.
    if hasattr(trt.OnnxParserFlag, "NATIVE_INSTANCENORM"):
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if not parser.parse_from_file(str(path)):
        raise explain(bindings, path, parser.get_error(0) if parser.num_errors else None)
    # It takes an empty file, and one of which it understands no field.
    inputs = [network.get_input(index).name for index in range(network.num_inputs)]
    if inputs != [INPUT] or network.num_outputs != 1:
        raise DeblurError(
            path,
            expected=f"a model with one input, {INPUT}, and one output",
            found=f"{', '.join(inputs) or 'no input'}, and {network.num_outputs} outputs",
            remedy=EXPORT_AGAIN,
        )
    return Parsed(network, parser)


def check_opset(bindings: Bindings, path: Path) -> None:
    newest = find_newest_opset(bindings)
    opset = read_onnx(path).opset
    if opset > newest:
        raise DeblurError(
            path,
            expected=f"ONNX opset {newest} or older, which is what {bindings.title} knows",
            found=f"opset {opset}",
            remedy=f"install a newer TensorRT, or {EXPORT_AGAIN}",
        )


def find_newest_opset(bindings: Bindings) -> int:
    release = read_release(bindings.version)
    return max(opset for first, opset in NEWEST_OPSET[bindings.name] if first <= release)


def explain(bindings: Bindings, path: Path, error: Any) -> DeblurError:
    """The first of the parser's errors, put in words; the others follow from it."""
    said = bindings.log.errors()
    reason, node, signs = (said or ["no reason given"])[-1], "", said
    if error is not None:
        reason = plain(error.desc()).removeprefix(f"Invalid Node - {error.node_name()} ")
        signs = [*said, reason, error.func(), error.code().name]
        if error.node_operator():
            name = error.node_name() or f"number {error.node()}"
            node = f"node {name} ({error.node_operator()}): "
    remedy = f"mend the graph, {ANOTHER_ENGINE}"
    for refusal in REFUSALS:
        match = re.search(refusal.sign, "\n".join(signs))
        if match:
            file = match.groupdict().get("file")
            reason = refusal.reason.format(detail=reason, file=f" ({file})" if file else "")
            remedy = refusal.remedy
            break
    return DeblurError(
        path, expected=f"a graph that {bindings.title} takes", found=node + reason, remedy=remedy
    )
