"""``deblur-video`` stopped by a signal, at whatever step it arrives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from deblurgan.runtime import console
from deblurgan.runtime.app import app

Make = Callable[..., Path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(
    make_clip: Make, negative: Path, tmp_path: Path, number: signal.Signals
) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(3000)])
    words = [clip, tmp_path / "out.mp4", "--model", negative]
    program = "from deblurgan.runtime.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.mp4*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped"
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    "first", [pytest.param(n, marks=() if n == 7 else pytest.mark.slow) for n in range(40)]
)
def test_whenever_a_signal_arrives_while_the_output_is_opened_nothing_is_left_behind(
    make_clip: Make, negative: Path, tmp_path: Path, first: int
) -> None:
    """At every fortieth step of the program from where the output has its folder."""
    words = [make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", "--model", negative, "-q"]
    words += ["--backend", "onnxruntime"]
    for number in range(first, 400, 40):
        interrupt = SignalAtStep(number, tmp_path / ".out.mp4.unfinished")
        assert interrupt.run(*words) == 130
        assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"], interrupt.arrived_in


@pytest.mark.parametrize(
    "first", [pytest.param(n, marks=() if n == 3 else pytest.mark.slow) for n in range(10)]
)
def test_whenever_a_signal_arrives_after_the_output_has_its_name_it_alone_is_left(
    make_clip: Make, negative: Path, tmp_path: Path, first: int
) -> None:
    """At every tenth step of the program from there to its end."""
    out = tmp_path / "out.mp4"
    words = [make_clip(tmp_path / "in.mp4"), out, "--model", negative, "-q"]
    words += ["--backend", "onnxruntime"]
    for number in range(first, 1000, 10):
        interrupt = SignalAtStep(number, out)
        status = interrupt.run(*words)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"], (
            interrupt.arrived_in
        )
        out.unlink()
        if not interrupt.arrived_in:
            break
        assert status == 130
    assert number > 40, "it was never near its end"


class SignalAtStep:
    """Sends SIGINT to this process at one step of the files that make and clear an output's
    folder, counted from when ``path`` is there; ``arrived_in`` is the place.
    """

    FILES = "run.py", "job.py", "sink.py", "unfinished.py", "encoder.py", "contextlib.py"

    def __init__(self, number: int, path: Path) -> None:
        self.left, self.path, self.arrived_in = number, path, ""

    def run(self, *words: object) -> int:
        before, self.ours = sys.gettrace(), signal.getsignal(signal.SIGINT)
        sys.settrace(self)
        try:
            return console.run(app, [str(word) for word in words])
        finally:
            sys.settrace(before)

    def __call__(self, frame: FrameType, event: str, _: object) -> SignalAtStep | None:
        if not frame.f_code.co_filename.endswith(self.FILES):
            return None
        is_caught = signal.getsignal(signal.SIGINT) != self.ours
        if is_caught and not self.arrived_in and os.path.lexists(self.path):
            self.left -= 1
            if self.left < 0:
                self.arrived_in = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                os.kill(os.getpid(), signal.SIGINT)
        return self
