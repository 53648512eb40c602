from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.span import Span, parse_span, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("0:01:30.5", Fraction(181, 2)), ("2.25s", Fraction(9, 4))],
)
def test_times_are_read(text: str, seconds: Fraction) -> None:
    assert parse_time("--start", text) == seconds


@pytest.mark.parametrize("text", ["", "-3", "1:2:3:4", "soon", "1e3", "10%"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(DeblurError, match="--start: expected seconds"):
        parse_time("--start", text)


def test_nothing_is_no_part() -> None:
    with pytest.raises(DeblurError, match="more than nothing"):
        parse_span(None, "0")
    assert parse_span(None, None).is_whole


@given(st.fractions(0, 100), st.fractions(0, 100), st.fractions(0, 100))
def test_seconds_lie_within_the_video(start: Fraction, length: Fraction, whole: Fraction) -> None:
    taken = Span(start, length).seconds_of(whole)
    assert 0 <= taken <= min(length, whole)
    assert taken == 0 or start + taken <= whole


TIMES = [512 * i for i in range(60)]  # two seconds of 30 frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_span_holds_its_frames_and_sound_from_zero_on(
    make_clip: Callable[..., Path], tmp_path: Path, suffix: str
) -> None:
    settings = {"time_base": Fraction(1, 30), "codec": "mpeg4"} if suffix == ".avi" else {}
    times = list(range(60)) if suffix == ".avi" else TIMES
    clip = make_clip(tmp_path / f"in{suffix}", times=times, sound=True, **settings)
    with VideoSource(clip) as source:
        whole = list(source)
    with VideoSource(clip, span=Span(Fraction(1, 2), Fraction(1))) as source:
        frames, sound = list(source), list(source.packets())
    seconds = [frame.origin.pts * frame.origin.time_base for frame in frames]
    assert seconds[0] == 0
    assert len(frames) == pytest.approx(30, abs=1)
    first = next(f for f in whole if f.origin.pts * f.origin.time_base >= Fraction(1, 2))
    assert (frames[0].pixels == first.pixels).all()
    heard = [packet.pts * packet.time_base for packet in sound]
    assert 0 <= heard[0] < Fraction(1, 20)
    assert 0.9 < heard[-1] < 1 + sound[0].time_base, "AVI counts sound in packets"
    assert len(sound) == pytest.approx(48000 / 1024, abs=2)


def test_a_start_behind_the_end_is_refused(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    with pytest.raises(DeblurError, match=r"--start: expected a part with frames .* 0\.40 s"):
        VideoSource(clip, span=Span(Fraction(7)))


def test_a_span_of_an_open_gop_starts_with_the_right_picture(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """Its key frames are followed by pictures that are shown before them, and refer to
    what lies before.
    """
    clip = tmp_path / "in.mp4"
    times = [512 * i for i in range(120)]
    make_clip(
        clip, times=times, options={"bf": "3", "x264-params": "open-gop=1:keyint=10:b-adapt=0"}
    )
    with VideoSource(clip) as source:
        whole = list(source)
    for first in (9, 10, 49, 50, 58, 71):
        with VideoSource(clip, span=Span(Fraction(first, 30), Fraction(1, 6))) as source:
            part = list(source)
        assert len(part) == 5
        for here, there in zip(part, whole[first:], strict=False):
            assert (here.pixels == there.pixels).all()


def test_what_an_edit_list_leaves_out_stays_left_out(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """A part of a clip without encoding it anew, as players and phones cut."""
    clip, cut = make_clip(tmp_path / "in.mp4", times=TIMES, sound=True), tmp_path / "cut.mp4"
    with av.open(str(clip)) as old, av.open(str(cut), "w") as new:
        copies = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.size:
                base = packet.time_base
                packet.stream = copies[packet.stream.index]
                packet.pts -= round(Fraction(1, 2) / base)
                packet.dts -= round(Fraction(1, 2) / base)
                new.mux(packet)
    with av.open(str(cut)) as file:
        shown = [frame.pts * frame.time_base for frame in file.decode(video=0)]
    with VideoSource(cut) as source:
        frames = [item.origin for item in source]
    assert [frame.pts * frame.time_base for frame in frames] == shown
    assert len(shown) < 60


def test_a_frame_that_is_on_screen_for_long_is_part_of_what_starts_within_it(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mkv", times=[15360 * 4 * i for i in range(4)])
    with VideoSource(clip) as source:
        whole = [item.pixels for item in source]
    for span, shown in ((Span(Fraction(5)), [1, 2, 3]), (Span(Fraction(5), Fraction(2)), [1])):
        with VideoSource(clip, span=span) as source:
            part = list(source)
        assert [item.origin.pts * item.origin.time_base for item in part] == [0, 3, 7][: len(shown)]
        assert all((item.pixels == whole[i]).all() for item, i in zip(part, shown, strict=True))


def test_a_broadcast_is_read_to_the_start_where_it_cannot_be_searched(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """A stream of a single key frame, and no index."""
    options = {"bf": "2", "g": "1000"}
    clip = make_clip(tmp_path / "in.ts", times=TIMES, sound=True, options=options)
    with VideoSource(clip) as source:
        whole = [item.pixels for item in source]
    with VideoSource(clip, span=Span(Fraction(3, 2), Fraction(1, 5))) as source:
        part = list(source)
    assert (part[0].pixels == whole[45]).all()
    assert len(part) == 6
