"""eval-v1 is pinned: two people's figures can only be compared while it stays. What
is measured with it, and of what."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deblurgan.train import evaluation
from deblurgan.train.blur import KERNEL_SIZE
from deblurgan.train.evaluation import (
    EVAL_V1,
    EvaluationBlur,
    EvaluationPair,
    Report,
    Score,
    centre,
    evaluate,
    evaluation_pairs,
    restore,
    spread,
)
from deblurgan.train.layouts import PairSource, PhotoSource, find_source
from deblurgan.train.metrics import cw_ssim, psnr, ssim
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


# Pairs


@pytest.fixture
def photo_source(photos: Path) -> PhotoSource:
    source = find_source(str(photos), "test")
    assert isinstance(source, PhotoSource)
    return source


@pytest.fixture
def pair_source(pairs: Path) -> PairSource:
    source = find_source(str(pairs), "test")
    assert isinstance(source, PairSource)
    return source


def test_photos_are_blurred_by_eval_v1_in_their_order(photo_source: PhotoSource) -> None:
    pairs = list(evaluation_pairs(photo_source))
    assert [pair.name for pair in pairs] == [f"{index:02}.png" for index in range(10)]
    assert [pair.length for pair in pairs] == [8, 16, 24, 32, 8, 16, 24, 32, 8, 16]
    for index, (pair, photo) in enumerate(zip(pairs, photo_source.photos, strict=True)):
        assert torch.equal(pair.sharp, photo.read())
        assert torch.equal(pair.blurred, EVAL_V1.blur(photo.read(), index))


def test_pairs_are_read_as_they_are(pair_source: PairSource) -> None:
    for pair, files in zip(evaluation_pairs(pair_source), pair_source.pairs, strict=True):
        blurred, sharp = files.read()
        assert (pair.name, pair.length) == (files.name, None)
        assert torch.equal(pair.blurred, blurred)
        assert torch.equal(pair.sharp, sharp)


def test_every_photo_comes_at_every_length(photo_source: PhotoSource) -> None:
    pairs = list(evaluation_pairs(photo_source, all_lengths=True, limit=2))
    assert [(pair.name, pair.length) for pair in pairs] == [
        (name, length) for name in ("00.png", "05.png") for length in EVAL_V1.lengths
    ]
    photo = photo_source.photos[5].read()
    assert torch.equal(pairs[6].blurred, EVAL_V1.blur(photo, 6))


def test_a_limit_spreads_evenly_and_keeps_the_lengths_apart(photo_source: PhotoSource) -> None:
    pairs = list(evaluation_pairs(photo_source, limit=4))
    assert [pair.name for pair in pairs] == ["00.png", "02.png", "05.png", "07.png"]
    assert [pair.length for pair in pairs] == [8, 16, 24, 32]
    assert len(list(evaluation_pairs(photo_source, limit=99))) == 10


@given(count=st.integers(1, 50), limit=st.integers(1, 60))
def test_spread_is_in_order_without_repeats(count: int, limit: int) -> None:
    taken = spread(range(count), limit)
    assert len(taken) == min(count, limit)
    assert taken == sorted(set(taken))
    gaps = np.diff([*taken, count + taken[0]])
    assert gaps.max() - gaps.min() <= 1


def test_the_centre_is_cut_after_the_blur_so_that_light_comes_in_from_outside(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(1)
    cv2.imwrite(str(tmp_path / "a.png"), random.integers(0, 256, (190, 203, 3), np.uint8))
    source = find_source(str(tmp_path), "test")
    (pair,) = evaluation_pairs(source, side=32)
    assert isinstance(source, PhotoSource)
    photo = source.photos[0].read()
    around = photo[:, 15 : 15 + 160, 21 : 21 + 160]  # 32 and a kernel on either side
    assert around.shape[-1] == 32 + 2 * KERNEL_SIZE
    assert torch.equal(pair.blurred, EVAL_V1.blur(around, 0)[:, 64:96, 64:96])
    assert torch.equal(pair.sharp, photo[:, 79:111, 85:117])


def test_half_size_is_the_mean_of_four_pixels(pair_source: PairSource) -> None:
    whole, half = (next(evaluation_pairs(pair_source, scale=scale)) for scale in (1.0, 0.5))
    for big, small in ((whole.blurred, half.blurred), (whole.sharp, half.sharp)):
        exact = big.double().reshape(3, 32, 2, 32, 2).mean((2, 4))
        assert float((small.double() - exact).abs().max()) <= 0.5
    cut = next(evaluation_pairs(pair_source, scale=0.5, side=20))
    assert torch.equal(cut.sharp, half.sharp[:, 6:26, 6:26])


def test_a_blurs_length_is_in_the_pixels_of_its_picture(picture: Tensor) -> None:
    pair = EvaluationPair("a", picture, picture, 16.0)
    assert pair.scaled(0.5).length == 8
    assert pair.scaled(1.0) is pair


@given(height=st.integers(1, 9), width=st.integers(1, 9), side=st.integers(1, 12))
def test_the_centre_is_in_the_middle(height: int, width: int, side: int) -> None:
    plane = torch.arange(height * width).reshape(1, height, width)
    cut = centre(plane, side)
    assert cut.shape == (1, min(height, side), min(width, side))
    for axis, length in ((1, height), (2, width)):
        step = 1 if axis == 2 else width
        first = int(cut[0, 0, 0]) // step % length
        after = length - first - cut.shape[axis]
        assert 0 <= after - first <= 1


# Figures


class Darken(EdgeGenerator):
    """Takes a tenth of the range away."""

    def restore(self, blurred: Tensor) -> Tensor:
        return blurred - 0.2


def test_figures_are_of_both_pictures_against_the_sharp_one(pair_source: PairSource) -> None:
    pairs = list(evaluation_pairs(pair_source, limit=2))
    heard: list[Score] = []
    report = evaluate(Darken(), pairs, progress=heard.append)
    assert heard == list(report.scores)
    assert report.worst == ()
    for score, pair in zip(report.scores, pairs, strict=True):
        made = restore(Darken(), pair.blurred)
        assert (score.name, score.size, score.length) == (pair.name, "full", None)
        for measure, before, after in (
            (psnr, score.psnr_before, score.psnr_after),
            (ssim, score.ssim_before, score.ssim_after),
            (cw_ssim, score.cw_ssim_before, score.cw_ssim_after),
        ):
            assert before == measure(pair.blurred, pair.sharp)
            assert after == measure(made, pair.sharp)
        assert score.gain == score.psnr_after - score.psnr_before < 0


def test_at_half_size_pictures_shrink_before_they_are_deblurred(pair_source: PairSource) -> None:
    seen: list[tuple[int, ...]] = []

    class Watch(Darken):
        def restore(self, blurred: Tensor) -> Tensor:
            seen.append(tuple(blurred.shape[-2:]))
            return super().restore(blurred)

    pairs = list(evaluation_pairs(pair_source, limit=2))
    report = evaluate(Watch(), pairs, sizes=("full", "half"), with_cw_ssim=False)
    assert seen == [(64, 64), (32, 32)] * 2
    assert [score.size for score in report.scores] == ["full", "half"] * 2
    assert report.sizes == ("full", "half")
    half = pairs[1].scaled(0.5)
    assert report.scores[3].psnr_before == psnr(half.blurred, half.sharp)
    assert report.scores[3].psnr_after == psnr(restore(Darken(), half.blurred), half.sharp)
    assert report.scores[3].cw_ssim_after is None
    assert report.mean("half").cw_ssim_after is None


def test_the_worst_cases_keep_their_pictures(picture: Tensor) -> None:
    """Darkening costs a little where the blurred picture was bad, most where it was good."""
    pairs = [
        EvaluationPair(str(offset), (picture // 2 + 60 + offset), picture // 2 + 60)
        for offset in (20, 1, 40, 5)
    ]
    report = evaluate(Darken(), pairs, worst=2, with_cw_ssim=False)
    assert [case.score.name for case in report.worst] == ["1", "5"]
    assert report.worst[0].score == report.scores[1]
    assert torch.equal(report.worst[0].pair.blurred, pairs[1].blurred)
    assert torch.equal(report.worst[0].restored, restore(Darken(), pairs[1].blurred))


def test_the_mean_is_of_each_figure_at_one_size() -> None:
    report = Report(
        (
            Score("a", "full", 8.0, 20.0, 25.0, 0.5, 0.75, 0.9, 0.8),
            Score("a", "half", 4.0, 10.0, 12.0, 0.1, 0.2, 0.3, 0.4),
            Score("b", "full", None, 30.0, 28.0, 0.25, 0.5, 0.7, 0.6),
        )
    )
    mean = report.mean()
    assert mean == Score(
        "mean of 2", "full", None, 25.0, 26.5, 0.375, 0.625, pytest.approx(0.8), pytest.approx(0.7)
    )
    assert mean.gain == 1.5
    assert report.mean("half").psnr_after == 12.0


@pytest.mark.parametrize(
    ("before", "after", "gain"),
    [(math.inf, math.inf, 0.0), (math.inf, 30.0, -math.inf), (30.0, math.inf, math.inf)],
)
def test_a_gain_is_never_undefined(before: float, after: float, gain: float) -> None:
    assert Score("a", "full", None, before, after, 1.0, 1.0, None, None).gain == gain
