"""What every generator does: takes any height and width, and is built again by its description."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deblurgan.train.networks import (
    GENERATORS,
    EdgeGenerator,
    EdgeSettings,
    Generator,
    ResNetGenerator,
    ResNetSettings,
    UNetGenerator,
    UNetSettings,
    build_generator,
    describe_generator,
)

TINY = ResNetSettings(channels=4, blocks=2)
TINY_EDGE = EdgeSettings(channels=4, blocks=2, deep_blocks=1)
TINY_UNET = UNetSettings(channels=4, downs=4)


def noise(*shape: int, seed: int = 3) -> Tensor:
    """Random pictures in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def busy_edge() -> EdgeGenerator:
    """One that is no longer the identity."""
    torch.manual_seed(1)
    generator = EdgeGenerator(TINY_EDGE).eval()
    nn.init.normal_(generator.tail[0].weight, 0, 0.05)
    return generator


def seeded(build: type[Generator], settings: object) -> Generator:
    torch.manual_seed(1)
    return build(settings).eval()


TINY_GENERATORS: dict[str, Generator] = {
    "resnet": seeded(ResNetGenerator, TINY),
    "unet": seeded(UNetGenerator, TINY_UNET),
    "edge": busy_edge(),
}


def test_there_is_a_tiny_one_of_each() -> None:
    assert set(TINY_GENERATORS) == set(GENERATORS)
    for name, (generator, settings_type) in GENERATORS.items():
        assert generator.name == name
        assert isinstance(TINY_GENERATORS[name].settings, settings_type)


@pytest.mark.parametrize("name", TINY_GENERATORS)
@settings(max_examples=15)
@given(height=st.integers(16, 70), width=st.integers(16, 70), count=st.integers(1, 3))
@torch.no_grad()
def test_any_height_and_width_come_back(name: str, height: int, width: int, count: int) -> None:
    assert TINY_GENERATORS[name].minimum_size == 16
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


@pytest.mark.parametrize(
    "generator",
    [
        ResNetGenerator(TINY),
        ResNetGenerator(replace(TINY, norm="batch", skip="average", padding="zeros", dropout=0)),
        ResNetGenerator(replace(TINY, convolutions=1, affine=True, tracked=True, bias=False)),
        ResNetGenerator(replace(TINY, upsampling="nearest")),
        ResNetGenerator(replace(TINY, alignment="tensorflow")),
        UNetGenerator(TINY_UNET),
        UNetGenerator(replace(TINY_UNET, downs=2, norm="batch", dropout=0.0, skip="none")),
        EdgeGenerator(TINY_EDGE),
    ],
    ids=["paper", "batch", "head", "nearest", "tensorflow", "unet", "shallow", "edge"],
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
    with pytest.raises(KeyError, match="transformer"):
        build_generator("transformer", {})
    with pytest.raises(TypeError, match="depth"):
        build_generator("edge", {"depth": 3})


@torch.no_grad()
@pytest.mark.parametrize("name", TINY_GENERATORS)
def test_in_evaluation_the_same_picture_comes_out_the_same(name: str) -> None:
    generator, blurred = TINY_GENERATORS[name], noise(1, 3, 33, 47)
    assert torch.equal(generator(blurred), generator(blurred))
    assert not torch.allclose(generator(blurred), blurred, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", TINY_GENERATORS)
def test_the_gradient_is_the_same_in_either_order_of_memory(name: str, count: int) -> None:
    """PyTorch's own instance norm gets it wrong for one picture, channels last."""
    gradients = []
    for order in (torch.contiguous_format, torch.channels_last):
        generator = copy.deepcopy(TINY_GENERATORS[name]).double().to(memory_format=order)
        blurred = noise(count, 3, 32, 48).double().contiguous(memory_format=order)
        generator(blurred).pow(3).sum().backward()
        gradients.append({key: w.grad for key, w in generator.named_parameters()})
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0].values())
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][key], gradient, rtol=1e-6, atol=1e-9), key


def test_a_generator_without_restore_says_so() -> None:
    class Empty(Generator):
        stride = 4

    with pytest.raises(TypeError, match="Empty does not define restore"):
        Empty()(noise(1, 3, 16, 16))
