"""The generators: the paper's size, what each setting does, and any height and width."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deblurgan.train.networks import (
    GENERATORS,
    MINIMUM_SIZE,
    EdgeGenerator,
    EdgeSettings,
    Generator,
    ResNetBlock,
    ResNetGenerator,
    ResNetSettings,
    build_generator,
    count_parameters,
    describe_generator,
)

TINY = ResNetSettings(channels=4, blocks=2)
TINY_EDGE = EdgeSettings(channels=4, blocks=2, deep_blocks=1)


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


def busy_edge() -> EdgeGenerator:
    """One that is no longer the identity."""
    torch.manual_seed(1)
    generator = EdgeGenerator(TINY_EDGE).eval()
    nn.init.normal_(generator.tail[0].weight, 0, 0.05)
    return generator


TINY_GENERATORS: dict[str, Generator] = {"resnet": resnet(), "edge": busy_edge()}


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


@pytest.mark.parametrize("name", TINY_GENERATORS)
@settings(max_examples=15, deadline=None)
@given(height=st.integers(16, 70), width=st.integers(16, 70), count=st.integers(1, 3))
@torch.no_grad()
def test_any_height_and_width_come_back(name: str, height: int, width: int, count: int) -> None:
    assert MINIMUM_SIZE == 16
    blurred = noise(count, 3, height, width)
    restored = TINY_GENERATORS[name](blurred)
    assert restored.shape == blurred.shape
    assert torch.isfinite(restored).all()


@torch.no_grad()
@pytest.mark.parametrize("name", TINY_GENERATORS)
def test_a_batch_is_its_pictures_one_by_one(name: str) -> None:
    generator, blurred = TINY_GENERATORS[name], noise(3, 3, 24, 40)
    alone = torch.cat([generator(picture[None]) for picture in blurred])
    assert torch.allclose(generator(blurred), alone, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", TINY_GENERATORS)
def test_multiples_of_the_stride_are_not_padded_and_others_reflected_right_and_below(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = TINY_GENERATORS[name]
    seen: list[tuple[int, ...]] = []
    inner = generator.restore

    def restore(blurred: Tensor) -> Tensor:
        seen.append(tuple(blurred.shape[-2:]))
        return inner(blurred)

    monkeypatch.setattr(generator, "restore", restore)
    even = noise(1, 3, 32, 48)
    assert torch.equal(generator(even), inner(even))
    for height in range(17, 26):
        blurred = noise(1, 3, height, 58 - height)
        below, right = (-n % generator.stride for n in blurred.shape[-2:])
        padded = np.pad(blurred.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
        expected = inner(torch.from_numpy(padded))[..., :height, : 58 - height]
        assert torch.allclose(generator(blurred), expected, atol=1e-6)
    assert len(seen) == 10
    assert all(n % generator.stride == 0 for size in seen for n in size)


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


@pytest.mark.parametrize(
    "generator",
    [
        ResNetGenerator(TINY),
        ResNetGenerator(replace(TINY, norm="batch", skip="average", padding="zeros", dropout=0)),
        ResNetGenerator(replace(TINY, convolutions=1, affine=True, tracked=True, bias=False)),
        EdgeGenerator(TINY_EDGE),
    ],
    ids=["paper", "batch", "head", "edge"],
)
def test_a_description_builds_the_same_generator_again(generator: Generator) -> None:
    description = describe_generator(generator)
    assert description["name"] in GENERATORS
    twin = build_generator(**description)
    assert type(twin) is type(generator)
    assert twin.settings == generator.settings
    shapes = {key: w.shape for key, w in generator.state_dict().items()}
    assert {key: w.shape for key, w in twin.state_dict().items()} == shapes
    twin.load_state_dict(generator.state_dict())
    blurred = noise(1, 3, 20, 24)
    with torch.no_grad():
        assert torch.equal(twin.eval()(blurred), generator.eval()(blurred))


def test_an_unknown_name_or_setting_is_an_error() -> None:
    with pytest.raises(KeyError, match="unet"):
        build_generator("unet", {})
    with pytest.raises(TypeError, match="depth"):
        build_generator("edge", {"depth": 3})


def test_a_generator_without_restore_says_so() -> None:
    class Empty(Generator):
        stride = 4

    with pytest.raises(TypeError, match="Empty does not define restore"):
        Empty()(noise(1, 3, 16, 16))
