"""Whether a model looks at the whole picture at once, read off its ONNX file.

A norm over the picture, a global mean or attention gives each tile other numbers than the
picture as a whole, and seams show. What such operators do to sizes and shapes does not count:
exported graphs compute how much to pad.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deblurgan.runtime.protobuf import as_bytes, fields, text

STATISTICS = {
    "DFT",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
}
# With two computed inputs these compare places of the picture: attention.
PRODUCTS = {"Attention", "Einsum", "Gemm", "MatMul"}


@dataclass
class Node:
    """A ``NodeProto``, as far as it matters here."""

    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    graphs: list[memoryview] = field(default_factory=list)


def find_whole_picture_operators(path: Path) -> list[str]:
    """The operators of a model that look at the whole picture, sorted; none in one that can
    be tiled.

    ``path`` is a file that :func:`~deblurgan.runtime.onnx_file.read_onnx` reads.
    """
    with path.open("rb") as file:
        message = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    found: set[str] = set()
    for number, value in fields(message):
        if number == 7:
            found |= search(as_bytes(value), set(), nodes=1)
        elif number == 25:  # a function: its inputs may be pictures
            found |= search(as_bytes(value), set(), nodes=7)
    return sorted(found)


def search(graph: memoryview, known: set[str], nodes: int) -> set[str]:
    """Search a graph or, with another field number of its nodes, a function.

    ``known`` are names of tensors that no pixel goes into: weights, sizes and what is
    computed from them.
    """
    found: set[str] = set()
    # Field 5 of a function names its outputs.
    known = known | set(weights(graph) if nodes == 1 else ())
    for number, value in fields(graph):
        if number != nodes:
            continue
        node = parse_node(as_bytes(value))
        for inner in node.graphs:
            found |= search(inner, known, nodes=1)
        pixels = [name for name in node.inputs if name and name not in known]
        if node.operator in ("Shape", "Size") or (not pixels and not node.graphs):
            known.update(node.outputs)
        elif node.operator in STATISTICS or (node.operator in PRODUCTS and len(pixels) > 1):
            found.add(node.operator)
    return found


def weights(graph: memoryview) -> Iterator[str]:
    """The names of a graph's initializers."""
    for number, value in fields(graph):
        if number == 5 and not isinstance(value, int):
            yield from (text(name) for part, name in fields(value) if part == 8)


def parse_node(message: memoryview) -> Node:
    node = Node()
    for number, value in fields(message):
        if number == 1:
            node.inputs.append(text(value))
        elif number == 2:
            node.outputs.append(text(value))
        elif number == 4:
            node.operator = text(value)
        elif number == 5:
            for part, content in fields(as_bytes(value)):
                if part in (6, 11):  # the bodies of If, Loop and Scan
                    node.graphs.append(as_bytes(content))
    return node
