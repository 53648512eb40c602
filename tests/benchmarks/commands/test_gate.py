"""``deblur-bench gate`` as CI calls it; no clock decides these tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblurgan.benchmarks import app as bench
from deblurgan.benchmarks.commands import gate as gate_command
from deblurgan.benchmarks.commands.gate import parse_percent
from deblurgan.benchmarks.gate import Process
from deblurgan.benchmarks.gate_work import Work
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError, Failure


@pytest.fixture
def gate(negative: Path) -> Callable[..., int]:
    def run(*words: object, model: Path = negative) -> int:
        options = ["--model", model, "--backend", "onnxruntime"]
        options += [] if "--clip" in words else ["--size", "64x48"]
        return console.run(bench.app, ["gate", *map(str, [*words, *options])])

    return run


class Machine:
    """Measures without a clock: ``slowdown`` is the work's, ``slow`` the whole machine's."""

    def __init__(self) -> None:
        self.slowdown, self.slow, self.noise = 1.0, 1.0, 0.01
        self.calls = 0
        self.asked: list[Work] = []

    def measure(self, work: Work, seconds: float) -> Process:
        self.calls += 1
        self.asked.append(work)
        luck = 1 + self.noise * (-1) ** self.calls
        times = self.slow * self.slowdown * luck * 0.02 * (1 + work.planted)
        return Process((times,) * 8, (self.slow * 0.01,) * 8)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(gate_command, "measure_in_process", machine.measure)
    ticks = iter(range(10_000))
    for name in ("collect", "settle"):
        function = getattr(gate_command, name)

        def timed(*args: Any, function: Any = function, **options: Any) -> Any:
            return function(*args, clock=lambda: float(next(ticks)), **options)

        monkeypatch.setattr(gate_command, name, timed)
    return machine


@pytest.fixture
def baseline(gate: Callable[..., int], machine: Machine, tmp_path: Path) -> Path:
    path = tmp_path / "base.json"
    assert gate("--write-baseline", path, "--budget", 10) == 0
    return path


@pytest.mark.parametrize(
    ("slowdown", "status", "word"), [(1.0, 0, "pass"), (0.7, 0, "pass"), (1.15, 3, "regression")]
)
def test_outcomes_have_their_statuses(
    slowdown: float, status: int, word: str, baseline: Path, machine: Machine,
    gate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    machine.slowdown, machine.slow = slowdown, 2.0
    figures = tmp_path / "gate.json"
    assert gate("--baseline", baseline, "--json", figures) == status
    out = capsys.readouterr().out.splitlines()[-1]
    assert re.match(rf"{word}: a frame takes [+-]\d+\.\d% next to the baseline, 99% interval", out)
    result = json.loads(figures.read_text())
    assert result["kind"] == "gate"
    assert result["figures"]["comparison"]["outcome"] == word
    assert result["figures"]["comparison"]["change"] == pytest.approx(slowdown, rel=0.02)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--write-baseline", "new.json", "--json", "gate.json"], "found --write-baseline"),
        (["--baseline", "base.json", "--json", "base.json"], "--json: expected a name of its own"),
        (["--baseline", "base.json", "--json", "folder"], "folder: expected the name of a file"),
        (["--write-baseline", "folder"], "folder: expected the name of a file"),
    ],
)
def test_names_that_would_be_lost_are_refused_before_anything_is_measured(
    words: list[str], said: str, baseline: Path, machine: Machine, gate: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(baseline.parent)
    Path("folder").mkdir()
    before, calls = baseline.read_bytes(), machine.calls
    assert gate(*words) == 2
    assert said in capsys.readouterr().err
    assert machine.calls == calls
    assert baseline.read_bytes() == before
    assert not Path("new.json").exists()


def test_what_cannot_be_told_is_inconclusive(
    baseline: Path, machine: Machine, gate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.slowdown, machine.noise = 1.05, 0.05
    assert gate("--baseline", baseline, "--budget", 9) == 4
    out = capsys.readouterr().out
    assert "inconclusive" in out
    assert "--budget" in out


def test_what_is_allowed_decides(
    baseline: Path, machine: Machine, gate: Callable[..., int]
) -> None:
    machine.slowdown = 1.15
    assert gate("--baseline", baseline, "--max-regression", "30%") == 0
    assert gate("--baseline", baseline, "--max-regression", "10%") == 3


def test_a_planted_slowdown_shows_that_the_gate_works(
    baseline: Path, machine: Machine, gate: Callable[..., int]
) -> None:
    assert gate("--baseline", baseline, "--plant", "15%") == 3
    assert machine.asked[-1].planted == 0.15


def test_a_baseline_of_something_else_is_refused_with_a_command_that_makes_one(
    baseline: Path, machine: Machine, gate: Callable[..., int], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    machine.calls = 0
    assert gate("--baseline", baseline, "--threads", "1", "--reference", "processor") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"deblur-bench gate --write-baseline {baseline}" in err
    assert machine.calls == 0  # before the measuring, not after
    words = err.partition("write one of this: deblur-bench ")[2].split()
    assert console.run(bench.app, [*words, "--budget", "5"]) == 0
    assert gate("--baseline", baseline, "--reference", "processor") == 0


def test_a_file_that_is_none_is_told(
    machine: Machine, gate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate("--baseline", tmp_path / "missing.json") == 2
    err = capsys.readouterr().err
    assert "missing.json: expected a baseline" in err
    assert "--write-baseline" in err


@pytest.mark.parametrize("kind", ["latency", "damaged", "folder"])
def test_the_remedy_destroys_nothing_and_works(
    kind: str, machine: Machine, gate: Callable[..., int], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = tmp_path / "other.json"
    if kind == "folder":
        other.mkdir()
    elif kind == "latency":
        write_result(other, "latency", {"mine": 1})
    else:
        other.write_text("{")
    taken = (other if kind == "folder" else tmp_path) / "base.json"
    taken.write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert gate("--baseline", other) == 2
    words = capsys.readouterr().err.partition("write one: deblur-bench ")[2].split()
    assert console.run(bench.app, [*words, "--budget", "5"]) == 0
    assert gate("--baseline", words[words.index("--write-baseline") + 1]) == 0
    assert all(path.read_bytes() == content for path, content in before.items())


def test_only_a_baseline_is_replaced_by_one(
    baseline: Path, machine: Machine, gate: Callable[..., int], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = tmp_path / "other.json"
    write_result(other, "latency", {"mine": 1})
    before, calls = other.read_bytes(), machine.calls
    assert gate("--write-baseline", other) == 2
    assert "a new name, or that of an earlier gate-baseline" in capsys.readouterr().err
    assert (other.read_bytes(), machine.calls) == (before, calls)
    assert gate("--write-baseline", baseline, "--budget", 5) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one of --baseline and --write-baseline, found neither"),
        (["--baseline", "a", "--write-baseline", "b"], "found both"),
        (["--write-baseline", "missing/base.json"], "a folder that exists"),
        (["--write-baseline", "b", "--max-regression", "0.05"], "--max-regression 5%"),
        (["--write-baseline", "b", "--plant", "-5%"], "--plant 5%"),
        (["--write-baseline", "b", "--reference", "moon"], "one of engine, processor"),
        (["--write-baseline", "b", "--clip", "missing.mp4"], "expected a video"),
        (["--write-baseline", "b", "--plant", "15%"], "--plant: expected --baseline"),
        (["--write-baseline", "b", "--budget", "inf"], "--budget: expected a number of seconds"),
        (["--write-baseline", "b", "--frames", "9"], "--frames: expected a clip"),
        (["--write-baseline", "b", "--clip", "a", "--size", "64x48"], "expected single frames"),
        (["--write-baseline", "b", "--threads", "4096"], "--threads: expected at most"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    words: list[str], said: str, machine: Machine, gate: Callable[..., int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert gate(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert machine.calls == 0


def test_engines_on_a_gpu_are_refused(
    negative: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gate", "--write-baseline", "b", "--model", str(negative), "--backend", "tensorrt"]
    assert console.run(bench.app, words) == 2
    assert "an engine on the processor: openvino, onnxruntime" in capsys.readouterr().err


def test_a_failure_in_between_leaves_no_baseline(
    gate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Process:
        raise Failure("gate", expected="a process", found="none", remedy="try")

    monkeypatch.setattr(gate_command, "measure_in_process", fail)
    assert gate("--write-baseline", tmp_path / "base.json") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_clip_is_measured_with_the_frames_that_it_has(
    make_clip: Callable[..., Path], machine: Machine, gate: Callable[..., int], tmp_path: Path
) -> None:
    clip, path = make_clip(tmp_path / "in.mp4"), tmp_path / "base.json"
    words = ["--clip", clip, "--frames", "10"]
    assert gate("--write-baseline", path, "--budget", 5, *words) == 0
    assert (machine.asked[-1].clip, machine.asked[-1].frames) == (clip, 10)
    assert gate("--baseline", path, *words) == 0
    assert gate("--baseline", path, "--clip", clip, "--frames", "4") == 2
    subject = json.loads(path.read_text())["figures"]["subject"]
    assert subject["frames"] == 10
    assert len(subject["clip"]) == 64


@pytest.mark.slow
def test_a_gate_on_this_machine_from_end_to_end(
    gate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever comes out, it is one of the three."""
    pytest.importorskip("onnxruntime")
    path = tmp_path / "base.json"
    assert gate("--write-baseline", path, "--budget", 1) == 0
    assert gate("--baseline", path, "--budget", 1) in (0, 3, 4)
    assert capsys.readouterr().out.splitlines()[-1].split(":")[0] in (
        "pass", "regression", "inconclusive",
    )  # fmt: skip


def test_the_help_documents_the_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(bench.app, ["gate", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("0: no slower than allowed", "3: slower", "4: the budget"):
        assert words in out


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0 %", 0), (" 12.5% ", 0.125)])
def test_percentages(text: str, share: float) -> None:
    assert parse_percent("--max-regression", text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "0.05", "%", "-1%", "nan%", "1e3%", "5%%", ""])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(DeblurError, match="a percentage"):
        parse_percent("--max-regression", text)
