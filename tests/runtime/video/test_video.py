"""The video contract: what comes out differs by its sharpness and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.backends import Backend
from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.streams import is_written_anew

FAST = Encoding(preset="ultrafast")
Make = Callable[..., Path]
Convert = Callable[..., Path]
Read = Callable[[Path], Any]


class Negative:
    description, in_flight, memory = "negative", 2, None

    def run(self, frames: Frames) -> Frames:
        return 255 - frames

    def close(self) -> None: ...


VARIABLE = [0, 512, 1100, 1600, 5000, 5200, 9000, 9512, 20000, 20500, 21000, 40000]


@pytest.mark.parametrize("times", [None, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_timestamps_sound_and_subtitles_are_kept(
    make_clip: Make,
    tmp_path: Path,
    suffix: str,
    times: list[int] | None,
    convert: Convert,
    contents: Read,
) -> None:
    subtitles = suffix == ".mkv"
    clip = make_clip(tmp_path / f"in{suffix}", times=times, sound=True, subtitles=subtitles)
    before = contents(clip)
    after = contents(convert(clip, tmp_path / f"out{suffix}"))
    assert [pts for pts, _ in after.frames] == [pts for pts, _ in before.frames]
    assert len(before.frames) == 12
    assert after.passed_on == before.passed_on
    assert set(before.passed_on) == ({"audio", "subtitle"} if subtitles else {"audio"})


def test_the_clip_lasts_as_long_as_it_did(
    make_clip: Make, tmp_path: Path, convert: Convert
) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    out = convert(clip, tmp_path / "out.mp4")
    with av.open(str(clip)) as before, av.open(str(out)) as after:
        assert after.duration == before.duration


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_pause_before_the_end_makes_it_no_longer(
    make_clip: Make, tmp_path: Path, convert: Convert, suffix: str
) -> None:
    """MP4 tells lengths in the order of decoding: there the last frame to be shown has the
    pause's, where B-frames come behind it.
    """
    times = [512 * i for i in (*range(8), *range(60, 63))]
    options = {"bf": "3", "b_strategy": "0"}
    clip = make_clip(tmp_path / "in.mp4", times=times, options=options)
    with av.open(str(clip)) as file:
        durations = [float(f.duration * f.time_base) for f in file.decode(video=0)]
        assert durations[-1] > 1, "else this clip does not show it"
    out = convert(clip, tmp_path / f"out{suffix}")
    with av.open(str(out)) as file:
        assert file.duration == pytest.approx(63 / 30 * 1e6, abs=2000)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_broadcasts_clock_is_not_waited_for(
    make_clip: Make, tmp_path: Path, convert: Convert, contents: Read, suffix: str
) -> None:
    clip = make_clip(tmp_path / "early.ts", sound=True)
    late = tmp_path / "late.ts"
    with av.open(str(clip)) as file, av.open(str(late), "w") as output:
        copies = {s.index: output.add_stream_from_template(s) for s in file.streams}
        for packet in file.demux():
            if packet.size:
                ticks = round(50_000 / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    before, after = contents(late), contents(convert(late, tmp_path / f"out{suffix}"))
    assert before.frames[0][0] > 50_000
    assert 0 <= after.frames[0][0] < 0.2
    shift = before.frames[0][0] - after.frames[0][0]
    for (old, _), (new, _) in zip(before.frames, after.frames, strict=True):
        assert abs(old - shift - new) <= Fraction(1, 1000)
    sound = zip(before.passed_on["audio"], after.passed_on["audio"], strict=True)
    assert all(abs(old - shift - new) <= Fraction(2, 1000) for (old, _), (new, _) in sound)
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert file.duration < 2_000_000


def test_frames_before_a_broadcasts_first_packet_are_kept(
    make_clip: Make, tmp_path: Path, convert: Convert, contents: Read
) -> None:
    """Cut at a key frame of HEVC, whose packet comes first and is shown after others (RADL)."""
    options = (
        "open-gop=0:radl=2:keyint=20:min-keyint=20:scenecut=0:bframes=3:b-adapt=0:log-level=error"
    )
    whole, clip = tmp_path / "whole.ts", tmp_path / "cut.ts"
    times = [512 * i for i in range(60)]
    make_clip(whole, times=times, codec="libx265", options={"x265-params": options})
    keys = 0
    with av.open(str(whole)) as file, av.open(str(clip), "w") as output:
        copy = output.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            keys += packet.is_keyframe
            if keys > 1 and packet.size:
                packet.stream = copy
                output.mux(packet)
    with av.open(str(clip)) as file:
        video = file.streams.video[0]
        told = video.start_time
        assert next(file.decode(video)).pts < told, "else this clip does not show it"
    before, after = contents(clip), contents(convert(clip, tmp_path / "out.mp4"))
    assert len(after.frames) == len(before.frames)
    assert after.frames[0][0] == 0


@pytest.mark.parametrize(
    ("suffix", "codec", "is_kept"),
    [(".webm", "av1", False), (".mp4", "av1", True), (".mkv", "prores", False)],
)
def test_a_shape_of_pixels_that_cannot_be_told_is_said(
    make_clip: Make, tmp_path: Path, suffix: str, codec: str, is_kept: bool, unchanged: Backend
) -> None:
    clip = make_clip(tmp_path / "in.mp4", options={"x264-params": "sar=16/15"})
    out = tmp_path / f"out{suffix}"
    with (
        VideoSource(clip) as video,
        VideoSink(out, video, Encoding(codec, preset="12" if codec == "av1" else None)) as sink,
    ):
        line = f"the shape of pixels (16:15), not told with {codec} in this container"
        assert sink.left_out == [line] * (not is_kept)
        deblur_video(video, sink, unchanged)
    with av.open(str(out)) as file:
        assert (file.streams.video[0].sample_aspect_ratio == Fraction(16, 15)) is is_kept


def test_the_tracks_of_chapters_and_a_timecode_are_not_said_to_be_left_out(
    make_clip: Make, tmp_path: Path, convert: Convert
) -> None:
    plain, clip = make_clip(tmp_path / "plain.mp4"), tmp_path / "in.mp4"
    chapter = {"id": 0, "start": 0, "end": 200, "time_base": Fraction(1, 1000)}
    with av.open(str(plain)) as file, av.open(str(clip), "w") as output:
        copy = output.add_stream_from_template(file.streams.video[0])
        output.set_chapters([{**chapter, "metadata": {"title": "one"}}])
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    with VideoSource(clip) as video:
        assert any(s.type == "data" for s in video.container.streams)
        assert video.written_anew == video.left_out
        with VideoSink(tmp_path / "none.mp4", video, FAST) as sink:
            assert sink.left_out == []
        code = {"timecode": "01:02:03:04"}
        track: Any = SimpleNamespace(type="data", metadata=code)
        assert not is_written_anew(track, video.stream)
        video.stream.metadata.update(code)
        assert is_written_anew(track, video.stream)
    with av.open(str(convert(clip, tmp_path / "out.mp4"))) as file:
        assert len(file.chapters()) == 1


def test_closed_captions_are_said_to_be_left_out(
    make_clip: Make, tmp_path: Path, unchanged: Backend
) -> None:
    clip, said = with_captions(make_clip(tmp_path / "in.ts", options={"bf": "0"})), list[str]()
    out = tmp_path / "out.mp4"
    with VideoSource(clip, warn=said.append) as video, VideoSink(out, video, FAST) as sink:
        assert sink.left_out == ["closed captions, which lie among the pictures"]
        video._has_captions = False  # as where the first frame has none
        deblur_video(video, sink, unchanged)
    assert said.count("left out: closed captions, which lie among the pictures") == 1


def with_captions(clip: Path) -> Path:
    """The clip's pictures with an empty caption (CEA-608) in front of each, as H.264 alone."""
    payload = b"\xb5\x00\x31GA94\x03\x41\xff\xfc\x80\x80\xff"
    message = b"\0\0\0\1\x06\x04" + bytes([len(payload)]) + payload + b"\x80"
    out = clip.with_suffix(".h264")
    with av.open(str(clip)) as file, out.open("wb") as raw:
        for packet in file.demux(video=0):
            before, start, picture = bytes(packet).rpartition(b"\0\0\1")
            raw.write(before + message + start + picture if start else b"")
    return out


