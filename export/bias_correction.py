"""Bias correction: what int8 shifts in the mean is given back, at no cost to the engine.

After Nagel et al. 2019 (Data-Free Quantization Through Weight Equalization and Bias
Correction), measured and not derived, and of the last convolution alone. Behind a
pixel-shuffle its channels are places of a tile: shifted each by a little, they show as
a grid. Corrected one by one, the layers before it cost the picture more than they gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from deblurgan.export.calibration import Activations
from deblurgan.export.graph import Wiring
from deblurgan.export.quantisation import find_layers
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames

MOST_FRAMES = 16


@dataclass(frozen=True, eq=False)
class BiasCorrection:
    """What to add to the bias of the convolution ``layer``: float32 ``[channels]``."""

    layer: str
    values: NDArray[np.float32]

    def correct(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of an fp32 or fp16 model that is still to be quantised, with the new bias."""
        corrected = onnx.ModelProto()
        corrected.CopyFrom(model)
        bias = find_bias(corrected, self.layer)
        assert bias is not None  # it was measured of the same network
        given = numpy_helper.to_array(bias)
        values = (given.astype(np.float32) + self.values).astype(given.dtype)
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        return corrected


def measure_correction(
    model: onnx.ModelProto, quantised: onnx.ModelProto, frames: Sequence[Frames]
) -> BiasCorrection | None:
    """How far the last convolution's channels are from fp32's in the mean over ``frames``.

    None where it has no bias. Raises :class:`DeblurError` without ONNX Runtime.
    """
    layer = find_layers(model)[-1]
    if find_bias(model, layer.name) is None:
        return None
    (output,) = next(node.output for node in model.graph.node if node.name == layer.node)
    chosen = frames[:: -(-len(frames) // MOST_FRAMES)]
    expected, made = (mean_of_channels(each, output, chosen) for each in (model, quantised))
    return BiasCorrection(layer.name, (expected - made).astype(np.float32))


def mean_of_channels(
    model: onnx.ModelProto, tensor: str, frames: Sequence[Frames]
) -> NDArray[np.float64]:
    activations, means = Activations(model, [tensor]), []
    for frame in frames:
        check_interrupted()
        means.append(activations.of(frame)[tensor].mean((0, 2, 3), dtype=np.float64))
    return np.mean(means, 0)


def find_bias(model: onnx.ModelProto, layer: str) -> onnx.TensorProto | None:
    """A convolution's own constant; None where it has none."""
    (node_name,) = (found.node for found in find_layers(model) if found.name == layer)
    node = next(node for node in model.graph.node if node.name == node_name)
    wiring = Wiring(model.graph)
    if len(node.input) < 3 or len(wiring.readers[node.input[2]]) != 1:
        return None
    return wiring.constants.get(node.input[2])
