"""What the shipped model promises, on real pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import Deblurrer

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def deblur() -> Iterator[Deblurrer]:
    with Deblurrer() as deblurrer:
        yield deblurrer


def read(path: Path) -> Picture:
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])


def psnr(a: Picture, b: Picture) -> float:
    return 10 * math.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.mark.parametrize(("name", "gain"), [("Flower.png", 0.4), ("Istanbul.png", 1.9)])
def test_gopro_pairs_come_nearer_to_the_sharp_picture(
    shared: Path, deblur: Deblurrer, name: str, gain: float
) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    blurred, sharp = (read(shared / "data/gopro" / kind / name) for kind in ("blur", "sharp"))
    deblurred = deblur(blurred)
    assert psnr(deblurred, sharp) > psnr(blurred, sharp) + gain
    ssim = [
        metrics.structural_similarity(picture, sharp, channel_axis=2, gaussian_weights=True)
        for picture in (blurred, deblurred)
    ]
    assert ssim[1] > ssim[0]


@pytest.mark.parametrize("name", ["Flower.png", "Istanbul.png"])
def test_int8_makes_the_picture_of_fp32_on_every_processor(shared: Path, name: str) -> None:
    pytest.importorskip("openvino")
    blurred = read(shared / "data/gopro/blur" / name)
    pictures = []
    for model in ("edge-fp32", "edge-int8"):
        with Deblurrer(model, backend="openvino") as deblurrer:
            pictures.append(deblurrer(blurred))
    assert psnr(*pictures) > 44


def test_eval_v1_blur_gets_less(shared: Path, deblur: Deblurrer) -> None:
    pictures = pytest.importorskip("deblurgan.benchmarks.pictures")
    quality = pytest.importorskip("deblurgan.benchmarks.quality")
    found = pictures.find_pictures("photos", shared / "data/eval/kodak24", limit=8)
    (result,) = quality.measure_quality({"edge": deblur}, found, with_cw_ssim=False)
    mean = result.mean
    assert mean.psnr_after > mean.psnr_before + 0.6
    assert mean.ssim_after > mean.ssim_before


def test_stripes_are_not_all_taken_for_streaks(shared: Path, deblur: Deblurrer) -> None:
    torch = pytest.importorskip("torch")
    evaluation = pytest.importorskip("deblurgan.train.evaluation")
    index, name = 92, "img_093.jpg"  # a floor of slanting stripes
    sharp = read(shared / "data/eval/urban100" / name)
    picture = torch.from_numpy(sharp).permute(2, 0, 1)
    blurred = evaluation.EVAL_V1.blur(picture, index).permute(1, 2, 0).contiguous().numpy()
    assert psnr(deblur(blurred), sharp) > psnr(blurred, sharp)


@pytest.mark.parametrize("name", ["05.png", "19.png", "23.png"])
def test_sharp_stays_sharp_without_colour_shift_grid_or_border(
    shared: Path, deblur: Deblurrer, name: str
) -> None:
    sharp = read(shared / "data/eval/kodak24" / name)
    change = deblur(sharp).astype(float) - sharp
    assert 10 * math.log10(255**2 / np.square(change).mean()) >= 38
    assert np.abs(change.mean((0, 1))).max() < 1, "colour shift in levels"

    stride = deblur.model.card.stride
    height, width = (side - side % stride for side in sharp.shape[:2])
    tiles = change[:height, :width].reshape(height // stride, stride, width // stride, stride, 3)
    assert np.ptp(tiles.mean((0, 2)), axis=(0, 1)).max() < 1, "a grid of the stride's period"

    border = np.ones(sharp.shape[:2], bool)
    border[8:-8, 8:-8] = False
    inside, outside = np.abs(change[~border]).mean(), np.abs(change[border]).mean()
    assert outside < 2 * inside + 0.5, "the border changes more than the picture"
