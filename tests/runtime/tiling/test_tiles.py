from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurgan.runtime import Deblurrer
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.model_store import DEFAULT, find_model
from deblurgan.runtime.tiling.tiles import (
    RAMP,
    WHOLE,
    TiledBackend,
    cut,
    cut_frame,
    overlap,
    smallest_side,
)

STRIDES = st.sampled_from([1, 4, 8, 32])
EDGE_STRIDE = 8


class Local:
    """Pads as a contract file does, and then does what depends on neighbours, on the border
    and on the place within the stride, as generators do.
    """

    description, memory = "local", None

    def __init__(self, stride: int, in_flight: int = 2) -> None:
        self.stride, self.in_flight = stride, in_flight
        self.sizes: set[tuple[int, int]] = set()
        self.closed = False

    def run(self, frames: Frames) -> Frames:
        height, width = frames.shape[1:3]
        self.sizes.add((width, height))
        pad = ((0, -height % self.stride), (0, -width % self.stride), (0, 0))
        padded = np.pad(frames[0], pad, mode="reflect")
        blurred = cv2.blur(padded, (9, 15), borderType=cv2.BORDER_CONSTANT)
        y, x = (np.arange(side, dtype=np.uint16) % self.stride for side in padded.shape[:2])
        blurred += np.add.outer(y, x).astype(np.uint8)[..., None]
        return blurred[None, :height, :width]

    def close(self) -> None:
        self.closed = True


def noise(width: int, height: int) -> Frames:
    return np.random.default_rng(width + height).integers(0, 256, (1, height, width, 3), np.uint8)


@settings(max_examples=50)
@given(length=st.integers(16, 5000), extra=st.integers(0, 900), stride=STRIDES)
def test_weights_add_up_to_one_everywhere(length: int, extra: int, stride: int) -> None:
    cuts = cut(length, smallest_side(stride) + extra, stride)
    total = np.zeros(length, int)
    for index, (first, last) in enumerate(cuts.used):
        assert cuts.origins[index] <= first < last <= cuts.origins[index] + cuts.side
        total[first:last] += cuts.weights(index)
    assert (total == WHOLE).all()


@settings(max_examples=50)
@given(length=st.integers(16, 5000), extra=st.integers(0, 900), stride=STRIDES)
def test_tiles_are_no_larger_than_asked_aligned_and_share_enough(
    length: int, extra: int, stride: int
) -> None:
    side = smallest_side(stride) + extra
    cuts = cut(length, side, stride)
    assert cuts.side <= side
    assert cuts.side % stride == 0
    assert all(origin % stride == 0 for origin in cuts.origins)
    assert 0 <= cuts.origins[-1] + cuts.side - length < stride
    steps = np.diff(cuts.origins)
    assert (steps <= cuts.side - overlap(stride)).all()
    assert (steps > 0).all()


@settings(max_examples=15)
@given(
    width=st.integers(16, 1000),
    height=st.integers(16, 800),
    extra=st.integers(0, 300),
    stride=STRIDES,
    in_flight=st.integers(1, 3),
)
def test_a_local_operator_gives_the_untiled_picture(
    width: int, height: int, extra: int, stride: int, in_flight: int
) -> None:
    frame, engine = noise(width, height), Local(stride, in_flight)
    # The pattern must not wrap around 255.
    frame //= 2
    untiled = engine.run(frame)
    engine.sizes.clear()
    grid = cut_frame(width, height, smallest_side(stride) + extra, stride)
    tiled = TiledBackend(engine, grid)
    assert np.array_equal(tiled.run(frame), untiled)
    assert engine.sizes == {(grid.columns.side, grid.rows.side)}, "loaded for one size"
    tiled.close()
    assert engine.closed


def test_one_tile_fades_into_the_next_over_the_whole_ramp() -> None:
    class Steps(Local):
        level = 0

        def run(self, frames: Frames) -> Frames:
            self.level += 1
            return np.full_like(frames, 40 * self.level)

    grid = cut_frame(640, 600, 482, 1)
    assert grid.count == 4
    result = TiledBackend(Steps(1, in_flight=1), grid).run(noise(640, 600))[0].astype(int)
    corners = [result[y, x, 0] for y in (0, -1) for x in (0, -1)]
    assert corners == [40, 80, 120, 160]
    sideways, down = np.diff(result[0, :, 0]), np.diff(result[:, 0, 0])
    assert (sideways >= 0).all()
    assert (sideways > 0).sum() == RAMP + 1
    assert sideways.max() <= 40 / RAMP + 1
    assert (down >= 0).all()
    assert down.max() <= 80 / RAMP + 1


def test_an_engines_error_comes_out_and_nothing_hangs() -> None:
    class Broken(Local):
        def run(self, frames: Frames) -> Frames:
            time.sleep(0.01)
            raise RuntimeError("out of memory")

    tiled = TiledBackend(Broken(1), cut_frame(1000, 1000, 482, 1))
    with pytest.raises(RuntimeError, match="out of memory"):
        tiled.run(noise(1000, 1000))
    tiled.close()


def test_the_result_is_the_callers_own() -> None:
    tiled = TiledBackend(Local(4), cut_frame(500, 484, 480, 4))
    first = tiled.run(np.zeros((1, 484, 500, 3), np.uint8))
    kept = first.copy()
    tiled.run(noise(500, 484))
    assert np.array_equal(first, kept)


def test_a_frame_need_not_be_contiguous(negative: Path) -> None:
    wide = noise(1100, 490)
    with Deblurrer(negative, tile=482) as deblur:
        assert np.array_equal(deblur(wide[:, ::-1, 20:1020]), 255 - wide[:, ::-1, 20:1020])
        assert "tiles of" in deblur.engine(1000, 490).description


def assert_no_seam(picture: Frames, model: str = "edge-fp32", most: int = 2) -> None:
    side = smallest_side(EDGE_STRIDE)
    with Deblurrer(model, tile=None) as whole, Deblurrer(model, tile=side) as tiled:
        difference = np.abs(tiled(picture).astype(int) - whole(picture))
        assert "tiles of" in tiled.engine(picture.shape[1], picture.shape[0]).description
    assert difference.max() <= most
    assert difference.mean() <= most / 8


def test_the_shipped_models_stride_is_the_one_tested_here() -> None:
    assert find_model(DEFAULT).card.stride == EDGE_STRIDE


# The first shows the largest difference of all when tiles share too little.
@pytest.mark.parametrize("name", ["eval/kodak24/18.png", "gopro/blur/Flower.png"])
def test_the_shipped_model_shows_no_seam_on_photographs(shared: Path, name: str) -> None:
    picture = cv2.imread(str(shared / "data" / name))[:768, :512, ::-1]
    assert_no_seam(np.ascontiguousarray(picture))
    # Its own rounding: a pixel that falls to the other side of a step here and there.
    assert_no_seam(np.ascontiguousarray(picture), "edge-int8", most=6)


def test_the_shipped_model_shows_no_seam_on_a_made_picture() -> None:
    y, x = np.mgrid[:489, :545]
    rings = 127 + 127 * np.sin(np.hypot(x - 250, y - 220) ** 1.5 / 40)
    assert_no_seam(np.stack([rings, rings[::-1], noise(545, 489)[0, :, :, 0]], -1).astype(np.uint8))