def test_a_codec_that_the_header_refuses_is_left_out_where_that_is_asked(
    make_clip: Make, tmp_path: Path, unchanged: Backend
) -> None:
    """MOV lists FLAC, and refuses it when its header is written."""
    silent, clip = make_clip(tmp_path / "silent.mp4"), tmp_path / "in.mkv"
    with av.open(str(silent)) as file, av.open(str(clip), "w") as output:
        copy = output.add_stream_from_template(file.streams.video[0])
        tone = output.add_stream("flac", rate=48000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), "s16", "stereo")
        frame.sample_rate, frame.pts = 48000, 0
        packets = [*tone.encode(frame), *tone.encode(None)]
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
        output.mux(packets)
    out = tmp_path / "out.mov"
    with VideoSource(clip) as video:
        with pytest.raises(DeblurError, match=r"\(audio flac\); write out.mkv, or leave such out"):
            VideoSink(out, video, FAST)
        with VideoSink(out, video, FAST, drop_streams=True) as sink:
            assert sink.left_out == ["stream 1 (audio flac)"]
            deblur_video(video, sink, unchanged)
    assert out.exists()


def test_another_container_rounds_by_a_tick_at_most(
    make_clip: Make, tmp_path: Path, convert: Convert, contents: Read
) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=VARIABLE, sound=True)
    before, after = contents(clip), contents(convert(clip, tmp_path / "out.mkv"))
    tick = Fraction(1, 1000)
    pairs = zip(before.frames, after.frames, strict=True)
    assert all(abs(old - new) <= tick for (old, _), (new, _) in pairs)
    sound = zip(before.passed_on["audio"], after.passed_on["audio"], strict=True)
    assert all(old[1] == new[1] and abs(old[0] - new[0]) <= tick for old, new in sound)


