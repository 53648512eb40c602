"""Streams that are not what their headers say, and packets out of order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.video.frame_reader import FrameReader
from deblurgan.runtime.video.packet_reader import read_packets
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.video_input import VideoInput

Make = Callable[..., Path]


def replace_once(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_a_codec_that_nobody_knows_is_said(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    replace_once(clip, b"avc1\x00", b"avc!\x00")
    with pytest.raises(DeblurError, match=r"in a codec that FFmpeg decodes, found one of no known"):
        FrameReader(VideoInput.of_file(clip), Span(), seek=False)


def test_a_stream_that_can_be_decoded_is_preferred(make_clip: Make, tmp_path: Path) -> None:
    clip, two = make_clip(tmp_path / "in.mp4"), tmp_path / "two.mp4"
    with av.open(str(clip)) as source, av.open(str(two), "w") as out:
        copies = [out.add_stream_from_template(source.streams.video[0]) for _ in range(2)]
        for packet in source.demux(video=0):
            if packet.size:
                for copy in copies:
                    packet.stream = copy
                    out.mux(packet)
    content = two.read_bytes()
    first = content.index(b"avc1\x00")
    two.write_bytes(content[:first] + b"avc!" + content[first + 4 :])
    reader = FrameReader(VideoInput.of_file(two), Span(), seek=False)
    assert reader.stream.index == 1
    reader.close()


def test_a_stream_that_tells_no_size_is_no_division_by_zero(
    make_clip: Make, tmp_path: Path
) -> None:
    """The header of a recording without a key frame: no size, and nothing to decode."""
    clip = make_clip(tmp_path / "in.mp4", codec="mpeg4")
    with av.open(str(clip)) as whole:
        header = whole.streams.video[0].codec_context.extradata
    assert header is not None
    size = b"\x00\xa0\x00\x60"
    content = clip.read_bytes().replace(header, bytes(len(header)))
    clip.write_bytes(content.replace(size, bytes(4)))
    reader = FrameReader(VideoInput.of_file(clip), Span(), seek=False)
    assert reader.stream.codec_context.width == 0
    reader.close()


def test_sound_whose_times_go_back_is_mended_and_said(make_clip: Make, tmp_path: Path) -> None:
    clip, said = make_clip(tmp_path / "in.mkv", sound=True), list[str]()
    shuffled = tmp_path / "shuffled.mkv"
    with av.open(str(clip)) as source, av.open(str(shuffled), "w") as out:
        copies = {stream: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream]
                out.mux(packet)
    # A block's time in its cluster, which nothing guards: the fourth of sound, a second later.
    content = bytearray(shuffled.read_bytes())
    blocks = [at for at in range(len(content) - 4) if is_block(content, at, track=2)]
    content[blocks[3] + 1] += 4
    shuffled.write_bytes(content)
    given = VideoInput.of_file(shuffled)
    packets = read_packets(given, Span(), offset=Fraction(0), seek=False, warn=said.append)
    times = [packet.dts for packet in packets]
    assert len(times) > 15
    assert all(late >= early for early, late in itertools.pairwise(times))
    assert sum("times of stream 1 (audio aac) go back" in line for line in said) == 1


def is_block(content: bytes, at: int, track: int) -> bool:
    """Whether a SimpleBlock's track number stands here, after one or two bytes of its length:
    then come its time and its flags.
    """
    return content[at] == 0x80 | track and 0xA3 in content[at - 3 : at - 1]


def test_a_clock_that_jumps_back_is_refused(make_clip: Make, tmp_path: Path) -> None:
    """Recordings of a camera that were put one behind the other, byte by byte."""
    part, clip = make_clip(tmp_path / "a.ts", times=[512 * i for i in range(60)]), tmp_path / "b.ts"
    clip.write_bytes(2 * part.read_bytes())
    with (
        VideoSource(clip) as video,
        pytest.raises(
            DeblurError,
            match=r"clock that goes forward, found one that goes back by 1\.97 s at 2\.\d\d s.*"
            r"ffmpeg -i FILE -c copy",
        ),
    ):
        list(video)
    # Those who make parts of it may each see one clock alone.
    with VideoSource(clip) as video, pytest.raises(DeblurError, match="one that goes back by"):
        list(video.packets())


def test_a_stream_goes_on_where_its_clock_jumps_back(make_clip: Make, tmp_path: Path) -> None:
    uneven = [2 * i + i % 2 for i in range(40)]
    parts = [
        make_clip(tmp_path / f"{number}.ts", times=[512 * i for i in times])
        for number, times in enumerate([range(60), uneven])
    ]
    (tmp_path / "b.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    given = VideoInput.of_file(tmp_path / "b.ts")
    with VideoSource(replace(given, is_stream=True)) as video:
        times = [float(frame.origin.time) for frame in video]
    expected = [i / 30 for i in (*range(60), *(60 + i for i in uneven))]
    assert times == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(
    ("number", "lost"), [(0, "30 of 60 frames"), (59, r"[1-3] of 60 frames"), (None, None)]
)
def test_frames_that_do_not_decode_at_either_end_are_said(
    number: int | None, lost: str | None, make_clip: Make, tmp_path: Path
) -> None:
    clip, said = tmp_path / "in.mp4", list[str]()
    options = {"bf": "2", "g": "30", "x264-params": "scenecut=0"}
    make_clip(clip, times=[512 * i for i in range(60)], options=options)
    if number is not None:
        with av.open(str(clip)) as file:
            packet = [p for p in file.demux(video=0) if p.size][number]
        content = bytearray(clip.read_bytes())
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
        clip.write_bytes(content)
    with VideoSource(clip, warn=said.append) as video:
        frames = len(list(video))
    assert len(said) == (lost is not None)
    if lost is not None:
        assert re.match(f"left out: {lost}, which do not decode", said[0])
        assert frames == 60 - int(said[0].split()[2])


def test_fields_are_not_taken_for_frames_that_are_lost(make_clip: Make, tmp_path: Path) -> None:
    clip, said = tmp_path / "in.mkv", list[str]()
    make_clip(clip, options={"flags": "+ilme+ildct", "x264-params": "tff=1", "bf": "0"})
    with VideoSource(clip, warn=said.append) as video:
        assert video.is_interlaced
        assert len(list(video)) == 12
    assert said == []


def test_a_cut_off_avi_is_said(make_clip: Make, tmp_path: Path) -> None:
    """FFmpeg makes its index anew, and says nothing."""
    clip = tmp_path / "in.avi"
    make_clip(clip, times=list(range(120)), time_base=Fraction(1, 30), codec="mpeg4")
    whole = clip.read_bytes()
    said: list[str] = []
    for name, length in (("whole", len(whole)), ("cut", len(whole) // 2)):
        (tmp_path / f"{name}.avi").write_bytes(whole[:length])
        with VideoSource(tmp_path / f"{name}.avi", warn=said.append) as video:
            assert list(video.packets()) == []
    assert len(said) == 1
    assert re.match(r"cut.avi ends after [12]\.\d\d s of 4.00 s: it may have been cut", said[0])


@pytest.mark.parametrize("content", [b"", b"not a video\n" * 100])
def test_what_is_no_video_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(content)
    with pytest.raises(DeblurError, match="expected a video"):
        VideoSource(path)
