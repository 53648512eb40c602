"""The paper's generator: its size, its first weights, and what each setting does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deblurgan.train.networks import (
    ResNetBlock,
    ResNetGenerator,
    ResNetSettings,
    count_parameters,
)
from deblurgan.train.networks.resnet import doubling, halving

TINY = ResNetSettings(channels=4, blocks=2)


def noise(*shape: int, seed: int = 3) -> Tensor:
    """Random pictures in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def resnet(**changes: Any) -> ResNetGenerator:
    torch.manual_seed(1)
    return ResNetGenerator(replace(TINY, **changes)).eval()


def loud(generator: ResNetGenerator) -> ResNetGenerator:
    """The last convolution a thousand times as strong: the tanh saturates."""
    with torch.no_grad():
        generator.model[-2].weight.mul_(1000)
    return generator


@pytest.mark.parametrize(("convolutions", "parameters"), [(2, 11_378_179), (1, 6_067_459)])
def test_the_paper_generator_has_exactly_the_known_number_of_parameters(
    convolutions: Any, parameters: int
) -> None:
    with torch.device("meta"):  # counts without memory
        generator = ResNetGenerator(ResNetSettings(convolutions=convolutions))
    assert count_parameters(generator) == parameters
    assert (generator.settings.channels, generator.settings.blocks) == (64, 9)
    assert generator.settings.norm == "instance"


def test_a_generator_starts_with_the_paper_weights() -> None:
    torch.manual_seed(1)
    generator = ResNetGenerator(ResNetSettings(channels=16, blocks=1, affine=True))
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not module.bias.any()
        if isinstance(module, nn.InstanceNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.03)


@torch.no_grad()
def test_the_clamping_skip_adds_and_keeps_within_the_range() -> None:
    generator, blurred = loud(resnet(skip="clamp")), noise(2, 3, 32, 32)
    added = blurred + generator.model(blurred)
    assert added.abs().max() > 1
    assert torch.equal(generator(blurred), added.clamp(-1, 1))


@torch.no_grad()
def test_the_averaging_skip_is_the_mean_of_picture_and_tanh() -> None:
    generator, blurred = loud(resnet(skip="average")), noise(2, 3, 32, 32)
    before_tanh = generator.model[:-1](blurred)
    restored = generator(blurred)
    assert torch.allclose(restored, (blurred + torch.tanh(before_tanh)) / 2, atol=1e-6)
    assert restored.abs().max() <= 1
    assert not torch.allclose(restored, blurred, atol=0.1)


@torch.no_grad()
def test_without_a_skip_the_tanh_is_the_picture() -> None:
    generator, blurred = loud(resnet(skip="none")), noise(2, 3, 32, 32)
    restored = generator(blurred)
    assert torch.equal(restored, generator.model(blurred))
    assert restored.abs().max() <= 1


@torch.no_grad()
@pytest.mark.parametrize(("padding", "stays"), [("reflect", True), ("zeros", False)])
def test_a_constant_shows_the_border_only_under_zero_padding(padding: Any, stays: bool) -> None:
    torch.manual_seed(1)
    settings = replace(TINY, padding=padding, norm="batch", dropout=0.0)
    block = ResNetBlock(settings, 4).eval()
    out = block(torch.full((1, 4, 8, 8), 0.7))
    assert torch.allclose(out, out[..., 4:5, 4:5], atol=1e-6) == stays