PHONES = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.location.ISO6709": "+52.5200+013.4050/",
    "com.android.capture.fps": "240",
}


@pytest.mark.parametrize("suffix", ["mov", "mp4", "mkv"])
def test_what_phones_tell_of_a_clip_is_kept(
    suffix: str, make_clip: Make, tmp_path: Path, convert: Convert
) -> None:
    clip, phone = make_clip(tmp_path / "in.mp4"), tmp_path / "phone.mov"
    with (
        av.open(str(clip)) as source,
        av.open(str(phone), "w", options={"movflags": "use_metadata_tags"}) as out,
    ):
        out.metadata.update(PHONES, title="a walk")
        copy = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    with av.open(str(convert(phone, tmp_path / f"out.{suffix}"))) as file:
        told = {name.lower(): value for name, value in file.metadata.items()}
    assert {name.lower(): value for name, value in PHONES.items()}.items() <= told.items()
    assert told["title"] == "a walk"


def test_a_title_stays_where_players_look_for_it(
    make_clip: Make, tmp_path: Path, convert: Convert
) -> None:
    clip, named = make_clip(tmp_path / "in.mp4"), tmp_path / "named.mkv"
    with av.open(str(clip)) as source, av.open(str(named), "w") as out:
        out.metadata["title"] = "a walk"
        copy = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    assert b"\xa9nam" in convert(named, tmp_path / "out.mp4").read_bytes()


@pytest.mark.parametrize("degrees", [90, 180])
def test_rotation_is_kept(
    make_clip: Make, tmp_path: Path, degrees: int, convert: Convert, contents: Read
) -> None:
    clip = make_clip(tmp_path / "in.mp4", rotation=degrees)
    before, after = contents(clip), contents(convert(clip, tmp_path / "out.mp4"))
    assert before.matrix is not None
    assert after.matrix == before.matrix


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_every_codec_keeps_time(
    make_clip: Make, tmp_path: Path, codec: str, convert: Convert, contents: Read
) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True)
    preset = "12" if codec == "av1" else "ultrafast"
    out = convert(clip, tmp_path / "out.mp4", Encoding(codec, preset=preset))
    assert [pts for pts, _ in contents(out).frames] == [pts for pts, _ in contents(clip).frames]


