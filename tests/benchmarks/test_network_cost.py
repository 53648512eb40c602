"""Multiply-adds out of a file's graph are those of the generator that it was made of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from deblurgan.benchmarks.network_cost import (
    NetworkCost,
    count_described,
    count_graph,
    count_model,
    count_node,
)
from deblurgan.runtime.contract import open_model
from deblurgan.runtime.model_store import find_model

pytest.importorskip("torch")


@pytest.mark.parametrize("size", [(64, 64), (97, 53)])
def test_graph_and_generator_agree(size: tuple[int, int]) -> None:
    pytest.importorskip("openvino")
    model = find_model("edge")
    counted = count_graph(model, *size)
    assert counted is not None
    assert counted == count_described(model.card.generator, *size) == count_model(model, *size)


class Node:
    """As OpenVINO has them: shapes of inputs and of the output."""

    def __init__(self, kind: str, given: list[int], weights: list[int], made: list[int]) -> None:
        self.kind, self.inputs, self.made = kind, (given, weights), made

    def get_type_name(self) -> str:
        return self.kind

    def input(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(get_shape=lambda: self.inputs[index])

    def output(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(get_shape=lambda: self.made)

    def get_attributes(self) -> dict[str, bool]:
        return {"transpose_a": False}


@pytest.mark.parametrize(
    ("node", "multiply_adds"),
    [
        (Node("Convolution", [1, 3, 8, 8], [5, 3, 3, 3], [1, 5, 8, 8]), 5 * 64 * 27),
        (Node("GroupConvolution", [1, 4, 8, 8], [4, 1, 1, 3, 3], [1, 4, 8, 8]), 4 * 64 * 9),
        (
            Node("ConvolutionBackpropData", [1, 6, 4, 4], [6, 2, 3, 3], [1, 2, 8, 8]),
            6 * 16 * 2 * 9,
        ),
        (Node("MatMul", [7, 5], [5, 3], [7, 3]), 7 * 5 * 3),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_kind_of_layer_is_counted(node: Node, multiply_adds: int) -> None:
    counted = count_node(node)
    assert counted is not None
    assert counted.multiply_adds == multiply_adds


def test_what_does_not_multiply_is_not_counted() -> None:
    assert count_node(Node("Add", [1], [1], [1])) is None


@pytest.mark.slow
def test_an_exported_network_costs_what_its_generator_does(tmp_path: Path) -> None:
    """An exported one of the paper's kind, small: its graph has other names for the same."""
    pytest.importorskip("openvino")
    from deblurgan.export.onnx_export import export_onnx
    from deblurgan.train.checkpoint import Checkpoint
    from deblurgan.train.networks import ResNetGenerator, ResNetSettings

    generator = ResNetGenerator(ResNetSettings(channels=4, blocks=1)).eval()
    path = export_onnx(Checkpoint(generator, {}), tmp_path / "small.onnx").path
    model = open_model(path)
    counted, described = (
        count_graph(model, 64, 48),
        count_described(model.card.generator, 64, 48),
    )
    assert counted is not None
    assert described is not None
    assert counted.multiply_adds == described.multiply_adds
    assert counted.weights == described.weights


def test_a_convolution_is_counted_by_hand() -> None:
    settings = {"channels": 1, "blocks": 0, "deep_blocks": 0}
    cost = count_described({"name": "edge", "settings": settings}, 32, 16)
    # head 48->1 and tail 1->48, 3x3, at 8x4; down 1->2 2x2 and 2->4 1x1 at 4x2.
    assert cost is not None
    assert cost.multiply_adds == 2 * 48 * 9 * 32 + 2 * 4 * 8 + 2 * 4 * 8


def test_a_network_that_nobody_knows_costs_nobody_knows_what() -> None:
    assert count_described({"name": "mine", "settings": {}}, 64, 64) is None


def test_bytes_follow_precision_and_frames() -> None:
    cost = NetworkCost(1000, weights=10, activations=100)
    assert cost.bytes_moved("fp32") == 440
    assert cost.bytes_moved("int8") == 110
    assert cost.bytes_moved("fp16", frames=3) == 620
