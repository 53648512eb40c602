"""Workers make what one process makes, whatever happens to them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblurgan.runtime.app import app
from deblurgan.runtime.console import run

Make = Callable[..., Path]
PROGRAM = "from deblurgan.runtime.app import main; main()"
WORDS = ["--preset", "ultrafast", "--quality", "30"]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no ray here")


def start(*words: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)], stderr=subprocess.PIPE, text=True
    )


def finish(*words: Any) -> tuple[int, str]:
    process = start(*words)
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of its workers that make something just now."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and b"ray::SegmentWorker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # gone meanwhile
            continue
    assert process.poll() is None
    return found


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 90
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@needs_ray
def test_a_worker_that_is_killed_is_not_missed(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    times = [512 * i for i in range(0, 3000, 2)]  # 100 seconds of 15 frames
    clip = make_clip(tmp_path / "in.mp4", times=times, sound=True)
    alone, out, report = tmp_path / "alone.mp4", tmp_path / "out.mp4", tmp_path / "report.json"
    assert finish(clip, alone, "--model", negative, *WORDS)[0] == 0
    process = start(
        clip, out, "--model", negative, "--workers", 2, "--threads", 1, "--json", report, *WORDS
    )
    folder = tmp_path / ".out.mp4.unfinished"
    wait_until(lambda: len(list(folder.glob("*.segment"))) >= 2)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert "2 workers, 160x96" in said
    assert out.read_bytes() == alone.read_bytes()
    values = json.loads(report.read_text())
    assert values["frames"] == 1500
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "alone.mp4", "in.mp4", "out.mp4", "report.json",
    ]  # fmt: skip


@needs_ray
@pytest.mark.slow
def test_what_workers_made_is_kept_and_gone_on_from(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(0, 3000, 2)])
    alone, out = tmp_path / "alone.mp4", tmp_path / "out.mp4"
    words = ["--model", negative, *WORDS]
    assert finish(clip, alone, *words)[0] == 0
    process = start(clip, out, "--workers", 2, *words)
    folder = tmp_path / ".out.mp4.unfinished"
    wait_until(lambda: len(list(folder.glob("*.segment"))) >= 3)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert said[-1] == "stopped"
    assert "are finished; the same command goes on from there" in said[-2]
    code, said_then = finish(clip, out, "--workers", 2, *words)
    assert code == 0
    assert "going on after " in said_then
    assert out.read_bytes() == alone.read_bytes()


@needs_ray
def test_clips_are_shared_out_too_and_a_bad_one_is_said(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    clips, out = tmp_path / "clips", tmp_path / "sharp"
    clips.mkdir()
    for name in ("a.mp4", "b.mkv", "c.mov"):
        make_clip(clips / name)
    (clips / "bad.mp4").write_bytes(b"no video")
    make_clip(clips / "hdr.mp4", tags=(9, 1, 9, 16))
    code, said = finish(clips, out, "--model", negative, "--workers", 2, *WORDS)
    assert code == 2
    assert "Traceback" not in said
    assert "3 clips deblurred; 2 failed: " in said
    assert "bad.mp4: expected a video" in said
    assert sorted(p.name for p in out.iterdir()) == ["a.mp4", "b.mkv", "c.mov"]


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_is_there_is_used(make_clip: Make, negative: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(0, 600, 2)])
    alone, out = tmp_path / "alone.mp4", tmp_path / "out.mp4"
    assert finish(clip, alone, "--model", negative, *WORDS)[0] == 0
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    port = "6399"
    begin = ["start", "--head", "--port", port, "--num-cpus", "2", "--include-dashboard", "false"]
    subprocess.run([*ray, *begin], check=True, capture_output=True)
    try:
        words = ["--model", negative, "--ray", f"127.0.0.1:{port}", "--threads", 1, *WORDS]
        code, said = finish(clip, out, *words)
        assert code == 0, said
        assert "2 workers" in said
        assert out.read_bytes() == alone.read_bytes()
    finally:
        subprocess.run([*ray, "stop", "--force"], check=True, capture_output=True)


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_said(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    out = tmp_path / "out.mp4"
    code, said = finish(clip, out, "--model", negative, "--ray", "127.0.0.1:1")
    assert code == 2
    assert "--ray: expected a Ray cluster that answers, found none at 127.0.0.1:1" in said
    assert "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("source", "target", "options", "said"),
    [
        ("in.png", "out.png", ["--workers", "2"], "--workers, --ray: expected a video file"),
        ("in.mp4", "-", ["--workers", "2"], "--workers, --ray: expected a video file as OUT"),
        ("in.mp4", "%d.png", ["--workers", "2"], "--workers, --ray: expected a video file as OUT"),
        ("in.mp4", "out.mp4", ["--workers", "2", "--before-after", "a.png"], "--before-after"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    make_clip: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    target: str,
    options: list[str],
    said: str,
) -> None:
    make_clip(tmp_path / "in.mp4")
    (tmp_path / "in.png").write_bytes(b"a picture")
    words = [str(tmp_path / source), target if target == "-" else str(tmp_path / target), *options]
    assert run(app, words) == 2
    assert said in capsys.readouterr().err


def test_without_ray_its_extra_is_named(
    make_clip: Make,
    negative: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "ray" else find(name, *a)
    )
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert run(app, [str(clip), str(out), "--model", str(negative), "--workers", "2"]) == 2
    assert 'pip install ".[ray]"' in capsys.readouterr().err
