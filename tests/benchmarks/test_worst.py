"""Worst crops are where deblurring did harm, and show the same place three times."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("skimage", reason="the benchmarks want scikit-image")

from deblurgan.benchmarks.worst import SHOWN, SIDE, WorstCrops, box_means, find_worst
from deblurgan.train.contact_sheet import GAP, STRIP
from deblurgan.train.evaluation import EvaluationPair


def noise(height: int, width: int, seed: int = 1) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(60, 200, (3, height, width), generator=random, dtype=torch.uint8)


def pair(blurred: torch.Tensor, sharp: torch.Tensor, length: float | None = None) -> EvaluationPair:
    return EvaluationPair("a.png", blurred, sharp, length)


def test_the_worst_crop_is_where_the_error_grew_most_not_where_it_is_largest() -> None:
    sharp = noise(300, 500)
    blurred, deblurred = sharp.clone(), sharp.clone()
    # On the left a large error that deblurring leaves, on the right a small one that it makes.
    blurred[:, 10:138, 10:138] += 50
    deblurred[:, 10:138, 10:138] += 50
    deblurred[:, 100:228, 300:428] += 5
    first, second = find_worst("m", pair(blurred, sharp, 8.0), deblurred)
    assert (first.top, first.left, first.length) == (100, 300, 8.0)
    assert (first.harm, first.error) == pytest.approx((25, 25))
    assert torch.equal(first.deblurred, sharp[:, 100:228, 300:428] + 5)
    assert torch.equal(first.blurred, sharp[:, 100:228, 300:428])
    assert torch.equal(first.sharp, first.blurred)
    # Nothing else got worse: the rest is by the error that is left.
    assert (second.top, second.left) == (10, 10)
    assert (second.harm, second.error) == pytest.approx((0, 2500), abs=1e-6)


@settings(max_examples=25)
@given(st.integers(8, 300), st.integers(8, 300), st.integers(0, 99))
def test_crops_lie_inside_and_do_not_overlap(height: int, width: int, seed: int) -> None:
    sharp, blurred, made = (noise(height, width, seed + n) for n in range(3))
    crops = find_worst("m", pair(blurred, sharp), made)
    assert crops
    covered = np.zeros((height, width), int)
    for crop in crops:
        size = (min(SIDE, height), min(SIDE, width))
        assert crop.sharp.shape == crop.blurred.shape == crop.deblurred.shape == (3, *size)
        covered[crop.top : crop.top + size[0], crop.left : crop.left + size[1]] += 1
    assert covered.sum() == len(crops) * size[0] * size[1]
    assert covered.max() == 1
    assert [crop.badness for crop in crops] == sorted((c.badness for c in crops), reverse=True)


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.integers(0, 6))
def test_box_means_are_those_of_the_boxes(height: int, width: int, down: int, across: int) -> None:
    values = np.random.default_rng(height * width).random((height + down, width + across))
    means = box_means(values, height, width)
    assert means.shape == (down + 1, across + 1)
    assert means[down, across] == pytest.approx(values[down:, across:].mean())
    assert means[0, 0] == pytest.approx(values[:height, :width].mean())


def test_the_worst_of_all_pictures_are_kept_for_each_model() -> None:
    sharp = noise(SIDE, SIDE)
    worst = WorstCrops(2)
    for level in (3, 9, 6):
        worst.watch("one", pair(sharp, sharp), sharp + level)
        worst.watch("other", pair(sharp, sharp), sharp)
    assert [crop.error for crop in worst.crops["one"]] == pytest.approx([81, 36])
    assert len(worst.crops["other"]) == 2
    sheet = worst.draw()
    assert sheet.shape == (4 * (SHOWN + STRIP + GAP) + GAP, 3 * (SHOWN + GAP) + GAP, 3)


def test_the_sheet_shows_pixels_as_they_are_in_their_order() -> None:
    sharp = noise(SIDE, SIDE)
    blurred, deblurred = noise(SIDE, SIDE, 2), noise(SIDE, SIDE, 3)
    worst = WorstCrops(1)
    worst.watch("m", pair(blurred, sharp), deblurred)
    sheet, times = worst.draw(), SHOWN // SIDE
    for column, made in enumerate((blurred, deblurred, sharp)):
        left = GAP + column * (SHOWN + GAP)
        cell = sheet[GAP + STRIP : GAP + STRIP + SHOWN, left : left + SHOWN]
        assert np.array_equal(cell[::times, ::times], made.permute(1, 2, 0).numpy())
