"""Colours come out as they went in: range, matrix, depth, and what no codec changes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from deblurgan.runtime.video.codecs import Encoding

FAST = Encoding(preset="ultrafast")
Make = Callable[..., Path]
Convert = Callable[..., Path]
Read = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("pixel_format", "tags"),
    [
        ("yuv420p", (2, 0, 2, 2)),
        ("yuv420p", (1, 1, 1, 1)),
        ("yuv420p", (6, 1, 6, 6)),
        ("yuvj420p", (1, 2, 1, 1)),
        ("yuv444p", (1, 1, 1, 1)),
    ],
    ids=["untagged", "709", "601", "full range", "4:4:4"],
)
def test_colours_come_back_with_their_tags(
    make_clip: Make,
    tmp_path: Path,
    pixel_format: str,
    tags: tuple[int, int, int, int],
    convert: Convert,
    contents: Read,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", pixel_format=pixel_format, tags=tags)
    out = convert(clip, tmp_path / "out.mp4", Encoding(preset="ultrafast", quality=1))
    assert contents(out).tags == contents(clip).tags
    with av.open(str(clip)) as old, av.open(str(out)) as new:
        for before, after in zip(old.decode(video=0), new.decode(video=0), strict=True):
            assert before.format.name == after.format.name
            luma = [np.asarray(f.to_ndarray()[..., : f.height, :], int) for f in (before, after)]
            assert np.abs(luma[0] - luma[1]).mean() < 1
            assert abs(luma[0].mean() - luma[1].mean()) < 0.2


@pytest.mark.parametrize(
    ("pixel_format", "tags"),
    [
        ("yuv420p", (1, 1, 1, 1)),
        ("yuv420p", (1, 2, 1, 1)),
        ("yuv422p", (6, 1, 6, 6)),
        ("yuv444p12le", (9, 1, 9, 1)),
    ],
)
def test_what_deblurring_leaves_alone_stays_the_same_to_the_bit(
    make_clip: Make,
    tmp_path: Path,
    pixel_format: str,
    tags: tuple[int, int, int, int],
    convert: Convert,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format=pixel_format, tags=tags)
    out = convert(clip, tmp_path / "out.mkv", Encoding("ffv1"))
    with av.open(str(clip)) as old, av.open(str(out)) as new:
        for before, after in zip(old.decode(video=0), new.decode(video=0), strict=True):
            assert before.format.name == after.format.name
            for theirs, ours in zip(before.planes, after.planes, strict=True):
                assert bytes(theirs) == bytes(ours)


def test_codecs_without_loss_or_nearly(make_clip: Make, tmp_path: Path, convert: Convert) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True, tags=(1, 1, 1, 1))
    lossless = convert(clip, tmp_path / "out.mkv", Encoding("ffv1"))
    prores = convert(clip, tmp_path / "out.mov", Encoding("prores"))
    assert differences(clip, lossless) == 0
    assert differences(clip, prores) < 4


def test_prores_has_no_full_range_and_its_colours_stay(
    make_clip: Make, tmp_path: Path, convert: Convert, contents: Read
) -> None:
    clip = make_clip(tmp_path / "in.mkv", pixel_format="yuvj420p", tags=(1, 2, 1, 1))
    out = convert(clip, tmp_path / "out.mov", Encoding("prores"))
    assert contents(out).tags[1] == 1
    assert differences(clip, out) < 4


@pytest.mark.parametrize(
    ("codec", "suffix", "given"),
    [
        ("ffv1", ".mkv", "yuv420p10le"),
        ("hevc", ".mp4", "yuv420p10le"),
        ("ffv1", ".mkv", "yuv422p12le"),
    ],
)
def test_ten_bits_stay_ten(
    make_clip: Make, tmp_path: Path, codec: str, suffix: str, given: str, convert: Convert
) -> None:
    """A ramp within four levels of 8 bits comes through with all its steps."""
    ramp = np.zeros((96, 160, 3), np.uint8) + 100
    clip = make_clip(tmp_path / "in.mkv", ramp, codec="ffv1", pixel_format=given)
    add_fine_ramp(clip, given)
    encoding = Encoding(codec, quality=None if codec == "ffv1" else 1)
    with (
        av.open(str(clip)) as old,
        av.open(str(convert(clip, tmp_path / f"out{suffix}", encoding))) as new,
    ):
        before, after = (next(f.decode(video=0)) for f in (old, new))
        assert after.format.name == given
        planes = [np.frombuffer(f.planes[0], np.uint16)[:160].astype(int) for f in (before, after)]
    assert len(set(planes[0].tolist())) > 12
    assert np.abs(planes[0] - planes[1]).max() <= 1 + 3 * (codec == "hevc")
    assert len(set(planes[1].tolist())) > 12


def add_fine_ramp(path: Path, pixel_format: str) -> None:
    """Write it anew with luma that rises by single steps of its own depth."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 160, 96, pixel_format
        for index in range(3):
            frame = av.VideoFrame(160, 96, pixel_format)
            for number, plane in enumerate(frame.planes):
                bits = 12 if "12" in pixel_format else 10
                rows = np.full((plane.height, plane.line_size // 2), 1 << (bits - 1), np.uint16)
                if number == 0:
                    rows[:] = (400 << (bits - 10)) + np.arange(rows.shape[1]) // 10
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = index, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def differences(before: Path, after: Path) -> float:
    """The mean in levels, of the frames' luma."""
    with av.open(str(before)) as old, av.open(str(after)) as new:
        pairs = zip(old.decode(video=0), new.decode(video=0), strict=True)
        # Chroma at half the size is not the same after it was interpolated to RGB.
        weights = np.array([0.2126, 0.7152, 0.0722])
        pictures = [[f.to_ndarray(format="rgb24") @ weights for f in pair] for pair in pairs]
    return float(np.mean([np.abs(a - b).mean() for a, b in pictures]))
