from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deblurgan.runtime import sharpness
from deblurgan.runtime.sharpness import BLURRED, SHARP, SharpFrames, measure_blur

Picture = NDArray[np.uint8]


def dead_leaves(width: int = 320, height: int = 240, seed: int = 0) -> Picture:
    """Discs of many sizes upon each other: edges in all directions, at all distances."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.uint8)
    for _ in range(600):
        centre = (int(random.integers(width)), int(random.integers(height)))
        radius = int(4 / random.uniform(0.06, 1))
        colour = [int(level) for level in random.integers(20, 236, 3)]
        cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA)
    return picture


def smear(picture: Picture, length: int, degrees: float) -> Picture:
    """What an even motion along a line leaves."""
    side = length | 1
    kernel = np.zeros((side, side), np.float32)
    angle, middle = math.radians(degrees), side // 2
    reach = np.array([math.cos(angle), math.sin(angle)]) * (length - 1) / 2
    ends = [(round(middle + sign * reach[0]), round(middle + sign * reach[1])) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0)
    smeared = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return smeared.astype(np.uint8)


def add_noise(picture: Picture, sigma: float) -> Picture:
    noise = np.random.default_rng(1).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def compress(picture: Picture, quality: int) -> Picture:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


LEAVES = dead_leaves()


@settings(max_examples=40)
@given(length=st.integers(6, 24), degrees=st.floats(0, 180))
@example(length=6, degrees=0)
@example(length=6, degrees=90)
@example(length=24, degrees=45)
@example(length=24, degrees=135)
def test_motion_in_any_direction_is_found_under_noise_and_compression_too(
    length: int, degrees: float
) -> None:
    assert measure_blur(LEAVES) < SHARP
    blurred = smear(LEAVES, length, degrees)
    assert measure_blur(blurred) > BLURRED
    assert measure_blur(add_noise(blurred, 5)) > BLURRED
    assert measure_blur(compress(blurred, 50)) > BLURRED


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0])
def test_an_edge_is_about_as_wide_as_its_blur_at_any_contrast(sigma: float) -> None:
    step = np.zeros((96, 96, 3), np.float32)
    step[:, 48:] = 200
    found = []
    for contrast in (1.0, 0.3):
        blurred = (cv2.GaussianBlur(step * contrast, (0, 0), sigma) + 20).astype(np.uint8)
        found += [measure_blur(blurred), measure_blur(np.ascontiguousarray(np.rot90(blurred)))]
    assert sigma < min(found) < 1.4 * sigma
    assert max(found) < 1.1 * min(found)


def test_more_blur_measures_more() -> None:
    found = [measure_blur(smear(LEAVES, length, 30)) for length in (1, 4, 8, 16)]
    assert found == sorted(found)
    assert found[-1] > 2 * found[0]


def test_a_third_of_the_picture_in_motion_is_not_a_sharp_picture() -> None:
    sharp = dead_leaves(960, 480)
    partly = sharp.copy()
    partly[:, :400] = smear(sharp, 24, 0)[:, :400]
    assert measure_blur(sharp) < SHARP
    assert measure_blur(partly) > BLURRED


def test_the_flat_part_of_a_picture_does_not_count() -> None:
    picture = np.full((480, 960, 3), 90, np.uint8)
    picture[100:340, 300:620] = LEAVES
    assert measure_blur(picture) < SHARP
    picture[100:340, 300:620] = smear(LEAVES, 12, 60)
    assert measure_blur(picture) > BLURRED


def test_windows_beside_each_other_in_memory_do_not_make_an_edge() -> None:
    windows = np.zeros((3, 96, 96), np.float32)
    windows[1] = 255
    assert np.isnan(sharpness.edge_widths(windows)).all()


@pytest.mark.parametrize(
    "picture",
    [
        np.full((720, 1280, 3), 128, np.uint8),
        add_noise(np.full((360, 640, 3), 128, np.uint8), 5),
        LEAVES[:16, :16],
        LEAVES[:1, :1],
        LEAVES[:5, :7],
        LEAVES[:240, :2],
    ],
    ids=["flat", "noise alone", "16x16", "1x1", "7x5", "2x240"],
)
def test_where_nothing_shows_an_edge_the_frame_is_not_called_sharp(picture: Picture) -> None:
    assert measure_blur(picture) == math.inf
    assert not SharpFrames().keeps(picture)


@settings(max_examples=30)
@given(height=st.integers(1, 240), width=st.integers(1, 320))
def test_any_size_has_an_answer(height: int, width: int) -> None:
    assert measure_blur(LEAVES[:height, :width]) > 0


def test_frames_are_kept_from_clearly_sharp_to_clearly_blurred(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    between = (SHARP + BLURRED) / 2
    blurs = [between, SHARP - 0.1, between, BLURRED + 0.1, between, math.inf, 0.5, math.inf]
    coming = iter(blurs)
    monkeypatch.setattr(sharpness, "measure_blur", lambda frame: next(coming))
    frames = SharpFrames()
    assert frames.share == 0
    kept = [frames.keeps(LEAVES) for _ in blurs]
    assert kept == [False, True, True, False, False, False, True, False]
    assert (frames.kept, frames.total, frames.share) == (3, 8, 3 / 8)


def read(path: Path) -> Picture:
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])


def test_real_frames(shared: Path) -> None:
    frames = SharpFrames()
    sharp = [frames.keeps(read(path)) for path in sorted((shared / "data/gopro/sharp").iterdir())]
    assert all(sharp)
    blurred = [
        *(shared / "data/gopro/blur").iterdir(),
        *(shared / "data/blurry-real").glob("*.png"),
    ]
    for path in [*blurred, *sorted((shared / "data/gopro/sequence").iterdir())[::3]]:
        for picture in (read(path), add_noise(read(path), 5), compress(read(path), 50)):
            assert measure_blur(picture) > BLURRED, path.name


def test_sharp_photographs_are_kept_and_smeared_ones_are_not(shared: Path) -> None:
    photos = [read(path) for path in sorted((shared / "data/eval/kodak24").iterdir())]
    assert np.mean([measure_blur(photo) < BLURRED for photo in photos]) > 0.7
    for index, photo in enumerate(photos):
        assert measure_blur(smear(photo, 8, 15 * index)) > BLURRED, index