def test_frames_that_change_their_size_are_scaled_and_said(
    make_clip: Make, photo: Frames, tmp_path: Path, contents: Read, unchanged: Backend
) -> None:
    """Two streams of H.264, one after the other, as a broadcast switches."""
    larger = np.ascontiguousarray(photo.repeat(2, 0).repeat(2, 1))
    times, base = list(range(5)), Fraction(1, 30)
    large = make_clip(tmp_path / "large.h264", larger, times=times, time_base=base)
    small = make_clip(tmp_path / "small.h264", times=times, time_base=base)
    both, out = tmp_path / "both.h264", tmp_path / "out.mp4"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    said: list[str] = []
    with VideoSource(both, warn=said.append) as video, VideoSink(out, video, FAST) as sink:
        deblur_video(video, sink, unchanged)
    assert len(contents(out).frames) == 10
    assert sum("scaled to 160x96" in line for line in said) == 1


@pytest.mark.parametrize(
    ("sound", "suffix", "target"),
    [
        ("pcm_s16le", ".avi", ".mp4"),  # which does not say which channels they are
        ("pcm_s16le", ".mkv", ".mov"),  # which times every sample
        ("aac", ".ts", ".mp4"),  # whose packets have headers
        ("flac", ".mkv", ".mkv"),
        ("alac", ".mkv", ".mp4"),  # whose packets do not tell their length
        ("libopus", ".webm", ".mp4"),
    ],
)
def test_sound_of_every_kind_comes_through_the_check(
    tmp_path: Path,
    photo: Frames,
    sound: str,
    suffix: str,
    target: str,
    convert: Convert,
    contents: Read,
) -> None:
    clip = tmp_path / f"in{suffix}"
    with av.open(str(clip), "w") as output:
        video = output.add_stream("libvpx-vp9" if suffix == ".webm" else "mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        audio = output.add_stream(sound, rate=48000, layout="stereo")
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(np.roll(photo, index, 1), format="rgb24")
            output.mux(video.encode(frame))
            wave = np.sin(np.arange(1920) * 0.06 * (index + 1)) * 8000
            packed = np.repeat(wave.astype(np.int16), 2)[None]
            heard = av.AudioFrame.from_ndarray(packed, format="s16", layout="stereo")
            if sound == "alac":
                planar = np.ascontiguousarray(packed.reshape(-1, 2).T)
                heard = av.AudioFrame.from_ndarray(planar, format="s16p", layout="stereo")
            heard.sample_rate, heard.pts = 48000, 1920 * index
            output.mux(audio.encode(heard))
        output.mux([*video.encode(None), *audio.encode(None)])
    out = convert(clip, tmp_path / f"out{target}")
    assert len(contents(out).frames) == 25
    assert contents(out).passed_on["audio"]


def test_h264_in_avi_is_shown_evenly(
    make_clip: Make, tmp_path: Path, convert: Convert, contents: Read
) -> None:
    """AVI tells when packets are decoded, which B-frames take out of order."""
    options = {"bf": "3", "x264-params": "b-adapt=0"}
    clip = make_clip(
        tmp_path / "in.avi", times=list(range(24)), time_base=Fraction(1, 30), options=options
    )
    times = [pts for pts, _ in contents(convert(clip, tmp_path / "out.mkv")).frames]
    gaps = [late - early for early, late in itertools.pairwise(times)]
    assert len(times) == 24
    assert max(gaps[1:]) - min(gaps[1:]) <= Fraction(2, 1000), "after AVI's own first gap"


def test_a_raw_stream_without_times_gets_them_one_after_the_other(
    make_clip: Make, tmp_path: Path, convert: Convert, contents: Read
) -> None:
    clip = make_clip(tmp_path / "in.h264", times=list(range(9)), time_base=Fraction(1, 30))
    out = convert(clip, tmp_path / "out.mp4")
    times = [pts for pts, _ in contents(out).frames]
    assert len(times) == 9
    assert all(late > early for early, late in itertools.pairwise(times))


def test_interlaced_input_is_known(make_clip: Make, tmp_path: Path) -> None:
    with VideoSource(make_clip(tmp_path / "in.mp4")) as source:
        assert not source.is_interlaced
    clip = tmp_path / "interlaced.mkv"
    with av.open(str(clip), "w") as output:
        stream = output.add_stream("libx264", rate=Fraction(25), options={"x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(4):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with VideoSource(clip) as source:
        assert source.is_interlaced


def test_streams_are_left_out_where_that_is_asked(
    make_clip: Make, tmp_path: Path, contents: Read, unchanged: Backend
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", sound=True), tmp_path / "out.webm"
    with (
        VideoSource(clip) as video,
        VideoSink(out, video, Encoding(preset="12"), drop_streams=True) as sink,
    ):
        assert sink.left_out == ["stream 1 (audio aac)"]
        deblur_video(video, sink, unchanged)
    assert contents(out).passed_on == {}
    assert len(contents(out).frames) == 12


@pytest.mark.parametrize("layout", ["side", "split"])
def test_a_comparison_shows_both(make_clip: Make, tmp_path: Path, layout: str) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with VideoSource(clip) as video:
        comparison = Comparison(layout, *video.size)
        with VideoSink(out, video, FAST, comparison=comparison) as sink:
            deblur_video(video, sink, Negative())
    with av.open(str(clip)) as old, av.open(str(out)) as new:
        before = next(old.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        after = next(new.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert after.shape[1] == 160 * (2 if layout == "side" else 1)
    assert np.abs(after[40:, :70] - before[40:, :70]).mean() < 6
    assert np.abs(after[40:, -70:] - (255 - before[40:, -70:])).mean() < 6


def test_webm_takes_av1(make_clip: Make, tmp_path: Path, convert: Convert, contents: Read) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    out = convert(clip, tmp_path / "out.webm", Encoding(preset="12"))
    assert len(contents(out).frames) == 12


def test_what_the_container_cannot_hold_is_refused_before_the_first_frame(
    make_clip: Make, tmp_path: Path, convert: Convert
) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True)
    with pytest.raises(DeblurError, match=r"stream 1 \(audio aac.*write out.mkv"):
        convert(clip, tmp_path / "out.webm")
    subtitled = make_clip(tmp_path / "in.mkv", subtitles=True)
    with pytest.raises(DeblurError, match=r"\(subtitle"):
        convert(subtitled, tmp_path / "out.mp4")
    with pytest.raises(DeblurError, match="a codec that webm holds, found h264"):
        convert(make_clip(tmp_path / "silent.mp4"), tmp_path / "out.webm", Encoding("h264"))
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("cut", [0.3, 0.7])
def test_a_broken_clip_leaves_a_message_or_a_whole_file(
    make_clip: Make, tmp_path: Path, cut: float, convert: Convert, contents: Read
) -> None:
    clip = make_clip(tmp_path / "in.mkv", sound=True)
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * cut)])
    said = ""
    try:
        convert(clip, tmp_path / "out.mkv")
    except DeblurError as error:
        said = str(error)
    if said:
        assert said.startswith(str(clip))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv"]
    else:
        assert contents(tmp_path / "out.mkv").frames


def test_a_failure_in_the_middle_leaves_nothing(
    make_clip: Make, tmp_path: Path, unchanged: Backend
) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    seen = []

    def watch(blurred: Frames, sharp: Frames) -> None:
        seen.append(sharp)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        VideoSource(clip) as video,
        VideoSink(tmp_path / "out.mp4", video, FAST) as sink,
    ):
        deblur_video(video, sink, unchanged, watch)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    "name",
    [
        "gopro_max-heromode.mp4",
        "bikes.mp4",
        pytest.param("intel_car-detection.mp4", marks=pytest.mark.slow),
    ],
)
def test_real_clips_keep_frames_times_and_sound(
    shared: Path, tmp_path: Path, name: str, convert: Convert, contents: Read
) -> None:
    clip = shared / "data" / "videos" / name
    before, after = contents(clip), contents(convert(clip, tmp_path / "out.mp4"))
    assert after.frames == before.frames
    assert after.passed_on == before.passed_on
    assert after.tags == before.tags
