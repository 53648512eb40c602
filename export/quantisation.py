"""Int8 in the file itself: QuantizeLinear and DequantizeLinear (Q and DQ) where
TensorRT and OpenVINO fuse them.

A pair of Q and DQ stands before each convolution's input, one for each tensor,
whoever reads it, and on what is added to a convolution's output; none between a
convolution and its ReLU or its Add, so that engines run all of that in one int8
kernel. Around the generator and in its norms all stays as it was.

ONNX Runtime's ``quantize_static`` comes near, but it either quantises each
output of Conv or, told not to, the residual of no Add; it takes reflect Pad out
of int8; and its ranges are bound to tensor names, while those measured on the
fp32 graph must serve the fp16 graph, too, whose Casts name tensors otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deblurgan.export.graph import Wiring

LEVELS = 127  # symmetric: -128 stays unused, as TensorRT has it
# Weights have seven bits. x86-64 without VNNI adds two products of eight bits in 16, where
# 2 * 255 * 127 does not fit: OpenVINO's picture was up to 97 levels off on such a processor.
WEIGHT_LEVELS = 63
# Half precision's subnormal numbers have four bits left there, and none is zero.
SMALLEST_SCALE = 2.0**-20
CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1}


@dataclass(frozen=True)
class Layer:
    """A convolution that may be int8, and the tensors that it wants quantised for it.

    ``name`` is its weights', the same in the fp32 and the fp16 graph; ``obstacle``
    says why it cannot be int8, ``residual`` what is added to its output.
    """

    name: str
    kind: str
    node: str
    input: str
    residual: str | None
    obstacle: str | None


@dataclass(frozen=True)
class LayerRange:
    """The largest absolute values that int8 is to hold."""

    input: float
    residual: float | None


Ranges = Mapping[str, LayerRange]  # by a layer's name


def find_layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """All convolutions, in the graph's order."""
    wiring = Wiring(model.graph)
    made_by_layers = find_made_by_layers(model.graph)
    layers: list[Layer] = []
    for node in model.graph.node:
        if node.op_type not in CHANNEL_AXES:
            continue
        name = node.input[1].removeprefix("generator.").removesuffix(".weight")
        uses = sum(layer.name.partition("#")[0] == name for layer in layers)
        reader, place = find_entry(wiring, node)
        add = find_add(wiring, node)
        residual = None if add is None else add.input[find_residual(node, add)]
        layers.append(
            Layer(
                name=f"{name}#{uses + 1}" if uses else name,  # weights may serve twice
                kind=node.op_type,
                node=node.name,
                input=reader.input[place],
                # The picture itself, which the global skip adds, stays float.
                residual=residual if residual in made_by_layers else None,
                obstacle=find_obstacle(wiring, node),
            )
        )
    return tuple(layers)


def assign_ranges(layers: Collection[Layer], largest: Mapping[str, float]) -> dict[str, LayerRange]:
    """Ranges by layer, out of those by tensor of the graph that the layers were found in."""
    return {
        layer.name: LayerRange(
            largest[layer.input], None if layer.residual is None else largest[layer.residual]
        )
        for layer in layers
        if layer.obstacle is None
    }


def quantise(model: onnx.ModelProto, ranges: Ranges, names: Collection[str]) -> onnx.ModelProto:
    """A copy of an fp32 or fp16 model in which the named layers are int8.

    Weights become int8 constants with a scale for each output channel; biases
    stay. Raises ``KeyError`` for a name that is no layer's or has no range.
    """
    layers = {layer.name: layer for layer in find_layers(model)}
    chosen = [(layers[name], ranges[name]) for name in layers if name in set(names)]
    if len(chosen) != len(set(names)):
        raise KeyError(", ".join(sorted(set(names) - layers.keys())))
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    insertion = Insertion(quantised.graph)
    for layer, limits in chosen:
        insertion.add_layer(layer, limits)
    insertion.finish()
    return quantised


