from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deblurgan.export import search
from deblurgan.export.bias_correction import (
    BiasCorrection,
    find_bias,
    mean_of_channels,
    measure_correction,
)
from deblurgan.export.frames import export_module
from deblurgan.export.graph import build_model
from deblurgan.export.onnx_export import ExportReport
from deblurgan.export.quantisation import LayerRange, find_layers, quantise
from deblurgan.export.trial import Quality, Trial
from deblurgan.runtime.contract import Frames
from deblurgan.train.checkpoint import Checkpoint

Exported = tuple[Checkpoint, ExportReport]


def coarse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantised with ranges that cut much off, so that means are far."""
    layers = find_layers(model)
    ranges = {layer.name: LayerRange(0.2, 0.2) for layer in layers}
    return quantise(model, ranges, list(ranges))


def test_the_last_layers_means_are_those_of_fp32(
    edge_fp32: Exported, make_frames: Callable[..., Frames]
) -> None:
    model = onnx.load(edge_fp32[1].path)
    frames = [make_frames(48 + 8 * i, 64)[0] for i in range(3)]
    found = measure_correction(model, coarse(model), frames)
    assert found is not None
    assert found.layer == "tail.0"
    before = onnx.ModelProto()
    before.CopyFrom(model)
    corrected = found.correct(model)
    assert model == before
    layer = find_layers(model)[-1]
    (output,) = next(node.output for node in model.graph.node if node.name == layer.node)
    wanted, plain, mended = (
        mean_of_channels(each, output, frames) for each in (model, coarse(model), coarse(corrected))
    )
    assert np.abs(plain - wanted).max() > 1e-3
    assert np.abs(mended - wanted).max() < 1e-5


def test_half_precision_keeps_its_type(edge: Checkpoint) -> None:
    model = build_model(export_module(edge.generator, "fp16"), None)
    layer = find_layers(model)[-1].name
    before = find_bias(model, layer)
    assert before is not None
    given = numpy_helper.to_array(before)
    after = find_bias(BiasCorrection(layer, np.full(given.shape, 0.25, "f4")).correct(model), layer)
    assert after is not None
    assert after.data_type == onnx.TensorProto.FLOAT16
    assert np.allclose(numpy_helper.to_array(after), given.astype("f4") + 0.25, atol=1e-3)


def test_without_a_bias_nothing_is_corrected(edge_fp32: Exported) -> None:
    model = onnx.load(edge_fp32[1].path)
    layer = find_layers(model)[-1]
    node = next(node for node in model.graph.node if node.name == layer.node)
    del node.input[2]
    assert measure_correction(model, model, []) is None


@pytest.mark.parametrize("allowed", [True, False])
def test_a_correction_that_breaks_the_limits_is_left_out(
    allowed: bool, edge_int8: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = edge_int8[1].choice
    assert choice is not None
    assert choice.correction is not None
    uncorrected = replace(choice, correction=None)
    model = onnx.load(edge_int8[1].path)

    trial = Mock(spec=Trial)
    trial.measure.return_value = Quality(30.0, 0.9)
    monkeypatch.setattr(search, "measure_correction", lambda *_: choice.correction)
    monkeypatch.setattr(search.Choice, "quantise", lambda *_: model)
    chosen = search.with_correction(uncorrected, model, [], trial, lambda _: allowed)
    assert (chosen.correction is None) != allowed
    assert (chosen.drop == Quality(0, 0)) == allowed
