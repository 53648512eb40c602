"""eval-v1 is pinned: two people's figures can only be compared while it stays."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch import Tensor

from deblurgan.train import evaluation
from deblurgan.train.evaluation import EVAL_V1, EvaluationBlur, psnr, restore
from deblurgan.train.networks import EdgeGenerator


def test_eval_v1_is_what_it_always_was() -> None:
    assert (
        EvaluationBlur(
            name="eval-v1",
            lengths=(8.0, 16.0, 24.0, 32.0),
            shapes=("shake", "trajectory"),
            gamma=2.2,
            noise=1.0,
            seed=171107064,
        )
        == EVAL_V1
    )
    with pytest.raises(FrozenInstanceError):
        EVAL_V1.noise = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("index", "mean", "pixels"),
    [
        # A shake of 32 pixels, and trajectories of 8 and 32.
        (3, (125.38, 131.63, 152.56), ((32, 28, 188), (248, 31, 20), (10, 243, 252))),
        (4, (123.45, 131.00, 148.21), ((32, 26, 183), (250, 29, 20), (10, 240, 252))),
        (7, (128.38, 134.10, 162.12), ((32, 36, 139), (226, 54, 98), (38, 240, 249))),
    ],
    ids=["shake", "trajectory-8", "trajectory-32"],
)
def test_eval_v1_blurs_as_it_always_did(
    picture: Tensor,
    index: int,
    mean: tuple[float, float, float],
    pixels: tuple[tuple[int, int, int], ...],
) -> None:
    """If this fails, figures under eval-v1 cannot be compared with earlier ones."""
    blurred = EVAL_V1.blur(picture, index)
    assert blurred.float().mean((1, 2)).tolist() == pytest.approx(mean, abs=0.05)
    for (row, column), pixel in zip(((10, 20), (30, 45), (65, 110)), pixels, strict=True):
        assert blurred[:, row, column].tolist() == pytest.approx(pixel, abs=1)


def test_the_same_picture_and_index_give_the_same_bytes(picture: Tensor) -> None:
    torch.manual_seed(1)
    first = EVAL_V1.blur(picture, 5)
    torch.manual_seed(2)
    assert torch.equal(EVAL_V1.blur(picture, 5), first)
    assert (first.dtype, first.shape) == (torch.uint8, picture.shape)
    assert not torch.equal(EVAL_V1.blur(picture, 13), first)


def test_lengths_cycle_and_shapes_alternate_every_four_pictures(
    picture: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[str, float]] = []

    def shake(light: Tensor, length: float, random: torch.Generator) -> Tensor:
        used.append(("shake", length))
        return light

    def kernel(random: torch.Generator, diameter: float) -> Tensor:
        used.append(("trajectory", diameter))
        return torch.ones(1, 1)

    monkeypatch.setattr(evaluation, "shake", shake)
    monkeypatch.setattr(evaluation, "trajectory_kernel", kernel)
    for index in range(12):
        EVAL_V1.blur(picture, index)
    lengths = (8, 16, 24, 32)
    expected = [(s, n) for s in ("shake", "trajectory", "shake") for n in lengths]
    assert used == expected
    assert [EVAL_V1.length(i) for i in range(6)] == [8, 16, 24, 32, 8, 16]


@pytest.mark.parametrize("index", range(8))
def test_the_brightness_stays(index: int) -> None:
    """Light is summed, and the picture is as bright as before in linear light."""
    grey = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    blurred = EVAL_V1.blur(grey, index).float()
    assert float(blurred.mean()) == pytest.approx(90, abs=0.1)
    assert 0.5 < float(blurred.std()) < 1.5  # the noise of one level


def test_psnr_is_ten_times_the_logarithm_by_hand() -> None:
    black = torch.zeros(3, 2, 2, dtype=torch.uint8)
    other = black.clone()
    other[0, 0, 0], other[1, 1, 1] = 255, 51
    error = (255**2 + 51**2) / 12
    assert psnr(other, black) == pytest.approx(10 * math.log10(255**2 / error))
    assert psnr(black, other) == psnr(other, black)
    assert psnr(black + 255, black) == 0
    assert psnr(black + 1, black) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(other, other.clone()) == math.inf


def test_restore_scales_there_and_back(picture: Tensor) -> None:
    class Brighten(EdgeGenerator):
        """Adds a fifth of the range; too much for the bright parts."""

        def restore(self, blurred: Tensor) -> Tensor:
            assert blurred.min() >= -1
            assert blurred.max() <= 1
            return blurred + 0.4

    restored = restore(Brighten(), picture)
    assert (restored.dtype, restored.shape) == (torch.uint8, picture.shape)
    expected = np.clip(np.rint(picture.numpy().astype(np.float64) + 51), 0, 255)
    assert np.array_equal(restored.numpy(), expected)


def test_the_identity_restores_every_level_exactly(tiny_edge: EdgeGenerator) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, 16, 16)
    restored = restore(tiny_edge, levels)
    assert torch.equal(restored, levels)
    assert not restored.requires_grad
