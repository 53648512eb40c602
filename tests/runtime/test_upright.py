"""Clips that are stored on their side: what is made of their frames is upright."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime.upright import AS_STORED, Turn
from deblurgan.runtime.video.streams import display_matrix

Make = Callable[..., Path]
Deblur = Callable[..., int]
Pixels = NDArray[np.uint8]


def matrix(*numbers: int) -> list[int]:
    """``numbers`` are where one step to the right leads, and one down."""
    a, b, c, d = (number << 16 for number in numbers)
    return [a, b, 0, c, d, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize(
    ("numbers", "turned"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda x: np.rot90(x, 2).swapaxes(0, 1)),
    ],
)
def test_every_quarter_turn_and_mirror(
    numbers: tuple[int, ...], turned: Callable[[Any], Any], photo: Pixels
) -> None:
    turn = Turn.of(matrix(*numbers))
    assert np.array_equal(turn(photo), turned(photo))
    assert turn.size(160, 96) == turned(photo).shape[1::-1]


def test_other_turns_are_left_alone() -> None:
    eighth = 46341
    assert Turn.of([eighth, eighth, 0, -eighth, eighth, 0, 0, 0, 1 << 30]) == AS_STORED
    assert Turn.of(None) == AS_STORED


@pytest.fixture
def portrait(make_clip: Make, tmp_path: Path) -> Path:
    """Stored 160x96, shown 96x160."""
    return make_clip(tmp_path / "in.mp4", rotation=90)


def shown(clip: Path) -> Pixels:
    """Its first frame as FFmpeg's own filter turns it."""
    with av.open(str(clip)) as file:
        frame = next(file.decode(video=0))
        turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def test_numbered_pictures_are_upright(
    portrait: Path, negative: Path, tmp_path: Path, deblur: Deblur
) -> None:
    assert deblur(portrait, tmp_path / "out/%d.png", "--model", negative) == 0
    made = cv2.imread(str(tmp_path / "out/1.png"))[:, :, ::-1]
    assert made.shape == (160, 96, 3)
    assert np.abs(255.0 - shown(portrait) - made).mean() < 8


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out/%d.png"])
def test_comparisons_are_upright(
    target: str, portrait: Path, negative: Path, tmp_path: Path, deblur: Deblur
) -> None:
    assert deblur(portrait, tmp_path / target, "--compare", "side", "--model", negative) == 0
    first = tmp_path / target.replace("%d", "1")
    with av.open(str(first)) as file:
        frame = next(file.decode(video=0))
        assert display_matrix(frame) is None
        made = frame.to_ndarray(format="rgb24")
    assert made.shape == (160, 192, 3)
    whole = shown(portrait).astype(float)
    assert np.abs(whole - made[:, :96])[60:].mean() < 8
    assert np.abs(255 - whole - made[:, 96:])[60:].mean() < 8


def test_compared_pixels_keep_their_shape_in_a_pipe(
    make_clip: Make, negative: Path, tmp_path: Path, deblur: Deblur,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    clip, wide = make_clip(tmp_path / "in.mp4"), tmp_path / "wide.mp4"
    with av.open(str(clip)) as source, av.open(str(wide), "w") as out:
        copy = out.add_stream_from_template(source.streams.video[0])
        copy.sample_aspect_ratio = Fraction(4, 3)
        copy.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    capfdbinary.readouterr()
    for words, shape in (([], b" A4:3 "), (["--compare", "side"], b" A3:4 ")):
        assert deblur(wide, "-", "--model", negative, *words) == 0
        assert shape in capfdbinary.readouterr().out.split(b"\n", 1)[0]


def test_looks_are_upright(portrait: Path, negative: Path, tmp_path: Path, deblur: Deblur) -> None:
    out, look, pair = tmp_path / "out.mp4", tmp_path / "look.png", tmp_path / "pair.png"
    code = deblur(
        portrait, out, "--preview", look, "--before-after", pair, "--model", negative
    )  # fmt: skip
    assert code == 0
    whole = shown(portrait).astype(float)
    for picture in (look, pair):
        made = cv2.imread(str(picture))[:, :, ::-1]
        assert made.shape[1] == 2 * 96 + 4
        seen = np.abs(whole[::7, ::7] - made[:160:7, :96:7]).mean(2)
        assert np.median(seen) < 30, "but for what is written on it"
    with av.open(str(out)) as file:
        assert next(file.decode(video=0)).rotation == 90, "a video stays as it was"


def test_a_pipe_tells_that_it_cannot_turn(
    portrait: Path, negative: Path, deblur: Deblur, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert deblur(portrait, "-", "--model", negative) == 0
    out, said = capfdbinary.readouterr()
    assert out.startswith(b"YUV4MPEG2 W160 H96")
    assert b"left out: rotation" in said
