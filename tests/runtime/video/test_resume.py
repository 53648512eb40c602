"""A stopped job goes on where it was, and its file is the one of a job that was not stopped."""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.disk import DiskError
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.job import Job, go_on, open_sink, open_source
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tiling.fitting import Tile
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.unfinished import NAMED, Unfinished, was_finished
from deblurgan.runtime.video.video_input import VideoInput, parse_input

Make = Callable[..., Path]
FAST = Encoding(preset="ultrafast", quality=40)
HALF = [512 * i for i in range(0, 300, 2)]  # ten seconds of 15 frames
PROGRAM = "from deblurgan.runtime.app import main; main()"


class Darker:
    """A backend whose result shows, and that is quick."""

    description, in_flight, memory = "darker", 2, None

    def run(self, frames: Frames) -> Frames:
        return frames // 2

    def close(self) -> None: ...


class Stop(Exception):
    pass


def run(
    clip: Path | VideoInput,
    out: Path,
    *,
    stop_at: int | None = None,
    encoding: Encoding = FAST,
    span: Span | None = None,
    job: dict[str, str] | None = None,
    keep: bool = True,
) -> tuple[int, list[str]]:
    """The frames that were deblurred, and what was said; stopped at one of them."""
    done, said = 0, list[str]()

    def watch(blurred: Frames, sharp: Frames) -> None:
        nonlocal done
        done += 1
        if done == stop_at:
            raise Stop

    try:
        with (
            VideoSource(clip, span=span) as source,
            VideoSink(out, source, encoding, keep=keep, warn=said.append) as sink,
        ):
            sink.go_on(job or {"model": "darker"})
            deblur_video(source, sink, Darker(), watch)
    except Stop:
        pass
    return done, said


def unfinished(out: Path) -> Path:
    return out.with_name(f".{out.name}.unfinished")


CLIPS: dict[str, dict[str, Any]] = {
    "in.mp4": {"sound": True},
    "open.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=10:b-adapt=0"}},
    "in.mkv": {"codec": "libx265", "sound": True,
               "options": {"x265-params": "log-level=error"}},
    "one-key.ts": {"options": {"bf": "2", "g": "10000"}},
    "in.avi": {"codec": "mpeg4", "time_base": Fraction(1, 15), "times": list(range(150))},
    "raw.h264": {},
}  # fmt: skip


@pytest.mark.parametrize("name", CLIPS)
def test_the_file_is_the_same_wherever_it_was_stopped(
    make_clip: Make, tmp_path: Path, name: str
) -> None:
    clip = make_clip(tmp_path / name, **{"times": HALF, **CLIPS[name]})
    whole, out = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    frames, _ = run(clip, whole)
    assert frames == 150
    for stops in ([2], [45, 1, 64], [149]):
        done = [run(clip, out, stop_at=stop)[0] for stop in stops]
        assert unfinished(out).is_dir() == (max(stops) > 30)
        rest, said = run(clip, out)
        assert said == [] or name == "raw.h264"
        segment = 50 if name == "raw.h264" else 30  # which is taken for 25 frames a second
        assert rest <= frames - sum(done) + segment * len(done), (
            "what was finished is not done again"
        )
        assert out.read_bytes() == whole.read_bytes()
        out.unlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "whole.mkv"])


@pytest.mark.parametrize(
    "encoding",
    [Encoding("hevc", 40, "ultrafast"), Encoding("av1", 50, "12"), Encoding("ffv1")],
    ids=lambda e: e.codec,
)
def test_so_it_is_with_every_codec(make_clip: Make, tmp_path: Path, encoding: Encoding) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=HALF[:70])
    whole, out = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    run(clip, whole, encoding=encoding)
    run(clip, out, encoding=encoding, stop_at=50)
    run(clip, out, encoding=encoding)
    assert out.read_bytes() == whole.read_bytes()


