"""The sheet shows the pictures as they are, and kernels that are the true ones."""

from __future__ import annotations

import functools
import os

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train import contact_sheet as module
from deblurgan.train.blur import convolve, trajectory_kernel
from deblurgan.train.contact_sheet import contact_sheet, estimate_kernel, shorten, text_width
from deblurgan.train.evaluation import EvaluationPair

Plane = NDArray[np.float64]


@functools.cache
def scene(height: int, width: int, seed: int = 1) -> Tensor:
    """Overlapping boxes of all sizes: edges everywhere, as in photographs."""
    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(height * width // 60):
        size = np.minimum(2 + random.pareto(1.2, 2) * 3, 60).astype(int)
        top, left = random.integers(0, height), random.integers(0, width)
        picture[top : top + size[0], left : left + size[1]] = random.integers(0, 256, 3)
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def blur_by_hand(sharp: Tensor, kernel: Plane) -> Tensor:
    """A true convolution: what is right of the kernel's middle comes out on the right."""
    flipped = kernel[::-1, ::-1]
    planes = [cv2.filter2D(p, -1, flipped) for p in sharp.numpy().astype(np.float64)]
    return torch.from_numpy(np.clip(np.rint(planes), 0, 255).astype(np.uint8))


def correlation(a: Plane, b: Plane) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def hook() -> Plane:
    """Neither symmetric nor centred."""
    kernel = np.zeros((21, 21))
    kernel[4:15, 5] = 1
    kernel[14, 5:18] = 0.5
    return kernel / kernel.sum()


def test_the_kernel_is_the_one_that_blurred() -> None:
    sharp, kernel = scene(200, 240), hook()
    found = estimate_kernel(blur_by_hand(sharp, kernel), sharp, 21).double().numpy()
    assert found.shape == (21, 21)
    assert correlation(found, kernel) > 0.9
    assert correlation(found[::-1, ::-1], kernel) < 0.5
    assert found.sum() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_trajectory_in_noise_is_found_too(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    sharp, kernel = scene(256, 256, seed), trajectory_kernel(random, diameter=24)
    blurred = convolve(sharp[None].float(), kernel)[0] + torch.randn(3, 256, 256, generator=random)
    found = estimate_kernel(blurred.round().clamp(0, 255).byte(), sharp, 63)
    # convolve() correlates, so the true kernel is the mirrored one, its middle at 32.
    true = kernel.flip(0, 1)[1:, 1:]
    assert correlation(found.double().numpy(), true.double().numpy()) > 0.8


def test_the_same_picture_has_a_dot_and_a_shifted_one_a_dot_beside() -> None:
    sharp = scene(96, 120)
    dot = estimate_kernel(sharp, sharp)
    assert dot.shape == (65, 65)
    assert float(dot[32, 32]) == pytest.approx(float(dot.max()))
    assert float(dot[32, 32]) > 5 * float(dot.flatten().sort().values[-10])
    moved = estimate_kernel(sharp.roll((3, -5), (1, 2)), sharp)
    assert divmod(int(moved.argmax()), 65) == (35, 27)


@settings(max_examples=20)
@given(height=st.integers(2, 80), width=st.integers(2, 80))
def test_kernels_of_small_pictures_are_finite_and_centred(height: int, width: int) -> None:
    sharp = scene(height, width)
    kernel = estimate_kernel(sharp, sharp, 33)
    assert kernel.shape == (33, 33)
    assert bool(kernel.isfinite().all())
    if float(kernel.max()) > 1e-3:  # else the picture is flat
        assert int(kernel.argmax()) == 16 * 33 + 16


def test_flat_pictures_have_no_kernel() -> None:
    grey = torch.full((3, 40, 40), 90, dtype=torch.uint8)
    assert float(estimate_kernel(grey, grey).abs().max()) < 1e-6


# The sheet


def cell(sheet: Tensor, row: int, column: int, height: int, width: int) -> Tensor:
    top = row * (height + module.GAP + module.STRIP) + module.GAP + module.STRIP
    left = column * (width + module.GAP) + module.GAP
    return sheet[:, top : top + height, left : left + width]


def test_columns_are_blurred_deblurred_and_sharp() -> None:
    pairs = [EvaluationPair(str(i), scene(240, 260, i), scene(240, 260, i + 5)) for i in range(3)]
    restored = [scene(240, 260, i + 9) for i in range(3)]
    sheet = contact_sheet(pairs, restored)
    assert sheet.dtype == torch.uint8
    for index, (pair, made) in enumerate(zip(pairs, restored, strict=True)):
        assert torch.equal(cell(sheet, index, 0, 240, 260), pair.blurred)
        assert torch.equal(cell(sheet, index, 1, 240, 260), made)
        assert torch.equal(cell(sheet, index, 2, 240, 260), pair.sharp)


def test_of_a_large_picture_the_most_blurred_part_is_shown_in_all_columns() -> None:
    y, x = torch.meshgrid(torch.arange(500), torch.arange(900), indexing="ij")
    sharp = torch.stack([x % 256, y % 256, 16 * (x // 256) + y // 256]).byte()
    blurred, made = sharp.clone(), sharp // 2
    blurred[:, 150:400, 430:700] = 0
    sheet = contact_sheet([EvaluationPair("a", blurred, sharp)], [made])
    height, width = module.DETAIL_HEIGHT, module.DETAIL_WIDTH
    first = cell(sheet, 0, 2, height, width)[:, 0, 0].tolist()
    left, top = first[0] + 256 * (first[2] // 16), first[1] + 256 * (first[2] % 16)
    assert top <= 150 < 400 <= top + height
    assert left <= 430 < 700 <= left + width
    for column, picture in enumerate((blurred, made, sharp)):
        expected = picture[:, top : top + height, left : left + width]
        assert torch.equal(cell(sheet, 0, column, height, width), expected)


def test_small_pictures_are_enlarged_pixel_by_pixel() -> None:
    side = module.SMALLEST_CELL
    pair = EvaluationPair("a", scene(64, 64), scene(64, 64, 2), 8.0)
    sheet = contact_sheet([pair], [pair.sharp])
    times = side // 64
    margin = (side - 64 * times) // 2
    shown = cell(sheet, 0, 0, side, side)[:, margin : margin + 64 * times, margin:][
        ..., : 64 * times
    ]
    expected = pair.blurred.repeat_interleave(times, 1).repeat_interleave(times, 2)
    assert torch.equal(shown, expected)


def test_pictures_of_different_sizes_share_a_sheet() -> None:
    shapes = [(40, 300), (330, 60), (16, 16)]
    pairs = [EvaluationPair("x", scene(h, w), scene(h, w, 2)) for h, w in shapes]
    sheet = contact_sheet(pairs, [pair.sharp for pair in pairs])
    rows = 3 * (module.DETAIL_HEIGHT + module.STRIP + module.GAP) + module.GAP
    assert sheet.shape[1] == rows


def test_kernels_show_what_was_there_and_what_is_left() -> None:
    """After perfect deblurring the second is a dot: most of it is dark."""
    sharp = scene(300, 300)
    pair = EvaluationPair("a", blur_by_hand(sharp, hook()), sharp)
    sheet = contact_sheet([pair], [sharp])
    side = (300 - module.GAP) // 2
    kernels = cell(sheet, 0, 3, 300, 300)[0, :, :side]
    first, second = kernels[20:side], kernels[-side + 20 :]  # below their names
    assert (second > 60).sum() < (first > 60).sum() / 3
    centre = second[side // 2 - 20, side // 2]
    assert int(centre) > 200


def test_where_nothing_can_be_estimated_the_kernels_stay_dark() -> None:
    """Blue sky is noise on a gradient, and a picture of noise would be read as a blur."""
    random = torch.Generator().manual_seed(1)
    sky = torch.linspace(120, 180, 240)[:, None] + 2 * torch.randn(2, 3, 240, 240, generator=random)
    blurred, sharp = sky.byte()
    sheet = contact_sheet([EvaluationPair("sky", blurred, sharp)], [blurred])
    side = (240 - module.GAP) // 2
    for top in (20, side + module.GAP + 20):
        kernel = cell(sheet, 0, 3, 240, 240)[0, top : top + side - 20, :side]
        assert float((kernel > 40).float().mean()) < 0.02


@given(name=st.text(max_size=60), width=st.integers(60, 400))
def test_names_are_shortened_in_the_middle(name: str, width: int) -> None:
    shown = shorten(name, width)
    assert text_width(shown) <= width
    if text_width(name) <= width:
        assert shown == name
    else:
        start, _, end = shown.partition("...")
        assert name.startswith(start)
        assert name.endswith(end)
        assert text_width(shown) > width - 40  # a letter more would not fit


def test_a_long_name_does_not_make_the_sheet_wider() -> None:
    picture, name = scene(64, 64), "GOPR0384_11_00_000123.png" * 4
    sheets = [
        contact_sheet([EvaluationPair(text, picture, picture)], [picture]) for text in ("", name)
    ]
    assert sheets[0].shape == sheets[1].shape
    assert not torch.equal(*sheets)


def test_a_file_name_that_is_no_unicode_is_drawn_somehow() -> None:
    picture, name = scene(64, 64), os.fsdecode(b"Stra\xdfe.png")
    contact_sheet([EvaluationPair(name, picture, picture)], [picture])
