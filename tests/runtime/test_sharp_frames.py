"""``deblur-video --sharp-frames keep``: what is sharp already comes out as it went in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import console
from deblurgan.runtime.app import app

Pixels = NDArray[np.uint8]
PROGRAM = "from deblurgan.runtime.app import main; main()"
WORDS = ("--sharp-frames", "keep", "--backend", "onnxruntime", "--codec", "ffv1")


def write(path: Path, *, seconds: int, turn: int) -> Path:
    """A clip of 20 frames a second: ``turn`` sharp frames, as many blurred ones, and so on."""
    random = np.random.default_rng(4)
    picture = np.full((192, 320, 3), 128, np.uint8)
    for _ in range(150):
        x, y = random.integers(0, 300), random.integers(0, 170)
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        cv2.rectangle(picture, (int(x), int(y)), (int(x) + 24, int(y) + 18), colour, -1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv444p"
        for index in range(20 * seconds):
            shown = np.roll(picture, 2 * index, 1)
            if index // turn % 2:
                shown = cv2.blur(shown, (15, 15))
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(format="yuv444p")
            frame.pts, frame.time_base = index, Fraction(1, 20)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def samples(path: Path) -> list[NDArray[Any]]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray() for frame in file.decode(video=0)]


def test_sharp_frames_are_kept_to_the_bit_and_the_share_is_told(
    negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write(tmp_path / "in.mkv", seconds=2, turn=20)
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    words = [clip, out, *WORDS, "--model", negative, "--json", report]
    assert console.run(app, [str(word) for word in words]) == 0
    before, after = samples(clip), samples(out)
    assert len(after) == 40
    assert all(map(np.array_equal, before[:20], after[:20]))
    for old, new in zip(before[20:], after[20:], strict=True):
        assert np.abs(old.astype(int) - new).mean() > 20
    assert json.loads(report.read_text())["sharp_share"] == 0.5
    assert "50% were sharp and passed by" in capsys.readouterr().err


def test_none_is_kept_unless_asked(negative: Path, tmp_path: Path) -> None:
    clip = write(tmp_path / "in.mkv", seconds=1, turn=20)
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    words = [clip, out, *WORDS[2:], "--model", negative, "--json", report]
    assert console.run(app, [str(word) for word in words]) == 0
    assert not any(map(np.array_equal, samples(clip), samples(out)))
    assert json.loads(report.read_text())["sharp_share"] is None


def test_a_run_that_goes_on_chooses_as_one_that_was_not_stopped(
    negative: Path, tmp_path: Path
) -> None:
    """The choice changes within segments, not where they begin."""
    clip = write(tmp_path / "in.mkv", seconds=8, turn=29)
    whole, out = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    assert start(clip, whole, negative).wait(60) == 0
    process = start(clip, out, negative)
    unfinished = tmp_path / ".out.mkv.unfinished"
    deadline = time.monotonic() + 60
    while not list(unfinished.glob("*.segment")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    again = start(clip, out, negative)
    assert "going on after " in again.communicate(timeout=60)[1]
    assert again.returncode == 0
    assert out.read_bytes() == whole.read_bytes()


def start(clip: Path, out: Path, model: Path) -> subprocess.Popen[str]:
    words = [clip, out, *WORDS, "--model", model]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)], stderr=subprocess.PIPE, text=True
    )