class Insertion:
    """Puts Q and DQ into a graph, which is valid again after :meth:`finish`."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.wiring = Wiring(graph)
        self.nodes = {node.name: node for node in graph.node}
        self.first: list[onnx.NodeProto] = []
        self.behind: dict[str, list[onnx.NodeProto]] = {}  # by the tensor that they read
        self.constants: list[TensorProto] = []

    def add_layer(self, layer: Layer, limits: LayerRange) -> None:
        node = self.nodes[layer.node]
        reader, place = find_entry(self.wiring, node)
        weights = numpy_helper.to_array(self.wiring.constants[node.input[1]])
        reader.input[place] = self.add_pair(layer.input, limits.input, weights.dtype)
        if layer.residual is not None and limits.residual is not None:
            add = find_add(self.wiring, node)
            assert add is not None  # find_layers saw it
            made = self.add_pair(layer.residual, limits.residual, weights.dtype)
            add.input[find_residual(node, add)] = made
        node.input[1] = self.add_weights(node.input[1], weights, CHANNEL_AXES[layer.kind])

    def add_pair(self, tensor: str, largest: float, dtype: np.dtype[np.floating]) -> str:
        """Q and DQ behind a tensor; the name of what comes out of them."""
        made = f"{tensor}_dequantized"
        if tensor not in self.behind:
            scale = np.maximum(largest / LEVELS, SMALLEST_SCALE).astype(dtype)
            codes, *numbers = self.add_numbers(tensor, scale)
            self.behind[tensor] = [
                helper.make_node(
                    "QuantizeLinear", [tensor, *numbers], [codes], f"{tensor}_QuantizeLinear"
                ),
                helper.make_node(
                    "DequantizeLinear", [codes, *numbers], [made], f"{tensor}_DequantizeLinear"
                ),
            ]
        return made

    def add_weights(self, name: str, weights: NDArray[np.floating], axis: int) -> str:
        """Weights as int8 constants with a DQ; the name of what comes out of it."""
        made = f"{name}_dequantized"
        if not any(made in node.output for node in self.first):
            codes, scales = quantise_weights(weights, axis)
            name_of_codes, *numbers = self.add_numbers(name, scales)
            self.constants.append(numpy_helper.from_array(codes, name_of_codes))
            self.first.append(
                helper.make_node(
                    "DequantizeLinear",
                    [name_of_codes, *numbers],
                    [made],
                    f"{name}_DequantizeLinear",
                    axis=axis,
                )
            )
        return made

    def add_numbers(self, name: str, scale: NDArray[np.floating]) -> tuple[str, str, str]:
        """Scale and zero point as constants of their own: TensorRT refuses a
        quantised constant that other nodes share.
        """
        names = f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"
        zero = np.zeros(scale.shape, np.int8)
        self.constants.append(numpy_helper.from_array(np.asarray(scale), names[1]))
        self.constants.append(numpy_helper.from_array(zero, names[2]))
        return names

    def finish(self) -> None:
        """Bring nodes into an order to run in, and drop weights that nobody reads now."""
        nodes = [*self.first]
        for node in self.graph.node:
            nodes.append(node)
            for name in node.output:
                nodes += self.behind.get(name, [])
        read = {name for node in nodes for name in node.input}
        constants = [tensor for tensor in self.graph.initializer if tensor.name in read]
        ordered, kept = onnx.GraphProto(), [*constants, *self.constants]
        ordered.node.extend(nodes)
        ordered.initializer.extend(kept)
        self.graph.ClearField("node")
        self.graph.ClearField("initializer")
        self.graph.MergeFrom(ordered)


def quantise_weights(
    weights: NDArray[np.floating], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Codes of the weights' shape, and the scales of the channels along ``axis``, of their type."""
    others = tuple(index for index in range(weights.ndim) if index != axis)
    values = weights.astype(np.float32)
    largest = np.abs(values).max(others)
    scales = np.maximum(largest / WEIGHT_LEVELS, SMALLEST_SCALE).astype(weights.dtype)
    # Divided by the scale as it is stored: in half precision that is another number.
    steps = values / np.expand_dims(scales.astype(np.float32), others)
    codes = np.clip(np.rint(steps), -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8)
    return codes, scales


def find_entry(wiring: Wiring, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int]:
    """The node and the place of its input where a convolution's int8 begins.

    That is before a Pad of its own: OpenVINO pads in int8 then, and the tensor
    shares its pair with the residual Add.
    """
    pad = wiring.makers.get(node.input[0])
    if pad is not None and pad.op_type == "Pad" and len(wiring.readers[node.input[0]]) == 1:
        return pad, 0
    return node, 0


def find_add(wiring: Wiring, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Add that engines fuse with a convolution: it alone reads its output."""
    readers = wiring.readers[node.output[0]]
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    add = readers[0]
    residual = add.input[find_residual(node, add)]
    other = wiring.makers.get(residual)
    if other is None or other is node:
        return None
    # Of two convolutions that are only added up, the later one finds the other's output made.
    rival = other.op_type in CHANNEL_AXES and len(wiring.readers[residual]) == 1
    if rival and wiring.places[residual] > wiring.places[node.output[0]]:
        return None
    return add


def find_residual(node: onnx.NodeProto, add: onnx.NodeProto) -> int:
    """The place of the Add's other input."""
    return 1 if add.input[0] == node.output[0] else 0


def find_made_by_layers(graph: onnx.GraphProto) -> set[str]:
    """The tensors that depend on some convolution."""
    made: set[str] = set()
    for node in graph.node:
        if node.op_type in CHANNEL_AXES or not made.isdisjoint(node.input):
            made.update(node.output)
    return made


def find_obstacle(wiring: Wiring, node: onnx.NodeProto) -> str | None:
    weights = wiring.constants.get(node.input[1])
    if weights is None:
        return "its weights are computed"
    if weights.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return "its weights are not floating-point"
    if node.input[0] in wiring.constants:
        return "its input is a constant"
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if node.op_type == "ConvTranspose" and groups > 1:
        return "a transposed convolution in groups has no axis of output channels"
    return None
