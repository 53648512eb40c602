"""PSNR, SSIM and colour are measured as others measure them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the benchmarks want PyTorch")
pytest.importorskip("skimage", reason="the benchmarks want scikit-image")

from deblurgan.benchmarks.quality import (
    ModelQuality,
    Score,
    likeness,
    mean_score,
    measure_quality,
    picture,
)
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.train.evaluation import EvaluationPair
from deblurgan.train.metrics import cw_ssim, ssim

Picture = NDArray[np.uint8]


def psnr_by_hand(picture: Picture, reference: Picture) -> float:
    error = np.mean((picture.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return 20 * math.log10(255) - 10 * math.log10(error)


def pair(blurred: Picture, sharp: Picture, length: float | None = None) -> EvaluationPair:
    return EvaluationPair("a.png", picture(blurred), picture(sharp), length)


def measure(negative: Path, *pairs: EvaluationPair) -> ModelQuality:
    with Deblurrer(negative, backend="onnxruntime") as deblurrer:
        (measured,) = measure_quality({"negative": deblurrer}, pairs)
    return measured


def test_a_score_compares_both_pictures_with_the_sharp_one(photo: Picture, negative: Path) -> None:
    blurred = cv2.blur(photo, (5, 5))
    (got,) = measure(negative, pair(blurred, photo, 5.0)).scores
    assert (got.name, got.length) == ("a.png", 5.0)
    assert got.psnr_before == pytest.approx(psnr_by_hand(blurred, photo))
    assert got.psnr_after == pytest.approx(psnr_by_hand(255 - blurred, photo))
    assert got.ssim_before == ssim(picture(blurred), picture(photo)) > 0.5
    assert got.ssim_after == ssim(picture(255 - blurred), picture(photo)) < 0
    assert got.cw_ssim_before == cw_ssim(picture(blurred), picture(photo))
    assert got.cw_ssim_after == cw_ssim(picture(255 - blurred), picture(photo))


def test_all_models_see_the_same_pictures(photo: Picture, negative: Path) -> None:
    heard: list[tuple[str, str, bool]] = []
    pairs = [pair(cv2.blur(photo, (5, 5)), photo), pair(photo, photo)]
    with Deblurrer(negative) as one, Deblurrer(negative) as other:
        measured = measure_quality(
            {"one": one, "other": other},
            pairs,
            with_cw_ssim=False,
            watch=lambda name, pair, made, score: heard.append(
                (name, pair.name, bool((made == 255 - pair.blurred).all()))
            ),
        )
    assert heard == [(name, "a.png", True) for _ in pairs for name in ("one", "other")]
    assert [model.model for model in measured] == ["one", "other"]
    assert measured[0].scores == measured[1].scores
    assert measured[0].scores[0].cw_ssim_after is None
    assert measured[0].precision == "fp32"
    assert measured[0].engine


def test_the_colour_shift_is_that_of_the_worst_channel(negative: Path) -> None:
    flat = np.zeros((32, 32, 3), np.uint8)
    flat[...] = (120, 128, 200)  # the negative is (135, 127, 55)
    brighter = flat + np.uint8(2)
    (got,) = measure(negative, pair(brighter, flat)).scores
    assert (got.colour_shift_before, got.colour_shift) == (2, 147)
    # Half of the pixels up and half down: the mean stays where it is.
    flat[::2], flat[1::2] = 100, 155
    (got,) = measure(negative, pair(flat, flat)).scores
    assert (got.colour_shift_before, got.colour_shift) == (0, 0)


def test_equal_pictures_have_infinite_psnr_and_no_gain(photo: Picture, negative: Path) -> None:
    (got,) = measure(negative, pair(255 - photo, photo)).scores
    assert got.psnr_after == math.inf
    assert (got.ssim_after, got.colour_shift) == (pytest.approx(1), 0)
    same = likeness(picture(photo), picture(photo), with_cw_ssim=False)
    assert (same.psnr, same.cw_ssim, same.colour_shift) == (math.inf, None, 0)
    assert replace(got, psnr_before=math.inf).gain == 0


SCORES = (
    Score("a", "full", 8.0, 20.0, 25.0, 0.5, 0.75, 0.8, 0.9, 1.0, 3.0),
    Score("b", "full", 16.0, 30.0, 28.0, 0.25, 0.5, 0.6, 0.7, 4.0, 1.0),
    Score("c", "full", 8.0, 25.0, 26.0, 0.75, 1.0, 0.7, 0.8, 2.0, 2.0),
)


def test_the_mean_is_of_each_figure_and_the_largest_colour_shift() -> None:
    mean = mean_score("mean", SCORES)
    assert (mean.name, mean.length, mean.size) == ("mean", None, "full")
    assert (mean.psnr_before, mean.psnr_after) == pytest.approx((25, 79 / 3))
    assert (mean.ssim_before, mean.ssim_after) == pytest.approx((0.5, 0.75))
    assert (mean.cw_ssim_before, mean.cw_ssim_after) == pytest.approx((0.7, 0.8))
    assert (mean.colour_shift_before, mean.colour_shift) == (4, 3)


def test_each_length_has_its_mean_gain_and_how_sure_it_is() -> None:
    short, long = ModelQuality("m", "fp32", "engine", SCORES).by_length
    assert (short.length, short.pictures, long.length, long.pictures) == (8, 2, 16, 1)
    assert (short.psnr_before, short.psnr_after, short.gain) == (22.5, 25.5, 3)
    # Gains of 5 and 1: a deviation of sqrt(8), over sqrt(2) pictures.
    assert short.gain_error == pytest.approx(2)
    assert (long.gain, long.gain_error) == (-2, None)


def test_pictures_without_a_length_have_no_lengths() -> None:
    scores = [replace(score, length=length) for score, length in zip(SCORES, (None, 0.0))]  # noqa: B905
    assert ModelQuality("m", "fp32", "engine", tuple(scores)).by_length == ()
