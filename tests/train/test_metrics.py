"""The figures are those that others measure by the same names."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

pytest.importorskip("skimage", reason="the metrics want scikit-image")

from deblurgan.train import metrics
from deblurgan.train.metrics import cw_ssim, grey, psnr, ssim
from deblurgan.train.picture_files import read_picture

Plane = NDArray[np.float64]


def ricker(points: int, width: float) -> Plane:
    """The wavelet as SciPy had it."""
    offset = np.arange(points) - (points - 1.0) / 2
    scale = 2 / (np.sqrt(3 * width) * np.pi**0.25)
    return scale * (1 - offset**2 / width**2) * np.exp(-(offset**2) / (2 * width**2))


def transform(signal: Plane, widths: NDArray[np.int64]) -> Plane:
    """SciPy's ``signal.cwt``, as it was until 1.14, without its FFT."""
    rows = np.empty((len(widths), len(signal)))
    for row, width in zip(rows, widths, strict=True):
        wavelet = np.conj(ricker(min(10 * width, len(signal)), width)[::-1])
        full = np.convolve(signal, wavelet)
        row[:] = full[(len(wavelet) - 1) // 2 :][: len(signal)]
    return rows


def pyssim_value(picture: Tensor, reference: Tensor, k: float = 0.01) -> float:
    """pyssim's formula, both of its factors written out."""
    planes = [
        np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L"), dtype=np.float64)
        for p in (picture, reference)
    ]
    c1, c2 = (transform(plane.ravel(), np.arange(1, 31)) for plane in planes)
    first = (2 * np.sum(np.abs(c1) * np.abs(c2), 0) + k) / (
        np.sum(np.abs(c1) ** 2, 0) + np.sum(np.abs(c2) ** 2, 0) + k
    )
    product = c1 * np.conj(c2)
    second = (2 * np.abs(np.sum(product, 0)) + k) / (2 * np.sum(np.abs(product), 0) + k)
    return float(np.average(first * second))


def ssim_by_hand(picture: Tensor, reference: Tensor) -> float:
    """Wang et al. 2004 with OpenCV: windows of 11 pixels, only where they fit."""
    x, y = (p.permute(1, 2, 0).numpy().astype(np.float64) for p in (picture, reference))

    def mean(values: Plane) -> Plane:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean())


def smooth(picture: Tensor, side: int) -> Tensor:
    blurred = cv2.blur(picture.permute(1, 2, 0).numpy(), (side, side))
    return torch.from_numpy(blurred).permute(2, 0, 1)


def noise(height: int, width: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=random)


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


@pytest.mark.parametrize("kind", ["blurred", "noisy", "darker"])
def test_ssim_is_wangs(picture: Tensor, kind: str) -> None:
    pictures = {
        "blurred": smooth(picture, 5),
        "noisy": (picture.int() + noise(96, 160, 1) // 8).clamp(0, 255).to(torch.uint8),
        "darker": picture // 2,
    }
    expected = ssim_by_hand(pictures[kind], picture)
    assert ssim(pictures[kind], picture) == pytest.approx(expected, abs=1e-4)
    assert 0.2 < expected < 0.99


@pytest.mark.parametrize("measure", [ssim, cw_ssim])
def test_identical_pictures_score_one_and_others_less(
    picture: Tensor, measure: Callable[[Tensor, Tensor], float]
) -> None:
    assert measure(picture, picture.clone()) == pytest.approx(1)
    scores = [measure(smooth(picture, side), picture) for side in (9, 5, 3)]
    assert scores == sorted(scores)
    assert scores[-1] < 1
    assert measure(picture, smooth(picture, 5)) == pytest.approx(scores[1])


def test_ssim_takes_a_picture_of_one_window() -> None:
    side = metrics.SSIM_WINDOW
    assert ssim(noise(side, side, 1), noise(side, side, 1)) == pytest.approx(1)


@settings(max_examples=12)
@given(height=st.integers(1, 24), width=st.integers(1, 24), seed=st.integers(0, 99))
def test_cw_ssim_is_what_pyssim_computed(height: int, width: int, seed: int) -> None:
    a, b = noise(height, width, seed), noise(height, width, seed + 100)
    assert cw_ssim(a, b) == pytest.approx(pyssim_value(a, b), rel=1e-9)
    assert cw_ssim(a, a // 3) == pytest.approx(pyssim_value(a, a // 3), rel=1e-9)


@pytest.mark.parametrize("pixels_over", [-1, 0, 1])
def test_cw_ssim_has_no_seams_between_blocks(
    monkeypatch: pytest.MonkeyPatch, pixels_over: int
) -> None:
    """Blocks of 512 leave 212 pixels each; the picture is three of them, give or take one."""
    monkeypatch.setattr(metrics, "BLOCK", 512)
    width = 3 * 212 + pixels_over
    a, b = noise(1, width, 3), noise(1, width, 4)
    assert cw_ssim(a, b) == pytest.approx(pyssim_value(a, b), rel=1e-9)


def test_cw_ssim_of_flat_pictures_is_finite() -> None:
    black, white = torch.zeros(3, 20, 20, dtype=torch.uint8), torch.full((3, 20, 20), 255).byte()
    assert cw_ssim(black, black) == pytest.approx(1)
    assert cw_ssim(black, white) == pytest.approx(pyssim_value(black, white), rel=1e-9)


def test_cw_ssim_is_higher_than_ssim_of_a_blurred_picture(shared: Path) -> None:
    """Which is why the paper's 0.958 and others' 0.858 can be the same pictures."""
    blurred, sharp = (
        read_picture(shared / "data/gopro" / kind / "Flower.png")[:, 200:300, 900:1060]
        for kind in ("blur", "sharp")
    )
    # pyssim itself on SciPy 1.14, the last that had what it needs.
    assert cw_ssim(blurred, sharp) == pytest.approx(0.9600045334550277, rel=1e-9)
    assert ssim(blurred, sharp) == pytest.approx(0.694, abs=0.002)


def test_grey_is_pillows() -> None:
    picture = noise(64, 64, 9)
    expected = Image.fromarray(picture.permute(1, 2, 0).numpy()).convert("L")
    assert np.array_equal(grey(picture).numpy(), np.asarray(expected))
