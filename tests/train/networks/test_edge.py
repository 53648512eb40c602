"""The generator for devices: it begins as the identity, and learns at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deblurgan.runtime.contract import open_model
from deblurgan.train.checkpoint import load_checkpoint, weights_sha256
from deblurgan.train.networks import EdgeGenerator, EdgeSettings, count_parameters

ROOT = Path(__file__).resolve().parents[3]
TINY_EDGE = EdgeSettings(channels=4, blocks=2, deep_blocks=1)


def noise(*shape: int, seed: int = 3) -> Tensor:
    """Random pictures in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (37, 50), (64, 48)])
def test_the_edge_generator_begins_as_the_identity_exactly(size: tuple[int, int]) -> None:
    for tiny in (TINY_EDGE, replace(TINY_EDGE, blocks=3), replace(TINY_EDGE, deep_blocks=0)):
        blurred = noise(2, 3, *size)
        assert torch.equal(EdgeGenerator(tiny)(blurred), blurred)


def test_the_edge_generator_learns_from_its_first_step() -> None:
    generator = EdgeGenerator(TINY_EDGE)
    generator(noise(1, 3, 16, 16)).abs().sum().backward()
    assert generator.tail[0].weight.grad is not None
    assert generator.tail[0].weight.grad.abs().max() > 0


def test_edge_settings_set_channels_and_blocks() -> None:
    for blocks, deep_blocks in ((0, 1), (1, 0), (4, 3)):
        generator = EdgeGenerator(EdgeSettings(6, blocks, deep_blocks))
        widths = [m.first.in_channels for m in generator.modules() if hasattr(m, "first")]
        assert sorted(widths) == [6] * blocks + [12] * deep_blocks


def test_the_shipped_checkpoint_is_still_the_generator_of_the_shipped_model() -> None:
    generator = load_checkpoint(ROOT / "train" / "checkpoints" / "edge.safetensors").generator
    assert isinstance(generator, EdgeGenerator)
    card = open_model(ROOT / "runtime" / "models" / "edge-fp32.onnx").card
    assert weights_sha256(generator) == card.weights_sha256
    assert (generator.stride, generator.minimum_size) == (card.stride, card.minimum_size)
    assert count_parameters(generator) == 2_778_096
