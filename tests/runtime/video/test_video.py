"""The video contract: what comes out differs by its sharpness and nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.streams import display_matrix

FAST = Encoding(preset="ultrafast")
Make = Callable[..., Path]


class Unchanged:
    """A backend that gives every frame back: what is lost, the video code lost."""

    description, in_flight, memory = "unchanged", 2, None

    def run(self, frames: Frames) -> Frames:
        return frames

    def close(self) -> None: ...


class Negative(Unchanged):
    def run(self, frames: Frames) -> Frames:
        return 255 - frames


@dataclass
class Contents:
    """What ffprobe would list of a file, times in seconds."""

    frames: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    passed_on: dict[str, list[tuple[Fraction, bytes]]] = field(default_factory=dict)
    tags: tuple[int, int, int, int] = (0, 0, 0, 0)
    matrix: list[int] | None = None


def contents(path: Path) -> Contents:
    found = Contents()
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.stream.type == "video":
                for frame in packet.decode():
                    base = frame.time_base
                    found.frames.append((frame.pts * base, frame.duration * base))
                    found.tags = (
                        frame.colorspace,
                        frame.color_range,
                        frame.color_primaries,
                        frame.color_trc,
                    )
                    found.matrix = display_matrix(frame)
            elif packet.stream.type in ("audio", "subtitle") and packet.dts is not None:
                packets = found.passed_on.setdefault(packet.stream.type, [])
                packets.append((packet.pts * packet.time_base, bytes(packet)))
    return found


def convert(source: Path, target: Path, encoding: Encoding = FAST) -> Path:
    with VideoSource(source) as video, VideoSink(target, video, encoding) as sink:
        deblur_video(video, sink, Unchanged())
    return target


VARIABLE = [0, 512, 1100, 1600, 5000, 5200, 9000, 9512, 20000, 20500, 21000, 40000]


@pytest.mark.parametrize("times", [None, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_timestamps_sound_and_subtitles_are_kept(
    make_clip: Make, tmp_path: Path, suffix: str, times: list[int] | None
) -> None:
    subtitles = suffix == ".mkv"
    clip = make_clip(tmp_path / f"in{suffix}", times=times, sound=True, subtitles=subtitles)
    before = contents(clip)
    after = contents(convert(clip, tmp_path / f"out{suffix}"))
    assert [pts for pts, _ in after.frames] == [pts for pts, _ in before.frames]
    assert len(before.frames) == 12
    assert after.passed_on == before.passed_on
    assert set(before.passed_on) == ({"audio", "subtitle"} if subtitles else {"audio"})


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


def test_the_clip_lasts_as_long_as_it_did(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    out = convert(clip, tmp_path / "out.mp4")
    with av.open(str(clip)) as before, av.open(str(out)) as after:
        assert after.duration == before.duration


def test_another_container_rounds_by_a_tick_at_most(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=VARIABLE, sound=True)
    before, after = contents(clip), contents(convert(clip, tmp_path / "out.mkv"))
    tick = Fraction(1, 1000)
    pairs = zip(before.frames, after.frames, strict=True)
    assert all(abs(old - new) <= tick for (old, _), (new, _) in pairs)
    sound = zip(before.passed_on["audio"], after.passed_on["audio"], strict=True)
    assert all(old[1] == new[1] and abs(old[0] - new[0]) <= tick for old, new in sound)


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
    make_clip: Make, tmp_path: Path, pixel_format: str, tags: tuple[int, int, int, int]
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
    make_clip: Make, tmp_path: Path, pixel_format: str, tags: tuple[int, int, int, int]
) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format=pixel_format, tags=tags)
    out = convert(clip, tmp_path / "out.mkv", Encoding("ffv1"))
    with av.open(str(clip)) as old, av.open(str(out)) as new:
        for before, after in zip(old.decode(video=0), new.decode(video=0), strict=True):
            assert before.format.name == after.format.name
            for theirs, ours in zip(before.planes, after.planes, strict=True):
                assert bytes(theirs) == bytes(ours)


@pytest.mark.parametrize("degrees", [90, 180])
def test_rotation_is_kept(make_clip: Make, tmp_path: Path, degrees: int) -> None:
    clip = make_clip(tmp_path / "in.mp4", rotation=degrees)
    before, after = contents(clip), contents(convert(clip, tmp_path / "out.mp4"))
    assert before.matrix is not None
    assert after.matrix == before.matrix


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_every_codec_keeps_time(make_clip: Make, tmp_path: Path, codec: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True)
    preset = "12" if codec == "av1" else "ultrafast"
    out = convert(clip, tmp_path / "out.mp4", Encoding(codec, preset=preset))
    assert [pts for pts, _ in contents(out).frames] == [pts for pts, _ in contents(clip).frames]


def test_codecs_without_loss_or_nearly(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True, tags=(1, 1, 1, 1))
    lossless = convert(clip, tmp_path / "out.mkv", Encoding("ffv1"))
    prores = convert(clip, tmp_path / "out.mov", Encoding("prores"))
    assert differences(clip, lossless) <= 1, "rounding to RGB and back"
    assert differences(clip, prores) < 4


def test_prores_has_no_full_range_and_its_colours_stay(make_clip: Make, tmp_path: Path) -> None:
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
    make_clip: Make, tmp_path: Path, codec: str, suffix: str, given: str
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


def test_frames_that_change_their_size_are_scaled_and_said(
    make_clip: Make, photo: Frames, tmp_path: Path
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
        deblur_video(video, sink, Unchanged())
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
    tmp_path: Path, photo: Frames, sound: str, suffix: str, target: str
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


def test_h264_in_avi_is_shown_evenly(make_clip: Make, tmp_path: Path) -> None:
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
    make_clip: Make, tmp_path: Path
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


def test_streams_are_left_out_where_that_is_asked(make_clip: Make, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", sound=True), tmp_path / "out.webm"
    with (
        VideoSource(clip) as video,
        VideoSink(out, video, Encoding(preset="12"), drop_streams=True) as sink,
    ):
        assert sink.left_out == ["stream 1 (audio aac)"]
        deblur_video(video, sink, Unchanged())
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


def test_webm_takes_av1(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    out = convert(clip, tmp_path / "out.webm", Encoding(preset="12"))
    assert len(contents(out).frames) == 12


def test_what_the_container_cannot_hold_is_refused_before_the_first_frame(
    make_clip: Make, tmp_path: Path
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
    make_clip: Make, tmp_path: Path, cut: float
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


@pytest.mark.parametrize("content", [b"", b"not a video\n" * 100])
def test_what_is_no_video_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(content)
    with pytest.raises(DeblurError, match="expected a video"):
        VideoSource(path)


def test_a_failure_in_the_middle_leaves_nothing(make_clip: Make, tmp_path: Path) -> None:
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
        deblur_video(video, sink, Unchanged(), watch)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    "name",
    [
        "gopro_max-heromode.mp4",
        "bikes.mp4",
        pytest.param("intel_car-detection.mp4", marks=pytest.mark.slow),
    ],
)
def test_real_clips_keep_frames_times_and_sound(shared: Path, tmp_path: Path, name: str) -> None:
    clip = shared / "data" / "videos" / name
    before, after = contents(clip), contents(convert(clip, tmp_path / "out.mp4"))
    assert after.frames == before.frames
    assert after.passed_on == before.passed_on
    assert after.tags == before.tags
