"""The U-Net against pix2pix's, written down here once more as one flat function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.train.networks import UNetGenerator, UNetSettings, count_parameters

TINY = UNetSettings(channels=4, downs=3)


def noise(*shape: int, seed: int = 3) -> Tensor:
    """Random pictures in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def unet(**changes: Any) -> UNetGenerator:
    """With weights large enough that every level counts."""
    torch.manual_seed(1)
    generator = UNetGenerator(replace(TINY, **changes)).eval()
    for weight in generator.parameters():
        nn.init.normal_(weight, 0, 0.2)
    return generator


def as_in_pix2pix(weights: dict[str, Tensor], x: Tensor, downs: int) -> Tensor:
    """The U-Net with instance norms from the innermost level out, without dropout."""

    def place(level: int) -> str:
        return "model.model." + "1.model." * (level > 0) + "3.model." * (level - 1)

    def parameters(level: int, index: int) -> tuple[Tensor, Tensor]:
        name = f"{place(level)}{index}"
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    on_the_way_down = [F.conv2d(x, *parameters(0, 0), stride=2, padding=1)]
    for level in range(1, downs):
        x = F.leaky_relu(on_the_way_down[-1], 0.2)
        x = F.conv2d(x, *parameters(level, 1), stride=2, padding=1)
        on_the_way_down.append(F.instance_norm(x) if level < downs - 1 else x)
    x = on_the_way_down.pop()
    for level in range(downs - 1, 0, -1):
        index = 3 if level == downs - 1 else 5
        x = F.conv_transpose2d(F.relu(x), *parameters(level, index), stride=2, padding=1)
        x = torch.cat([F.instance_norm(x), on_the_way_down.pop()], 1)
    x = F.conv_transpose2d(F.relu(x), *parameters(0, 3), stride=2, padding=1)
    return torch.tanh(x)


@torch.no_grad()
@pytest.mark.parametrize("downs", [2, 3, 6])
@pytest.mark.parametrize("skip", ["clamp", "average", "none"])
def test_the_picture_is_pix2pixs_with_the_papers_skip(downs: int, skip: str) -> None:
    generator, blurred = unet(downs=downs, skip=skip), noise(2, 3, 64, 128)
    made = as_in_pix2pix(generator.state_dict(), blurred, downs)
    expected = {
        "clamp": torch.clamp(blurred + made, -1, 1),
        "average": (blurred + made) / 2,
        "none": made,
    }[skip]
    assert torch.allclose(generator(blurred), expected, atol=1e-5)
    assert made.std() > 0.1


@pytest.mark.parametrize(("norm", "parameters"), [("batch", 54_413_955), ("instance", 54_409_603)])
def test_the_u_net_256_has_exactly_the_known_number_of_parameters(
    norm: Any, parameters: int
) -> None:
    with torch.device("meta"):
        generator = UNetGenerator(UNetSettings(norm=norm))
    assert count_parameters(generator) == parameters
    assert (generator.stride, generator.minimum_size) == (256, 129)


def test_the_keys_are_those_of_pix2pix() -> None:
    assert {key: tuple(w.shape) for key, w in unet(norm="batch").state_dict().items()} == {
        "model.model.0.weight": (4, 3, 4, 4),
        "model.model.1.model.1.weight": (8, 4, 4, 4),
        **norm_shapes("model.model.1.model.2", 8),
        "model.model.1.model.3.model.1.weight": (16, 8, 4, 4),
        "model.model.1.model.3.model.3.weight": (16, 8, 4, 4),
        **norm_shapes("model.model.1.model.3.model.4", 8),
        "model.model.1.model.5.weight": (16, 4, 4, 4),
        **norm_shapes("model.model.1.model.6", 4),
        "model.model.3.weight": (8, 3, 4, 4),
        "model.model.3.bias": (3,),
    }


def norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    weights = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in weights} | {f"{name}.num_batches_tracked": ()}


@pytest.mark.parametrize(
    ("downs", "dropout", "count"), [(8, 0.5, 3), (8, 0.0, 0), (7, 0.3, 2), (5, 0.5, 0), (2, 0.5, 0)]
)
def test_dropout_is_in_the_inner_levels_but_the_innermost(
    downs: int, dropout: float, count: int
) -> None:
    generator = UNetGenerator(UNetSettings(channels=1, downs=downs, dropout=dropout))
    found = {name: m for name, m in generator.named_modules() if isinstance(m, nn.Dropout)}
    assert len(found) == count
    assert {m.p for m in found.values()} <= {dropout}
    # The fifth level is the first one; each closes its sequence.
    assert all(name.count("3.model") >= 3 and name.endswith(".7") for name in found)


@torch.no_grad()
def test_dropout_works_in_training_and_rests_in_evaluation() -> None:
    generator, blurred = unet(channels=1, downs=6), noise(1, 3, 64, 64)
    assert torch.equal(generator(blurred), generator(blurred))
    generator.train()
    assert not torch.equal(generator(blurred), generator(blurred))


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("downs", "smallest"), [(2, 16), (4, 16), (5, 17), (6, 33), (8, 129)])
def test_the_smallest_picture_is_the_one_that_reflection_can_fill_up(
    downs: int, smallest: int, norm: Any
) -> None:
    """In training too, where a norm refuses a map of one pixel."""
    generator = unet(channels=1, downs=downs, norm=norm).train()
    assert generator.stride == 2**downs
    assert generator.minimum_size == smallest
    assert generator(noise(1, 3, smallest, smallest)).shape[-2:] == (smallest, smallest)
    if smallest > 16:
        with pytest.raises(RuntimeError, match=r"[Pp]adding size"):
            generator(noise(1, 3, smallest - 1, smallest))


@settings(max_examples=25)
@given(downs=st.integers(2, 6), further=st.tuples(st.integers(0, 80), st.integers(0, 80)))
@torch.no_grad()
def test_any_size_from_the_smallest_comes_back(downs: int, further: tuple[int, int]) -> None:
    generator = unet(channels=1, downs=downs)
    height, width = (generator.minimum_size + more for more in further)
    restored = generator(noise(2, 3, height, width))
    assert restored.shape == (2, 3, height, width)
    assert torch.isfinite(restored).all()


def test_every_weight_learns() -> None:
    generator = unet(norm="batch").train()
    generator(noise(2, 3, 32, 32)).square().sum().backward()
    for name, weight in generator.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