def test_padding_changes_neither_parameters_nor_their_shapes() -> None:
    shapes = [
        [tuple(p.shape) for p in resnet(padding=p).parameters()] for p in ("reflect", "zeros")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("changes", "kind", "weights", "statistics"),
    [
        ({}, nn.InstanceNorm2d, False, False),
        ({"affine": True}, nn.InstanceNorm2d, True, False),
        ({"tracked": True}, nn.InstanceNorm2d, False, True),
        ({"norm": "batch"}, nn.BatchNorm2d, True, True),
    ],
    ids=["instance", "affine", "tracked", "batch"],
)
def test_the_norm_has_weights_and_statistics_as_set(
    changes: dict[str, Any], kind: type[nn.Module], weights: bool, statistics: bool
) -> None:
    norms = [
        m for m in resnet(**changes).modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)
    ]
    assert len(norms) == 1 + 2 + 2 * TINY.blocks + 2
    for norm in norms:
        assert isinstance(norm, kind)
        assert (norm.weight is not None) == weights
        assert (norm.running_mean is not None) == statistics


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"norm": "batch"}, False),
        ({"bias": False}, False),
        ({"norm": "batch", "bias": True}, True),
    ],
    ids=["instance", "batch", "off", "on"],
)
def test_convolutions_before_a_norm_have_a_bias_unless_it_is_batch_norm(
    changes: dict[str, Any], expected: bool
) -> None:
    convolutions = [
        m for m in resnet(**changes).modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    *inner, last = convolutions
    assert {c.bias is not None for c in inner} == {expected}
    assert last.bias is not None


@pytest.mark.parametrize(
    ("convolutions", "dropout", "layers"),
    [
        (2, 0.5, "ReflectionPad2d Conv2d InstanceNorm2d ReLU Dropout "
                 "ReflectionPad2d Conv2d InstanceNorm2d"),
        (2, 0.0, "ReflectionPad2d Conv2d InstanceNorm2d ReLU ReflectionPad2d Conv2d "
                 "InstanceNorm2d"),
        (1, 0.5, "ReflectionPad2d Conv2d InstanceNorm2d ReLU Dropout"),
        (1, 0.0, "ReflectionPad2d Conv2d InstanceNorm2d"),
    ],
)  # fmt: skip
def test_a_block_is_laid_out_as_in_the_release(
    convolutions: Any, dropout: float, layers: str
) -> None:
    block = ResNetBlock(replace(TINY, convolutions=convolutions, dropout=dropout), 4)
    assert [type(m).__name__ for m in block.conv_block] == layers.split()


@torch.no_grad()
def test_dropout_works_in_training_and_rests_in_evaluation() -> None:
    generator, blurred = resnet(dropout=0.5), noise(1, 3, 32, 32)
    assert torch.equal(generator(blurred), generator(blurred))
    generator.train()
    assert not torch.equal(generator(blurred), generator(blurred))
    without = resnet(dropout=0.0).train()
    assert torch.equal(without(blurred), without(blurred))


@torch.no_grad()
def test_nearest_upsampling_convolves_each_pixel_twice_over() -> None:
    generator = resnet(upsampling="nearest", dropout=0.0)
    kinds = [type(module).__name__ for module in generator.model]
    assert "ConvTranspose2d" not in kinds
    end = kinds.index("NearestUpsampling")
    assert (
        kinds[end : end + 8]
        == [
            "NearestUpsampling",
            "Conv2d",
            "InstanceNorm2d",
            "ReLU",
        ]
        * 2
    )
    deep = noise(1, 16, 5, 6)
    repeated = deep.repeat_interleave(2, -1).repeat_interleave(2, -2)
    convolution = generator.model[end + 1]
    expected = torch.conv2d(repeated, convolution.weight, convolution.bias, padding=1)
    assert torch.equal(generator.model[end : end + 2](deep), expected)
    assert expected.shape == (1, 8, 10, 12)


@pytest.mark.parametrize(("alignment", "before"), [("centre", 1), ("tensorflow", 0)])
@settings(max_examples=10)
@given(height=st.integers(1, 4), width=st.integers(1, 4))
@torch.no_grad()
def test_strided_convolutions_begin_where_they_are_aligned(
    alignment: Any, before: int, height: int, width: int
) -> None:
    """Value by value: where the kernel's first row and column come to lie."""
    wide, deep = noise(1, 1, 2 * height, 2 * width).double(), noise(1, 1, height, width).double()
    down = nn.Sequential(*halving(alignment, 1, 1, bias=True)).double()
    up = nn.Sequential(*doubling(replace(TINY, alignment=alignment), 1, 1, bias=True)).double()
    halved, doubled = torch.zeros_like(deep), torch.zeros_like(wide)
    halved += down[-1].bias
    doubled += up[-1].bias
    for row, column, y, x in itertools.product(range(3), range(3), range(height), range(width)):
        tall, across = 2 * y + row - before, 2 * x + column - before
        if 0 <= tall < 2 * height and 0 <= across < 2 * width:
            halved[0, 0, y, x] += down[-1].weight[0, 0, row, column] * wide[0, 0, tall, across]
            doubled[0, 0, tall, across] += up[-1].weight[0, 0, row, column] * deep[0, 0, y, x]
    assert torch.allclose(down(wide), halved)
    assert torch.allclose(up(deep), doubled)


@pytest.mark.parametrize("upsampling", ["transpose", "nearest"])
def test_alignment_changes_neither_parameters_nor_their_shapes(upsampling: Any) -> None:
    generators = [resnet(upsampling=upsampling, alignment=a) for a in ("centre", "tensorflow")]
    shapes = [[tuple(p.shape) for p in generator.parameters()] for generator in generators]
    assert shapes[0] == shapes[1]
    blurred = noise(1, 3, 24, 32)
    assert not torch.allclose(generators[0](blurred), generators[1](blurred), atol=1e-3)


def test_the_keras_articles_generator_has_as_many_parameters_as_its_layers_add_up_to() -> None:
    def convolution(kernel: int, inputs: int, outputs: int) -> int:
        return kernel * kernel * inputs * outputs + outputs

    norms = 2 * (64 + 128 + 256 + 18 * 256 + 128 + 64)
    down = convolution(7, 3, 64) + convolution(3, 64, 128) + convolution(3, 128, 256)
    up = convolution(3, 256, 128) + convolution(3, 128, 64) + convolution(7, 64, 3)
    with torch.device("meta"):
        generator = ResNetGenerator(
            ResNetSettings(norm="batch", bias=True, skip="average", upsampling="nearest")
        )
    assert count_parameters(generator) == down + 18 * convolution(3, 256, 256) + up + norms
