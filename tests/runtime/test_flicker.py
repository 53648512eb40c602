from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import Deblurrer, flicker
from deblurgan.runtime.flicker import LONGEST, SHORTEST, FlickerMeter, TemporalError

Picture = NDArray[np.uint8]


def make_picture(width: int, height: int, seed: int = 0) -> Picture:
    """Smooth and rough, without a period that motion could be mistaken by."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for sigma, strength in ((2, 60), (6, 200), (20, 700)):
        noise = random.normal(0, strength, picture.shape).astype(np.float32)
        picture += cv2.GaussianBlur(noise, (0, 0), sigma)
    return np.clip(picture + 128, 0, 255).astype(np.uint8)


def pan(picture: Picture, frames: int, step: int = 3) -> list[Picture]:
    width = picture.shape[1] - step * (frames - 1)
    return [picture[:, step * i : step * i + width] for i in range(frames)]


def measure(blurred: list[Picture], sharp: list[Picture], every: int = 1) -> TemporalError:
    meter = FlickerMeter(every)
    for before, after in zip(blurred, sharp, strict=True):
        meter.watch(before, after)
    assert meter.error is not None
    return meter.error


def brighten(picture: Picture, levels: float) -> Picture:
    return np.clip(picture + np.float32(levels), 0, 255).astype(np.uint8)


def test_frames_that_stay_the_same_have_no_error() -> None:
    picture = make_picture(160, 96)
    error = measure([picture] * 4, [255 - picture] * 4)
    assert (error.input, error.output, error.pairs, error.left_out) == (0, 0, 3, 0)
    assert (error.added, error.ratio) == (0, 1)


@pytest.mark.parametrize("width", [240, 900])
def test_motion_is_no_error(width: int) -> None:
    frames = pan(make_picture(width, width // 2), 4, step=4)
    error = measure(frames, frames)
    unmoved = float(np.abs(frames[1].astype(float) - frames[0]).mean())
    assert error.pairs == 3
    assert error.input < 0.15 * unmoved
    assert (error.added, error.ratio, error.ratio_for_contrast) == (0, 1, 1)


@pytest.mark.parametrize("step", [0, 3], ids=["still", "moving"])
def test_an_output_that_flickers_by_three_levels_is_found(step: int) -> None:
    frames = pan(make_picture(320, 160), 6, step)
    flickering = [brighten(frame, 3 * (-1) ** i) for i, frame in enumerate(frames)]
    error = measure(frames, flickering)
    assert error.output == pytest.approx(6, abs=0.4)  # from +3 to -3
    assert error.added > 4
    assert measure(flickering, frames).added < -4


def test_steeper_edges_alone_do_not_flicker() -> None:
    random = np.random.default_rng(5)
    soft = make_picture(320, 160).astype(np.float32) / 2 + 64
    noisy = [soft + random.normal(0, 4, soft.shape) for _ in range(4)]
    steeper = [1.5 * (frame - 128) + 128 for frame in noisy]
    error = measure([frame.astype(np.uint8) for frame in noisy], [brighten(f, 0) for f in steeper])
    assert error.ratio == pytest.approx(1.5, abs=0.1)
    assert error.ratio_for_contrast == pytest.approx(1, abs=0.07)


def test_ratios_of_nothing() -> None:
    flat = TemporalError(input=0, output=2, input_slope=0, output_slope=1, pairs=1)
    assert flat.ratio == flat.ratio_for_contrast == math.inf
    assert TemporalError(0, 0, 0, 0, pairs=1).ratio_for_contrast == 1
    assert TemporalError(2, 3, 4, 8, pairs=1).ratio_for_contrast == 0.75


def test_a_scene_cut_does_not_count() -> None:
    scenes = [pan(make_picture(240, 120, seed), 3) for seed in (1, 2)]
    frames = scenes[0] + scenes[1]
    whole, parts = measure(frames, frames), [measure(scene, scene) for scene in scenes]
    assert (whole.pairs, whole.left_out) == (4, 1)
    assert whole.input == pytest.approx(np.mean([part.input for part in parts]))


def test_what_comes_from_behind_something_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = make_picture(240, 120)
    frames = [ground.copy() for _ in range(4)]
    for index, frame in enumerate(frames):
        frame[30:90, 20 + 12 * index : 80 + 12 * index] = 255 - make_picture(60, 60, 3)
    error = measure(frames, frames).input
    monkeypatch.setattr(flicker, "RETURN_FLOOR", 1e9)
    monkeypatch.setattr(flicker, "FOREIGN", 256)
    assert error < 0.7 * measure(frames, frames).input


def test_the_first_pair_and_one_of_every_so_many() -> None:
    picture = make_picture(96, 64)
    meter = FlickerMeter(every=5)
    pairs = []
    for _ in range(12):
        meter.watch(picture, picture)
        pairs.append(meter.error.pairs if meter.error else 0)
    assert pairs == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]


def test_it_holds_a_small_copy_of_one_frame() -> None:
    frame = make_picture(1000, 40)
    meter = FlickerMeter()
    meter.watch(frame, frame)
    held = meter._before
    assert held is not None
    assert all(max(picture.shape) <= LONGEST and picture.base is None for picture in held)
    meter.watch(frame, frame)
    assert meter._before is None


@pytest.mark.parametrize(
    "size", [(1, 1), (15, 17), (20, 400), (63, 64), (64, 64), (65, 480), (130, 1000), (40, 16384)]
)
def test_any_size_has_an_answer_or_none(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for picture in (frame, np.ascontiguousarray(frame.transpose(1, 0, 2))):
        meter = FlickerMeter()
        for _ in range(2):
            meter.watch(picture, picture)
        if min(size) < SHORTEST or max(size) > 10 * min(size):
            assert meter.error is None
        elif max(size) < LONGEST:
            assert meter.error is not None


def test_a_change_of_size_is_no_pair() -> None:
    meter = FlickerMeter(every=1)
    for width in (64, 96, 96):
        meter.watch(make_picture(width, 64), make_picture(width, 64))
    assert meter.error is not None
    assert meter.error.pairs == 1


def test_the_shipped_model_adds_no_flicker_to_a_still_scene(photo: Picture) -> None:
    random = np.random.default_rng(7)
    still = cv2.blur(photo, (5, 1)).astype(np.float32)
    frames = [
        np.clip(still + random.normal(0, 2, still.shape), 0, 255).round().astype(np.uint8)
        for _ in range(6)
    ]
    with Deblurrer() as deblur:
        error = measure(frames, [deblur(frame) for frame in frames])
    assert error.input == pytest.approx(2 * 2 / np.sqrt(np.pi), rel=0.2)  # of two noises
    assert error.ratio < 1.1


def test_the_shipped_model_adds_none_to_a_shaken_clip_but_what_its_edges_explain(
    shared: Path,
) -> None:
    files = sorted((shared / "data/gopro/sequence").iterdir())[:6]
    frames = [np.asarray(cv2.imread(str(path))[180:540, 320:960, ::-1], np.uint8) for path in files]
    frames = [np.ascontiguousarray(frame) for frame in frames]
    with Deblurrer() as deblur:
        error = measure(frames, [deblur(frame) for frame in frames])
    assert error.pairs + error.left_out == 5
    assert error.ratio < 1.2
    assert error.ratio_for_contrast < 1.1
