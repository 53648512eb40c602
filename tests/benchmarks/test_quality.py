"""PSNR, SSIM and colour are measured as others measure them."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("skimage", reason="the benchmarks want scikit-image")

from deblurgan.benchmarks.quality import (
    Score,
    blur_photos,
    frame,
    leave_sharp,
    mean_score,
    picture,
    read_pairs,
    score,
)
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.evaluation import EVAL_V1, EvaluationPair
from deblurgan.train.metrics import ssim
from deblurgan.train.picture_files import read_picture

Picture = NDArray[np.uint8]


def write(path: Path, picture: Picture) -> None:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), picture[:, :, ::-1])


def psnr_by_hand(picture: Picture, reference: Picture) -> float:
    error = np.mean((picture.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return 20 * math.log10(255) - 10 * math.log10(error)


def pair(blurred: Picture, sharp: Picture, length: float | None = None) -> EvaluationPair:
    return EvaluationPair("a.png", picture(blurred), picture(sharp), length)


def test_pairs_are_matched_by_name(tmp_path: Path, photo: Picture) -> None:
    for level, name in enumerate(("b.png", "a.png")):
        write(tmp_path / "sharp" / name, photo + level)
        write(tmp_path / "blur" / name, cv2.blur(photo, (5, 5)))
    pairs = list(read_pairs(tmp_path))
    assert [pair.name for pair in pairs] == ["a.png", "b.png"]
    for pair, level in zip(pairs, (1, 0), strict=True):
        assert np.array_equal(frame(pair.sharp), photo + level)
        assert np.array_equal(frame(pair.blurred), cv2.blur(photo, (5, 5)))
        assert pair.length is None


def test_a_missing_partner_is_told(tmp_path: Path, photo: Picture) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / "blur" / name, photo)
    write(tmp_path / "sharp" / "b.png", photo)
    with pytest.raises(DeblurError, match="partner") as caught:
        list(read_pairs(tmp_path))
    assert caught.value.subject == tmp_path / "blur" / "a.png"


def test_a_folder_without_pairs_is_told(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "a.png", photo)
    with pytest.raises(DeblurError, match=f"--photos {tmp_path}"):
        list(read_pairs(tmp_path))


def test_partners_of_different_size_are_told(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "blur" / "a.png", photo)
    write(tmp_path / "sharp" / "a.png", photo[:64])
    with pytest.raises(DeblurError, match="160x96"):
        list(read_pairs(tmp_path))


def test_photos_are_blurred_by_eval_v1_in_the_order_of_their_names(
    tmp_path: Path, photo: Picture
) -> None:
    for index in range(6):
        write(tmp_path / f"{index}.png", np.roll(photo, 20 * index, 1))
    pairs = list(blur_photos(tmp_path))
    assert [pair.length for pair in pairs] == [8, 16, 24, 32, 8, 16]
    for index, pair in enumerate(pairs):
        assert np.array_equal(frame(pair.sharp), np.roll(photo, 20 * index, 1))
        blurred = EVAL_V1.blur(read_picture(tmp_path / f"{index}.png"), index)
        assert torch.equal(pair.blurred, blurred)


def test_sharp_photos_are_left_as_they_are(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "a.png", photo)
    (pair,) = leave_sharp(tmp_path)
    assert (pair.name, pair.length) == ("a.png", 0.0)
    assert np.array_equal(frame(pair.blurred), photo)
    assert np.array_equal(frame(pair.sharp), photo)


def test_photos_twice_as_wide_as_high_are_photos(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "a.png", photo[:64])
    assert len(list(blur_photos(tmp_path))) == 1


def test_a_score_compares_both_pictures_with_the_sharp_one(photo: Picture, negative: Path) -> None:
    blurred = cv2.blur(photo, (5, 5))
    with Deblurrer(negative) as deblurrer:
        got = score(pair(blurred, photo, 5.0), deblurrer)
    assert (got.name, got.length) == ("a.png", 5.0)
    assert got.psnr_before == pytest.approx(psnr_by_hand(blurred, photo))
    assert got.psnr_after == pytest.approx(psnr_by_hand(255 - blurred, photo))
    assert got.ssim_before == ssim(picture(blurred), picture(photo)) > 0.5
    assert got.ssim_after == ssim(picture(255 - blurred), picture(photo)) < 0


def test_the_colour_shift_is_that_of_the_worst_channel(negative: Path) -> None:
    flat = np.zeros((32, 32, 3), np.uint8)
    flat[...] = (120, 128, 200)  # the negative is (135, 127, 55)
    with Deblurrer(negative) as deblurrer:
        assert score(pair(flat, flat), deblurrer).colour_shift == 145
        # Half of the pixels up and half down: the mean stays where it is.
        flat[::2], flat[1::2] = 100, 155
        assert score(pair(flat, flat), deblurrer).colour_shift == 0


def test_a_sharp_picture_left_alone_has_infinite_psnr(photo: Picture, negative: Path) -> None:
    with Deblurrer(negative) as deblurrer:
        got = score(pair(255 - photo, photo), deblurrer)
    assert got.psnr_after == math.inf
    assert (got.ssim_after, got.colour_shift) == (pytest.approx(1), 0)


def test_the_mean_is_of_each_figure_and_the_largest_colour_shift() -> None:
    scores = [
        Score("a", 8.0, 20.0, 25.0, 0.5, 0.75, 3.0),
        Score("b", 16.0, 30.0, 28.0, 0.25, 0.5, 1.0),
        Score("c", None, 25.0, 25.0, 0.75, 1.0, 2.0),
    ]
    mean = mean_score("mean of 3", scores)
    assert mean == Score("mean of 3", None, 25.0, 26.0, 0.5, 0.75, 3.0)