def test_a_part_of_a_clip_goes_on_too(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=HALF, sound=True)
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    span = Span(Fraction(3, 2), Fraction(7))
    run(clip, whole, span=span)
    run(clip, out, span=span, stop_at=80)
    done, _ = run(clip, out, span=span)
    assert done < 60
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "error", [Stop(), DeblurError("model", expected="one", found="none", remedy="name it")]
)
def test_what_ends_before_it_goes_on_keeps_what_an_earlier_run_finished(
    make_clip: Make, tmp_path: Path, error: Exception
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", times=HALF), tmp_path / "out.mp4"
    run(clip, out, stop_at=100)
    before = sorted(unfinished(out).iterdir())
    with (
        pytest.raises(type(error)),
        VideoSource(clip) as source,
        VideoSink(out, source, Encoding(), keep=True) as sink,
    ):
        raise error
    assert sorted(unfinished(out).iterdir()) == before
    assert sink.kept_seconds == 0, "whose they are is not known yet"
    done, said = run(clip, out)
    assert (done, said) == (150 - 90, [])


def test_segments_may_lack_in_the_middle(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=HALF)
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    run(clip, whole)
    run(clip, out, stop_at=145)
    folder = unfinished(out)
    assert len(list(folder.glob("*.segment"))) == 4
    (folder / "000000.segment").unlink()
    damaged = folder / "000002.segment"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    done, _ = run(clip, out)
    assert done == 30 + 30 + 30
    assert out.read_bytes() == whole.read_bytes()


def test_frames_far_apart_leave_segments_out(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", times=[15360 * t for t in (0, 1, 9, 10, 27, 28, 29)])
    whole, out = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    run(clip, whole)
    for stop in range(2, 7):
        run(clip, out, stop_at=stop)
        run(clip, out)
        assert out.read_bytes() == whole.read_bytes()


def test_another_input_model_or_setting_is_said_and_begun_anew(
    make_clip: Make, tmp_path: Path
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", times=HALF), tmp_path / "out.mp4"
    run(clip, out, stop_at=100)
    done, said = run(clip, out, job={"model": "another"}, stop_at=100)
    assert said == ["begun anew: the unfinished out.mp4 had another model"]
    assert done == 100
    _, said = run(clip, out, job={"model": "another"}, encoding=Encoding(quality=30), stop_at=100)
    assert said == ["begun anew: the unfinished out.mp4 had another encoder"]
    os.utime(clip, (1, 1))
    done, said = run(clip, out, job={"model": "another"}, encoding=Encoding(quality=30))
    assert said == ["begun anew: the unfinished out.mp4 had another input"]
    assert done == 150
    assert not unfinished(out).exists()


def test_another_rate_is_said_and_begun_anew(
    photo: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of pictures have the times that the rate gives them: segments are others."""
    for number in range(90):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.roll(photo, number, 1))
    pattern, out = tmp_path / "%d.png", tmp_path / "out.mkv"
    slow, fast = (parse_input(str(pattern), None, Fraction(r), is_live=False) for r in (25, 50))
    assert run(slow, out, encoding=Encoding("ffv1"), stop_at=70)[0] == 70
    done, said = run(fast, out, encoding=Encoding("ffv1"))
    assert done == 90
    assert said == ["begun anew: the unfinished out.mkv had another frame rate"]


def test_other_tiles_are_said_and_begun_anew(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", times=HALF), tmp_path / "out.mp4"
    job = Job(VideoInput.of_file(clip), str(out), encoding=FAST)

    def stop_at(number: int, tile: Tile) -> int:
        done = itertools.count(1)

        def watch(*_: Frames) -> None:
            if next(done) == number:
                raise Stop

        with suppress(Stop), open_source(job) as source, open_sink(job, source) as sink:
            finished = go_on(job, sink, find_model(negative), "darker", tile)
            deblur_video(source, sink, Darker(), watch)
        return finished

    assert stop_at(100, 64) == 0
    assert stop_at(20, 64) == 90
    assert job.warnings == []
    assert stop_at(20, None) == 0
    assert job.warnings == ["begun anew: the unfinished out.mp4 had another tile"]


def test_nothing_is_kept_unless_asked(make_clip: Make, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", times=HALF), tmp_path / "out.mp4"
    run(clip, out, stop_at=100)
    run(clip, out, stop_at=100, keep=False)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_two_on_one_output_do_not_meet(make_clip: Make, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with VideoSource(clip) as source, VideoSink(out, source, FAST) as sink:
        with pytest.raises(DeblurError, match=r"no other process is writing, found one that is"):
            VideoSink(out, source, FAST)
        deblur_video(source, sink, Darker())
    assert out.exists()
    run(clip, out)


def test_long_names_that_begin_alike_do_not_meet(make_clip: Make, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=HALF)
    outs = [tmp_path / f"{'long' * 55}{end}.mp4" for end in "ab"]
    for out in outs:
        run(clip, out, stop_at=100)
    assert len(list(tmp_path.glob(".*.unfinished"))) == 2
    for out in outs:
        assert run(clip, out)[0] < 100
    assert sorted(tmp_path.iterdir()) == sorted([clip, *outs])


def test_an_input_that_changes_meanwhile_is_refused(make_clip: Make, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    other = make_clip(tmp_path / "other.mp4", times=HALF).read_bytes()
    with (
        pytest.raises(DeblurError, match="expected the file that it was at the start"),
        VideoSource(clip) as source,
        VideoSink(out, source, FAST) as sink,
    ):
        deblur_video(source, sink, Darker(), lambda *_: clip.write_bytes(other))  # type: ignore[arg-type]
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["in.mp4", "other.mp4"]


def test_a_run_killed_before_the_name_was_given_is_not_taken_for_a_finished_one(
    make_clip: Make, tmp_path: Path
) -> None:
    """Twice killed, over an older file: it stays the older one until the new one is there."""
    clip, out = make_clip(tmp_path / "in.mp4", times=HALF), tmp_path / "out.mp4"
    out.write_bytes(b"older")
    run(clip, out, stop_at=100)
    (unfinished(out) / NAMED).touch()
    run(clip, out, stop_at=1)
    assert not was_finished(out)
    assert run(clip, out)[0] < 100
    assert out.read_bytes() != b"older"


def test_a_run_killed_while_it_cleans_up_had_finished(
    make_clip: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step of it."""
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    steps = {name: getattr(os, name) for name in ("rename", "unlink", "rmdir")}
    left = 0

    def step(name: str, *given: Any, **settings: Any) -> None:
        nonlocal left
        if out.exists():
            if not left:
                raise KeyboardInterrupt  # stands in for the kill: nothing comes after it
            left -= 1
        steps[name](*given, **settings)

    for name in steps:
        monkeypatch.setattr(os, name, partial(step, name))
    for killed_after in range(100):
        left = killed_after
        try:
            run(clip, out)
            break
        except KeyboardInterrupt:
            left = 100
        assert len(list(tmp_path.iterdir())) == 3
        assert was_finished(out)
        assert sorted(tmp_path.iterdir()) == [clip, out]
        out.unlink()
    assert killed_after > 3  # the new name, a segment, the lock, the folder


def test_an_empty_folder_is_no_sign_that_a_run_had_finished(
    make_clip: Make, tmp_path: Path
) -> None:
    """Whoever is killed when it has just begun leaves one, over an older file."""
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    out.write_bytes(b"older")
    unfinished(out).mkdir()
    assert not was_finished(out)
    run(clip, out)
    assert out.read_bytes() != b"older"
    assert sorted(tmp_path.iterdir()) == [clip, out]


def test_a_segment_that_finds_no_room_does_not_cost_the_others(
    make_clip: Make, tmp_path: Path
) -> None:
    """One that a worker made: a limit on file size stands in for the disk."""
    clip, out = make_clip(tmp_path / "in.mp4", times=HALF), tmp_path / "out.mp4"
    run(clip, out, stop_at=100)
    before = sorted(unfinished(out).glob("*.segment"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def take_one() -> None:
        with VideoSource(clip) as source, VideoSink(out, source, FAST, keep=True) as sink:
            sink.go_on({"model": "darker"})
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            sink.take(4, bytes(100_000))

    try:
        with pytest.raises(DiskError, match="room and permission"):
            take_one()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(unfinished(out).glob("*.segment")) == before


def test_a_run_killed_when_all_was_done_is_cleaned_up_after(
    make_clip: Make, negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "remove", lambda self: self.close())
        run(clip, out)
    assert unfinished(out).is_dir()
    written = out.read_bytes()
    assert start([clip, out, "--model", negative]).wait(60) == 0
    assert out.read_bytes() == written
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def start(words: list[Any], before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_segments(process: subprocess.Popen[str], out: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(unfinished(out).glob("*.segment"))) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


LONG = [512 * i for i in range(0, 1800, 2)]  # a minute


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_finished_and_says_how_to_go_on(
    make_clip: Make, negative: Path, tmp_path: Path, number: signal.Signals
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", times=LONG), tmp_path / "out.mp4"
    words = [clip, out, "--model", negative, "--preset", "ultrafast"]
    process = start(words)
    wait_for_segments(process, out, 2)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert said[-1] == "stopped"
    assert (
        f"s of out.mp4 are finished; the same command goes on from there: deblur-video {clip}"
        in said[-2]
    )
    again = start(words)
    assert "going on after " in again.communicate(timeout=60)[1]
    assert again.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment(make_clip: Make, negative: Path, tmp_path: Path, kills: int) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=LONG, sound=True)
    words = ["--model", negative, "--preset", "ultrafast", "--quality", "30"]
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    begin = time.monotonic()
    assert start([clip, whole, *words]).wait(120) == 0
    took, chance = time.monotonic() - begin, random.Random(kills)
    for _ in range(kills):
        process = start([clip, out, *words])
        try:
            process.wait(chance.uniform(0, took))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        if out.exists() and not unfinished(out).exists():
            assert out.read_bytes() == whole.read_bytes()
            out.unlink()
    if not out.exists() or unfinished(out).exists():
        assert start([clip, out, *words]).wait(120) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_a_full_disk_keeps_what_is_finished(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        clip, out = make_clip(tmp_path / "in.mp4", times=HALF), disk / "out.mp4"
        words = [clip, out, "--model", negative, "--preset", "ultrafast", "--quality", "0"]
        process = start(words)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 2, said
        assert "expected room on the disk, found a full disk; make room in" in said
        assert "of out.mp4 are finished" in said
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        again = start(words)
        said = again.communicate(timeout=60)[1]
        assert again.returncode == 0, said
        assert "going on after" in said
        assert [p.name for p in disk.iterdir()] == ["out.mp4"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_report_tells_what_was_there_already(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    clip, out, report = (
        make_clip(tmp_path / "in.mp4", times=LONG),
        tmp_path / "o.mp4",
        tmp_path / "r",
    )
    words = [clip, out, "--model", negative, "--preset", "ultrafast", "--json", report]
    process = start(words)
    wait_for_segments(process, out, 2)
    process.kill()
    process.wait()
    assert start(words).wait(60) == 0
    values = json.loads(report.read_text())
    assert values["frames_of_earlier_runs"] >= 60
    assert values["frames"] + values["frames_of_earlier_runs"] == 900
