from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime.video import segment
from deblurgan.runtime.video.muxer import decode_times
from deblurgan.runtime.video.segment import (
    CodedPacket,
    SegmentWriter,
    digest_of,
    open_segment,
    segment_of,
)


def packet(pts: int, dts: int, content: bytes, *, is_keyframe: bool = False) -> av.Packet:
    made = av.Packet(content)
    made.pts, made.dts, made.duration, made.is_keyframe = pts, dts, 512, is_keyframe
    return made


def write(path: Path) -> Path:
    writer = SegmentWriter(path)
    writer.add(packet(0, -1024, b"key", is_keyframe=True))
    writer.add(packet(1024, -512, b"\0" * 5000))
    writer.add(packet(512, 0, b"b"))
    assert not path.exists(), "named before it is whole"
    writer.close(b"header", "last")
    return path


def test_packets_come_back_as_they_were(tmp_path: Path) -> None:
    found = open_segment(write(tmp_path / "000000.segment"))
    assert found is not None
    assert list(found.summary.times) == [0, 512, 1024]
    assert (found.summary.delay, found.summary.header) == (2, b"header".hex())
    assert list(found.packets()) == [
        CodedPacket(0, 512, True, b"key"),
        CodedPacket(1024, 512, False, b"\0" * 5000),
        CodedPacket(512, 512, False, b"b"),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["000000.segment"]


@given(where=st.floats(0, 1, exclude_max=True), change=st.sampled_from(["cut", "flip", "more"]))
def test_a_damaged_one_is_none(where: float, change: str, tmp_path_factory: object) -> None:
    path = write(Path(tmp_path_factory.mktemp("segment")) / "000000.segment")  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    at = int(where * len(content))
    if change == "flip":
        content[at] ^= 1 << (at % 8)
    path.write_bytes(content[:at] if change == "cut" else content + b"x" * (change == "more"))
    assert open_segment(path) is None


def test_another_versions_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "MAGIC", segment.MAGIC.replace(b"1", b"2"))
    path = write(tmp_path / "000000.segment")
    assert open_segment(path) is not None
    monkeypatch.undo()
    assert open_segment(path) is None


def test_segments_are_two_seconds_of_the_output() -> None:
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.time_base = Fraction(1, 90000)
    numbers = []
    for seconds in (-1, 0, 1.9999, 2, 3.5, 4):
        frame.pts = round(seconds * 90000)
        numbers.append(segment_of(frame))
    assert numbers == [-1, 0, 0, 1, 1, 2]


def test_a_picture_is_known_again_whatever_pads_its_rows() -> None:
    pixels = np.arange(30 * 31 * 3, dtype=np.uint8).reshape(30, 31, 3)
    frames = [av.VideoFrame.from_ndarray(pixels, format="rgb24") for _ in range(2)]
    assert frames[0].planes[0].line_size > 31 * 3
    padding = np.frombuffer(frames[1].planes[0], np.uint8).reshape(30, -1)
    padding[:, 93:] = 7
    assert digest_of(frames[0]) == digest_of(frames[1])
    padding[3, 4] ^= 1
    assert digest_of(frames[0]) != digest_of(frames[1])


@given(
    steps=st.lists(st.integers(1, 9000), min_size=1, max_size=40),
    delay=st.integers(0, 4),
    begin=st.integers(-1000, 1000),
)
def test_times_of_decoding_rise_and_none_is_after_showing(
    steps: list[int], delay: int, begin: int
) -> None:
    """For every order of coding that such a delay allows."""
    shown = list(np.cumsum([begin, *steps]))
    decoded = decode_times(shown, delay, 512)
    assert len(decoded) == len(shown)
    assert all(a < b for a, b in itertools.pairwise(decoded))
    # The earliest that a packet at place i may show is the frame `delay` places before.
    assert all(time <= shown[max(0, i - delay)] for i, time in enumerate(decoded))
