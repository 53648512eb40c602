from __future__ import annotations

import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.video.colour import Colour, ColourConverter, is_deep
from deblurgan.runtime.video.residual import ComparisonCoder, ResidualCoder, largest, planes

WRITTEN = [
    f"yuv{chroma}p{bits}"
    for chroma in (420, 422, 444)
    for bits in ("", "10le", "12le")
]  # fmt: skip
LIMITED, FULL = Colour(1, False, 1, 1, 1), Colour(1, True, 2, 1, 1)


def noise(pixel_format: str, width: int, height: int, seed: int = 0) -> VideoFrame:
    """Every value that its samples can have, blacker than black and beyond white too."""
    frame = VideoFrame(width, height, pixel_format)
    random = np.random.default_rng(seed)
    for plane in planes(frame):
        plane[:] = random.integers(0, largest(frame) + 1, plane.shape)
    return frame


def content(frame: VideoFrame) -> list[np.ndarray]:
    return [np.array(p)[:, : frame.planes[i].width] for i, p in enumerate(planes(frame))]


@given(
    pixel_format=st.sampled_from([*WRITTEN, "yuvj420p"]),
    width=st.integers(2, 70),
    height=st.integers(2, 50),
    colour=st.sampled_from([LIMITED, FULL]),
)
def test_what_did_not_change_stays_the_same_to_the_bit(
    pixel_format: str, width: int, height: int, colour: Colour
) -> None:
    colour = FULL if pixel_format == "yuvj420p" else colour
    frame = noise(pixel_format, width, height)
    before = content(frame)
    rgb = ColourConverter(colour, (width, height)).to_rgb(frame)
    written = pixel_format.replace("yuvj", "yuv")
    made = ResidualCoder(colour, colour, written, (width, height)).code(frame, rgb, rgb)
    assert (made.width, made.height, made.format.name) == (width, height, written)
    for ours, theirs, still in zip(content(made), before, content(frame), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(still, theirs, "a decoder still needs its frame")


@pytest.mark.parametrize("colour", [LIMITED, FULL])
@pytest.mark.parametrize("pixel_format", [*WRITTEN, "p010le"])
def test_what_changed_is_seen(pixel_format: str, colour: Colour) -> None:
    size = (64, 48)
    converter, coder = (
        ColourConverter(colour, size),
        ResidualCoder(colour, colour, pixel_format, size),
    )
    flat, other = (
        np.full((48, 64, 3), (90, 120, 60), np.uint8),
        np.full((48, 64, 3), (140, 80, 70), np.uint8),
    )
    frame = converter.from_rgb(flat, pixel_format)
    seen = converter.to_rgb(coder.code(frame, flat, other))
    assert np.abs(seen.astype(int) - other).max() <= 2


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "p010le"])
def test_a_change_beyond_what_a_sample_holds_stops_there(pixel_format: str) -> None:
    frame = VideoFrame(32, 32, pixel_format)
    for plane in planes(frame):
        plane[:] = largest(frame)
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    coder = ResidualCoder(FULL, FULL, pixel_format, (32, 32))
    assert (content(coder.code(frame, black, white))[0] == largest(frame)).all()
    for plane in planes(frame):
        plane[:] = 0
    assert (content(coder.code(frame, white, black))[0] == 0).all()


def test_depth_and_range_of_the_output_are_its_own() -> None:
    """ProRes has 10 bits in limited range, whatever goes in."""
    grey = np.full((32, 32, 3), 128, np.uint8)
    frame = ColourConverter(FULL, (32, 32)).from_rgb(grey, "yuv420p")
    coder = ResidualCoder(FULL, FULL.limited(), "yuv422p10le", (32, 32))
    luma = content(coder.code(frame, grey, grey))[0]
    assert np.abs(luma.astype(int) - (64 + 876 * 128 / 255)).max() <= 2


def test_frames_of_another_size_are_scaled() -> None:
    frame = ColourConverter(LIMITED, (32, 32)).from_rgb(
        np.full((32, 32, 3), 77, np.uint8), "yuv420p"
    )
    converter = ColourConverter(LIMITED, (64, 48))
    rgb = converter.to_rgb(frame)
    made = ResidualCoder(LIMITED, LIMITED, "yuv420p", (64, 48)).code(frame, rgb, rgb)
    assert np.abs(converter.to_rgb(made).astype(int) - 77).max() <= 1


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le"])
def test_both_are_shown(pixel_format: str) -> None:
    size = (320, 240)
    converter = ColourConverter(LIMITED, size)
    before, after = (np.full((240, 320, 3), level, np.uint8) for level in (60, 160))
    frame = converter.from_rgb(before, pixel_format)
    comparison = Comparison("side", *size)
    residual = ResidualCoder(LIMITED, LIMITED, pixel_format, size)
    both = ComparisonCoder(residual, comparison).code(frame, before, after)
    assert is_deep(both) == pixel_format.endswith("le")
    shown = ColourConverter(LIMITED, comparison.size).to_rgb(both)
    assert np.abs(shown[100:, :300].astype(int) - 60).max() <= 2
    assert np.abs(shown[100:, 340:].astype(int) - 160).max() <= 2
