"""The discriminators: the release's and the article's sizes, layers and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.train.networks import (
    DISCRIMINATORS,
    DenseDiscriminator,
    DenseSettings,
    PatchDiscriminator,
    PatchSettings,
    build_discriminator,
    count_parameters,
)
from deblurgan.train.networks.discriminators import SameConv2d


def noise(*shape: int, seed: int = 3) -> Tensor:
    """Random pictures in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("norm", "parameters"), [("instance", 2_764_737), ("batch", 2_765_633), ("none", 2_764_737)]
)
def test_the_patch_discriminator_is_as_large_as_the_releases(norm: Any, parameters: int) -> None:
    with torch.device("meta"):
        discriminator = PatchDiscriminator(PatchSettings(norm=norm))
    assert count_parameters(discriminator) == parameters


def test_the_patch_discriminators_keys_are_those_of_the_release() -> None:
    weights = PatchDiscriminator(PatchSettings(channels=2)).state_dict()
    assert {key: tuple(w.shape) for key, w in weights.items()} == {
        "model.0.weight": (2, 3, 4, 4), "model.0.bias": (2,),
        "model.2.weight": (4, 2, 4, 4), "model.2.bias": (4,),
        "model.5.weight": (8, 4, 4, 4), "model.5.bias": (8,),
        "model.8.weight": (16, 8, 4, 4), "model.8.bias": (16,),
        "model.11.weight": (1, 16, 4, 4), "model.11.bias": (1,),
    }  # fmt: skip
    with_batch_norm = PatchDiscriminator(PatchSettings(channels=2, norm="batch")).state_dict()
    assert "model.2.bias" not in with_batch_norm
    assert "model.3.running_mean" in with_batch_norm


@torch.no_grad()
@pytest.mark.parametrize(("layers", "seen"), [(1, 16), (2, 34), (3, 70)])
def test_a_score_sees_a_patch_and_no_more(layers: int, seen: int) -> None:
    """Which pixels change the score in the middle of a large picture."""
    torch.manual_seed(1)
    discriminator = PatchDiscriminator(PatchSettings(2, layers, "none")).double().eval()
    pictures = noise(1, 3, 1, 160).double().expand(-1, -1, 160, -1)
    before = discriminator(pictures)
    row = column = before.shape[-1] // 2
    changing = []
    for x in range(160):
        moved = pictures.clone()
        moved[..., x] += 1
        if discriminator(moved)[0, 0, row, column] != before[0, 0, row, column]:
            changing.append(x)
    assert len(changing) == changing[-1] - changing[0] + 1 == seen


@torch.no_grad()
def test_patch_scores_of_the_papers_crop_are_a_map_of_logits() -> None:
    torch.manual_seed(1)
    discriminator = PatchDiscriminator(PatchSettings(channels=2))
    for weight in discriminator.parameters():
        nn.init.normal_(weight, 0, 0.5)
    scores = discriminator(noise(2, 3, 256, 256))
    assert scores.shape == (2, 1, 35, 35)
    assert scores.min() < -1
    assert scores.max() > 1


@settings(max_examples=15)
@given(height=st.integers(16, 50), width=st.integers(16, 50))
@torch.no_grad()
def test_patch_scores_come_of_any_size(height: int, width: int) -> None:
    scores = PatchDiscriminator(PatchSettings(channels=1))(noise(1, 3, height, width))
    assert torch.isfinite(scores).all()


