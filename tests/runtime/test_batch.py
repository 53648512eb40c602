"""``deblur-video`` of folders and patterns: all that can be done is, and the rest is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import console, listing
from deblurgan.runtime.app import app
from deblurgan.runtime.batch import list_clips, run_batch
from deblurgan.runtime.errors import DeblurError

Make = Callable[..., Path]
Pixels = NDArray[np.uint8]
PROGRAM = "from deblurgan.runtime.app import main; main()"
QUICK = ("--backend", "onnxruntime")
SHORT = [512 * i for i in range(4)]


def deblur(*words: object) -> int:
    return console.run(app, [*map(str, words), *QUICK])


def count(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def clips(make_clip: Make, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "b.mkv", "c.avi"):
        make_clip(folder / name, times=SHORT)
    (folder / "notes.txt").write_text("no clip")
    (folder / ".hidden.mp4").write_text("no clip")
    return folder


def test_every_clip_of_a_folder(
    clips: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert deblur(clips, out, "--model", negative) == 0
    assert names(out) == ["a.mp4", "b.mkv", "c.mkv"]
    assert [count(p) for p in sorted(out.iterdir())] == [4, 4, 4]
    assert capsys.readouterr().err.splitlines()[-1] == f"{out}: 3 clips deblurred"


def test_clips_of_a_pattern(clips: Path, make_clip: Make, negative: Path, tmp_path: Path) -> None:
    (clips / "day 2").mkdir()
    make_clip(clips / "day 2" / "d.mp4", times=SHORT)
    assert deblur(clips / "*.mp4", tmp_path / "one", "--model", negative) == 0
    assert names(tmp_path / "one") == ["a.mp4"]
    assert deblur(clips / "**" / "*.mp4", tmp_path / "all", "--model", negative) == 0
    assert names(tmp_path / "all") == ["a.mp4", "d.mp4"]


def test_what_is_there_is_left_alone(
    clips: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.mp4").write_text("precious")
    assert deblur(clips, out, "--model", negative) == 0
    assert (out / "a.mp4").read_text() == "precious"
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"{out}: 2 clips deblurred; 1 was there already"
    assert deblur(clips, out, "--model", negative, "-y") == 0
    assert count(out / "a.mp4") == 4


def test_a_bad_clip_does_not_stop_the_rest(
    clips: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "a.mp4").write_bytes(b"no clip at all")
    out, report = tmp_path / "out", tmp_path / "report.json"
    assert deblur(clips, out, "--model", negative, "--json", report) == 2
    assert names(out) == ["b.mkv", "c.mkv"]
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"{out}: 2 clips deblurred; 1 failed: a.mp4"
    assert any(line.startswith(f"{clips / 'a.mp4'}: expected a video") for line in said)
    told = json.loads(report.read_text())
    assert [Path(clip["input"]).name for clip in told["clips"]] == ["b.mkv", "c.avi"]
    assert list(told["failed"]) == [str(clips / "a.mp4")]


def test_a_failure_of_ours_does_not_stop_the_rest_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def deblur_clip(clip: Path, target: Path) -> object:
        raise ValueError("what nobody thought of")

    clips = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    summary = run_batch(clips, tmp_path / "out", False, deblur_clip)  # type: ignore[arg-type]
    assert [clip for clip, _ in summary.failed] == clips
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{clips[0]}: failed: ValueError: what nobody thought of"


def test_two_clips_of_one_name(
    clips: Path,
    make_clip: Make,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_clip(clips / "c.mkv", times=SHORT)
    assert deblur(clips, tmp_path / "out", "--model", negative) == 2
    said = capsys.readouterr().err
    assert "expected clips whose names differ" in said
    assert "which would both become c.mkv" in said
    assert not (tmp_path / "out").exists()


def test_pictures_and_clips(
    clips: Path,
    photo: Pixels,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cv2.imwrite(str(clips / "cover.png"), photo)
    for source in (clips, clips / "*[gv4]"):
        assert deblur(source, tmp_path / "out", "--model", negative) == 2
        said = capsys.readouterr().err
        assert "found both; name one kind by a pattern" in said
        assert len(said.splitlines()) == 1
    assert deblur(clips / "*.mp4", tmp_path / "out", "--model", negative) == 0


def test_pictures_of_a_pattern(
    photo: Pixels, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.jpg", "deep/c.png", "deep/a.png"):
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        cv2.imwrite(str(source / name), photo)
    assert deblur(source / "*", out, "--model", negative) == 0
    assert names(out) == ["a.png", "b.jpg"]
    assert np.array_equal(cv2.imread(str(out / "a.png")), 255 - photo)
    assert deblur(source / "**" / "*.png", tmp_path / "all", "--model", negative) == 2
    assert "expected pictures whose names differ" in capsys.readouterr().err
    assert deblur(source / "*.png", source, "-y", "--model", negative) == 2
    assert "found the input itself" in capsys.readouterr().err
    assert np.array_equal(cv2.imread(str(source / "a.png")), photo)


@pytest.mark.parametrize("pattern", ["", "*.mp4", "*", "**/*.mp4"])
@pytest.mark.parametrize("more", [[], ["-y"]])
def test_nothing_is_written_over_itself(
    pattern: str,
    more: list[str],
    clips: Path,
    negative: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {p: p.read_bytes() for p in clips.iterdir()}
    source = clips / pattern if pattern else clips
    assert deblur(source, clips, *more, "--model", negative) == 2
    assert "expected another folder than the input's" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in clips.iterdir()} == before


@pytest.mark.parametrize(
    ("out", "more", "said"),
    [
        (None, [], "OUT: expected where to write, found nothing; deblur-video"),
        ("out.mp4", [], "expected the name of a folder, as there are several"),
        ("a file", [], "expected another folder than the input's, found a file"),
        ("-", [], "expected a file or a folder, as IN is no single video"),
        ("out", ["--preview", "look.png"], "--preview: expected one video, found several"),
        ("out", ["--before-after", "look.png"], "--before-after: expected one video"),
        ("out", ["--max-latency", "100"], "--max-latency: expected a camera, an address or"),
        ("out", ["--raw", "64x48"], "--raw: expected standard input or output (-)"),
        ("out", ["--raw", "64"], "--raw: expected WIDTHxHEIGHT"),
        ("out", ["--rate", "25"], "--rate: expected numbered pictures"),
        ("out", ["--rate", "fast"], "--rate: expected frames a second"),
        ("out", ["--sharp-frames", "lose"], "--sharp-frames: expected keep or deblur"),
    ],
)
def test_what_cannot_be_is_one_line(
    out: str | None,
    more: list[str],
    said: str,
    clips: Path,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a file").touch()
    before = sorted(tmp_path.rglob("*"))
    words = [] if out is None else [out if out == "-" else tmp_path / out]
    more = [str(tmp_path / word) if word.endswith(".png") else word for word in more]
    assert deblur(clips, *words, *more, "--model", negative) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_neither(
    negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert deblur(tmp_path / "in", tmp_path / "out", "--model", negative) == 2
    assert "expected" in capsys.readouterr().err
    assert deblur(tmp_path / "in" / "*.mp4", tmp_path / "out", "--model", negative) == 2
    assert "found nothing there" in capsys.readouterr().err
    assert names(tmp_path) == ["in"]


def test_clips_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MP4", "c.txt", ".d.mp4", "e.ts"):
        (tmp_path / name).touch()
    (tmp_path / "f.mp4").mkdir()
    assert [p.name for p in list_clips(str(tmp_path))] == ["a.MP4", "b.mp4", "e.ts"]
    assert [p.name for p in list_clips(str(tmp_path / "*.mp4"))] == ["b.mp4"]
    (tmp_path / "e.mkv").touch()
    with pytest.raises(DeblurError, match=r"which would both become e\.mkv"):
        list_clips(str(tmp_path))


def test_a_name_like_a_pattern_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "a[1].mp4").touch()
    assert not listing.is_pattern(str(tmp_path / "a[1].mp4"))
    assert listing.is_pattern(str(tmp_path / "a[12].mp4"))


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words), *QUICK],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_a_batch_that_is_stopped_goes_on(
    number: signal.Signals, make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    make_clip(source / "a.mp4", times=SHORT)
    make_clip(source / "b.mp4", times=[512 * i for i in range(700)])
    make_clip(source / "c.mp4", times=SHORT)
    words = (source, out, "--model", negative)
    process = start(*words)
    deadline = time.monotonic() + 60
    while len(list(out.glob(".b.mp4.unfinished/*.segment"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert names(out) == [".b.mp4.unfinished", "a.mp4"]
    if number == signal.SIGINT:
        assert process.returncode == 130
        lines = said.splitlines()
        assert lines[-1] == "stopped"
        assert said.count("the same command goes on from there: deblur-video") == 1
    again = start(*words)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert "going on after " in said
    assert said.splitlines()[-1] == f"{out}: 2 clips deblurred; 1 was there already"
    assert names(out) == ["a.mp4", "b.mp4", "c.mp4"]
    assert [count(p) for p in sorted(out.iterdir())] == [4, 700, 4]
