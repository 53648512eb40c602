"""PSNR, SSIM and colour are measured as others measure them."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("skimage", reason="the benchmarks want scikit-image")

from deblurgan.benchmarks.quality import (
    Pair,
    Score,
    blur_photos,
    leave_sharp,
    mean_score,
    read_pairs,
    score,
    ssim,
)
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.data import read_picture
from deblurgan.train.evaluation import EVAL_V1

Picture = NDArray[np.uint8]


def write(path: Path, picture: Picture) -> None:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), picture[:, :, ::-1])


def psnr_by_hand(picture: Picture, reference: Picture) -> float:
    error = np.mean((picture.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return 20 * math.log10(255) - 10 * math.log10(error)


def ssim_by_hand(picture: Picture, reference: Picture) -> float:
    """Wang et al. 2004 with OpenCV: windows of 11 pixels, only where they fit."""
    x, y = picture.astype(np.float64), reference.astype(np.float64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean())


def test_pairs_are_matched_by_name(tmp_path: Path, photo: Picture) -> None:
    for level, name in enumerate(("b.png", "a.png", "only-sharp.png")):
        write(tmp_path / "sharp" / name, photo + level)
    for name in ("a.png", "b.png"):
        write(tmp_path / "blur" / name, cv2.blur(photo, (5, 5)))
    pairs = list(read_pairs(tmp_path))
    assert [pair.name for pair in pairs] == ["a.png", "b.png"]
    for pair, level in zip(pairs, (1, 0), strict=True):
        assert np.array_equal(pair.sharp, photo + level)
        assert np.array_equal(pair.blurred, cv2.blur(photo, (5, 5)))
        assert pair.length is None


def test_a_missing_partner_is_told(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "blur" / "a.png", photo)
    with pytest.raises(DeblurError, match=r"its sharp partner .*sharp/a\.png") as caught:
        list(read_pairs(tmp_path))
    assert caught.value.subject == tmp_path / "blur" / "a.png"


def test_a_folder_without_blur_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match=r"blur: expected a folder of pictures"):
        list(read_pairs(tmp_path))


def test_partners_of_different_size_are_told(
    tmp_path: Path, photo: Picture, negative: Path
) -> None:
    write(tmp_path / "blur" / "a.png", photo)
    write(tmp_path / "sharp" / "a.png", photo[:64])
    with Deblurrer(negative) as deblurrer, pytest.raises(DeblurError, match="160x96"):
        [score(pair, deblurrer) for pair in read_pairs(tmp_path)]


def test_photos_are_blurred_by_eval_v1_in_the_order_of_their_names(
    tmp_path: Path, photo: Picture
) -> None:
    for index in range(6):
        write(tmp_path / f"{index}.png", np.roll(photo, 20 * index, 1))
    pairs = list(blur_photos(tmp_path))
    assert [pair.length for pair in pairs] == [8, 16, 24, 32, 8, 16]
    for index, pair in enumerate(pairs):
        assert np.array_equal(pair.sharp, np.roll(photo, 20 * index, 1))
        blurred = EVAL_V1.blur(read_picture(tmp_path / f"{index}.png"), index)
        assert np.array_equal(pair.blurred, blurred.permute(1, 2, 0).numpy())


def test_sharp_photos_are_left_as_they_are(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "a.png", photo)
    (pair,) = leave_sharp(tmp_path)
    assert (pair.name, pair.length) == ("a.png", 0.0)
    assert np.array_equal(pair.blurred, photo)
    assert np.array_equal(pair.sharp, photo)


def test_ssim_of_identical_pictures_is_one_and_of_others_less(photo: Picture) -> None:
    assert ssim(photo, photo.copy()) == pytest.approx(1)
    assert ssim(255 - photo, photo) < 0
    assert ssim(cv2.blur(photo, (9, 9)), photo) < ssim(cv2.blur(photo, (3, 3)), photo) < 1


@pytest.mark.parametrize("kind", ["blurred", "noisy", "darker"])
def test_ssim_is_wangs(photo: Picture, kind: str) -> None:
    noise = np.random.default_rng(1).normal(0, 12, photo.shape)
    pictures = {
        "blurred": cv2.GaussianBlur(photo, (0, 0), 2),
        "noisy": np.clip(photo + noise, 0, 255).astype(np.uint8),
        "darker": photo // 2,
    }
    expected = ssim_by_hand(pictures[kind], photo)
    assert ssim(pictures[kind], photo) == pytest.approx(expected, abs=1e-4)
    assert 0.2 < expected < 0.99


def test_a_score_compares_both_pictures_with_the_sharp_one(photo: Picture, negative: Path) -> None:
    blurred = cv2.blur(photo, (5, 5))
    with Deblurrer(negative) as deblurrer:
        got = score(Pair("a.png", blurred, photo, 5.0), deblurrer)
    assert (got.name, got.length) == ("a.png", 5.0)
    assert got.psnr_before == pytest.approx(psnr_by_hand(blurred, photo))
    assert got.psnr_after == pytest.approx(psnr_by_hand(255 - blurred, photo))
    assert got.ssim_before == pytest.approx(ssim_by_hand(blurred, photo), abs=1e-4)
    assert got.ssim_after == pytest.approx(ssim_by_hand(255 - blurred, photo), abs=1e-4)


def test_the_colour_shift_is_that_of_the_worst_channel(negative: Path) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[...] = (120, 128, 200)  # the negative is (135, 127, 55)
    with Deblurrer(negative) as deblurrer:
        assert score(Pair("a", picture, picture), deblurrer).colour_shift == 145
        # Half of the pixels up and half down: the mean stays where it is.
        picture[::2], picture[1::2] = 100, 155
        assert score(Pair("a", picture, picture), deblurrer).colour_shift == 0


def test_a_sharp_picture_left_alone_has_infinite_psnr(photo: Picture, negative: Path) -> None:
    with Deblurrer(negative) as deblurrer:
        got = score(Pair("a", 255 - photo, photo), deblurrer)
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