def test_the_first_weights_are_the_papers_and_the_articles() -> None:
    torch.manual_seed(1)
    patch, dense = PatchDiscriminator(), DenseDiscriminator(crop=32)
    for module in (*patch.modules(), *dense.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert not module.bias.any()
    third = patch.model[5].weight
    assert third.std().item() == pytest.approx(0.02, rel=0.02)
    assert third.abs().max() > 0.06  # of a normal distribution
    convolution = dense.model[5].weight  # 64 to 128 channels
    bound = (6 / (16 * 64 + 16 * 128)) ** 0.5
    assert convolution.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert convolution.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_the_dense_discriminator_is_as_large_as_the_articles() -> None:
    with torch.device("meta"):
        discriminator = DenseDiscriminator()
    convolutions = [(3, 64), (64, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    added_up = sum(16 * inputs * outputs + outputs for inputs, outputs in convolutions)
    added_up += 2 * (64 + 128 + 256 + 512)
    added_up += (16 * 16 + 1) * 1024 + 1025
    assert count_parameters(discriminator) == added_up == 3_096_450


@torch.no_grad()
@pytest.mark.parametrize("crop", [16, 32, 50, 97])
def test_dense_scores_are_one_a_picture_between_0_and_1(crop: int) -> None:
    torch.manual_seed(1)
    discriminator = DenseDiscriminator(DenseSettings(channels=2, hidden=8), crop)
    pictures = noise(3, 3, crop, crop)
    scores = discriminator(pictures)
    assert scores.shape == (3, 1)
    assert scores.min() > 0
    assert scores.max() < 1
    discriminator.eval()
    logits = DenseDiscriminator(DenseSettings(channels=2, hidden=8, sigmoid=False), crop).eval()
    logits.load_state_dict(discriminator.state_dict())
    assert torch.allclose(torch.sigmoid(logits(pictures)), discriminator(pictures))


def as_in_keras(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The article's discriminator while it trains, for sides that are multiples of 16."""

    def convolution(index: int, x: Tensor, stride: int) -> Tensor:
        zeros = (1, 1, 1, 1) if stride == 2 else (1, 2, 1, 2)
        name = f"model.{index}"
        return F.conv2d(F.pad(x, zeros), weights[f"{name}.weight"], weights[f"{name}.bias"], stride)

    def norm(index: int, x: Tensor) -> Tensor:
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), False, keepdim=True)
        gain, shift = (weights[f"model.{index}.{part}"] for part in ("weight", "bias"))
        x = (x - mean) / torch.sqrt(variance + 1e-3)
        return x * gain[:, None, None] + shift[:, None, None]

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    x = leaky(convolution(0, x, 2))
    for index, stride in ((2, 2), (5, 2), (8, 2), (11, 1)):
        x = leaky(norm(index + 1, convolution(index, x, stride)))
    x = convolution(14, x, 1).reshape(len(x), -1)
    x = torch.tanh(x @ weights["model.16.weight"].T + weights["model.16.bias"])
    return torch.sigmoid(x @ weights["model.18.weight"].T + weights["model.18.bias"])


@torch.no_grad()
def test_dense_scores_are_the_articles() -> None:
    discriminator = DenseDiscriminator(DenseSettings(channels=2, hidden=8), crop=48).double()
    torch.manual_seed(1)
    for weight in discriminator.parameters():
        nn.init.normal_(weight, 0, 0.3)
    pictures = noise(3, 3, 48, 48).double()
    expected = as_in_keras(discriminator.state_dict(), pictures)
    assert torch.allclose(discriminator(pictures), expected, rtol=1e-9)
    assert expected.std() > 0.01


def as_in_the_release(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The release's PatchGAN with instance norm and three layers."""
    for index, stride in ((0, 2), (2, 2), (5, 2), (8, 1)):
        name = f"model.{index}"
        x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding=2)
        if index:
            mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), False, keepdim=True)
            x = (x - mean) / torch.sqrt(variance + 1e-5)
        x = torch.where(x > 0, x, 0.2 * x)
    return F.conv2d(x, weights["model.11.weight"], weights["model.11.bias"], padding=2)


@torch.no_grad()
def test_patch_scores_are_the_releases() -> None:
    discriminator = PatchDiscriminator(PatchSettings(channels=2)).double()
    torch.manual_seed(1)
    for weight in discriminator.parameters():
        nn.init.normal_(weight, 0, 0.3)
    pictures = noise(2, 3, 37, 50).double()
    expected = as_in_the_release(discriminator.state_dict(), pictures)
    assert torch.allclose(discriminator(pictures), expected, rtol=1e-9)


def same_convolution(picture: NDArray[Any], kernel: NDArray[Any], stride: int) -> NDArray[Any]:
    """TensorFlow's "same" convolution of ``[H, W]``, pixel by pixel: where the
    zeros are odd in number, one more is at the bottom and the right.
    """
    size = len(kernel)
    outputs = [-(-length // stride) for length in picture.shape]
    zeros = [
        max((out - 1) * stride + size - length, 0)
        for out, length in zip(outputs, picture.shape, strict=True)
    ]
    padded = np.pad(picture, [(zero // 2, zero - zero // 2) for zero in zeros])
    return np.array(
        [
            [
                np.sum(padded[y * stride :, x * stride :][:size, :size] * kernel)
                for x in range(outputs[1])
            ]
            for y in range(outputs[0])
        ]
    )


@settings(max_examples=30)
@given(height=st.integers(1, 13), width=st.integers(1, 13), stride=st.sampled_from([1, 2]))
@torch.no_grad()
def test_same_padding_is_tensorflows(height: int, width: int, stride: int) -> None:
    convolution = SameConv2d(1, 1, 4, stride=stride, bias=False).double()
    picture = noise(1, 1, height, width).double()
    kernel = convolution.weight[0, 0].numpy()
    expected = same_convolution(picture[0, 0].numpy(), kernel, stride)
    assert np.allclose(convolution(picture)[0, 0].numpy(), expected, atol=1e-12)


@torch.no_grad()
def test_zeros_are_one_more_below_and_to_the_right_where_they_are_odd() -> None:
    """A kernel of ones counts the pixels under it."""
    convolution = SameConv2d(1, 1, 4, bias=False)
    nn.init.ones_(convolution.weight)
    counted = convolution(torch.ones(1, 1, 4, 4))[0, 0]
    assert counted[:, 1].tolist() == [12, 16, 12, 8]


def test_discriminators_are_built_by_name() -> None:
    patch = build_discriminator("patch", {"channels": 2, "norm": "none"}, crop=64)
    dense = build_discriminator("dense", {"channels": 2, "hidden": 8}, crop=64)
    for name, discriminator in (("patch", patch), ("dense", dense)):
        kind, settings_type = DISCRIMINATORS[name]
        assert type(discriminator) is kind
        assert isinstance(discriminator.settings, settings_type)
        assert discriminator(noise(2, 3, 64, 64)).shape[:2] == (2, 1)
    assert patch.settings == PatchSettings(2, norm="none")
    with pytest.raises(KeyError, match="pixel"):
        build_discriminator("pixel", {}, crop=64)
    with pytest.raises(TypeError, match="depth"):
        build_discriminator("dense", {"depth": 3}, crop=64)
