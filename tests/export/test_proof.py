from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from deblurgan.export import graph, proof
from deblurgan.export.frames import reference_module
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime import DeblurError
from deblurgan.runtime.console import Interrupted
from deblurgan.runtime.difference import Difference
from deblurgan.train.checkpoint import Checkpoint
from deblurgan.train.networks import EdgeGenerator, ResNetGenerator

Exported = tuple[Checkpoint, ExportReport]


def test_the_pictures_are_small_and_one_is_odd() -> None:
    sizes = [picture.shape for picture in proof.load_pictures()]
    assert (240, 360, 3) in sizes
    assert (187, 251, 3) in sizes
    assert all(path.stat().st_size < 150_000 for path in proof.PICTURES.iterdir())
    assert [picture.shape for picture in proof.load_pictures((45, 38))] == [(38, 45, 3)] * 2


def test_the_pictures_are_in_colour_the_right_way_round() -> None:
    """The cat is ginger: more red than blue."""
    cat = next(proof.load_pictures())
    assert cat[..., 0].mean() > cat[..., 2].mean() + 20


@pytest.mark.parametrize("engine", proof.ENGINES)
def test_every_engine_proves_the_file(
    engine: str, edge_fp32: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(engine)
    monkeypatch.setattr(proof, "ENGINES", (engine,))
    checkpoint, report = edge_fp32
    difference = proof.prove(report.path, reference_module(checkpoint.generator))
    assert difference.largest <= 1
    assert difference.differing < 0.01


def test_another_generators_file_is_refused(edge_fp32: Exported) -> None:
    with pytest.raises(DeblurError, match="PyTorch's picture in fp32"):
        proof.prove(edge_fp32[1].path, reference_module(EdgeGenerator()))


def test_without_an_engine_it_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DeblurError, match=r"\[cpu\].*\[gpu\]"):
        proof.find_engine()


def test_activations_beyond_half_precision_are_refused(
    make_resnet: Callable[..., ResNetGenerator],
) -> None:
    generator = make_resnet()
    assert proof.check_range(reference_module(generator), (48, 32)) < 1000
    with torch.no_grad():
        next(generator.parameters()).mul_(1e6)
    # The norm after it hides this from the picture, but not from a GPU.
    with pytest.raises(DeblurError, match="--precision fp32"):
        proof.check_range(reference_module(generator), (48, 32))
    with torch.no_grad():
        next(generator.parameters()).fill_(math.nan)
    with pytest.raises(DeblurError, match="found nan"):
        proof.check_range(reference_module(generator), (48, 32))


def test_an_interruption_that_was_swallowed_is_no_fault_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> None:
        raise Interrupted

    for module in (proof, graph):
        monkeypatch.setattr(module, "check_interrupted", interrupted)
    with pytest.raises(Interrupted), graph.failures_told(torch.float32):
        raise torch.onnx.errors.OnnxExporterError("module 'torch._dynamo' has no attribute 'exc'")
    with pytest.raises(Interrupted), proof.engine_failures_told("onnxruntime", 64, 48):
        raise ImportError("of what was half imported")


def test_too_little_memory_for_pytorch_is_told() -> None:
    class Large(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return torch.empty(1 << 60)

    with pytest.raises(DeblurError, match="memory to run the file on a frame of 48x32"):
        proof.run_module(Large(), np.zeros((1, 32, 48, 3), np.uint8))


def test_broken_int8_pictures_are_refused_and_dim_ones_are_not() -> None:
    random = np.random.default_rng(2)
    expected = random.integers(30, 220, (1, 40, 50, 3), np.uint8)
    near = (expected + random.integers(0, 12, expected.shape)).astype(np.uint8)
    proof.check_whole([(near, expected)])
    for value, where in ((0, "black or white"), (255, "black or white")):
        broken = near.copy()
        broken[:, :2] = value
        with pytest.raises(DeblurError, match=f"5.0% of the picture.*{where}.*--pairs"):
            proof.check_whole([(near, expected), (broken, expected)])
    with pytest.raises(DeblurError, match=r"shape.*one frame size"):
        proof.check_shapes([(near, expected), (near[:, :39], expected)])


def test_black_and_white_that_fp32_has_too_are_no_saturation() -> None:
    expected = np.full((1, 40, 40, 3), 240, np.uint8)
    expected[:, :20] = 15
    made = np.where(expected > 100, 255, 0).astype(np.uint8)
    proof.check_whole([(made, expected)])


@pytest.mark.parametrize(
    ("half", "in_float", "refused"),
    [(38.0, 40.0, True), (39.5, 40.0, False), (44.5, 60.0, False), (43.0, 60.0, True)],
)
def test_half_may_not_be_worse_than_int8_amid_fp32(
    half: float, in_float: float, refused: bool
) -> None:
    made, wanted = Difference(9, 1.0, 0.5, half), Difference(9, 1.0, 0.5, in_float)
    if refused:
        with pytest.raises(DeblurError, match="--precision int8"):
            proof.check_half(made, wanted)
    else:
        proof.check_half(made, wanted)
