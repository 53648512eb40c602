"""Rows of latencies: what is valid, noisy and refused, what turns they take, what is written."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deblurgan.benchmarks import app as bench
from deblurgan.benchmarks import latency
from deblurgan.benchmarks.commands import latency as command
from deblurgan.benchmarks.latency import Budget, measure_latency
from deblurgan.benchmarks.latency_choice import Choice, choose_workloads
from deblurgan.benchmarks.latency_plots import draw_latency, draw_scaling
from deblurgan.benchmarks.latency_rows import Row, Taken, make_row, percentiles
from deblurgan.benchmarks.latency_tables import (
    CSV_COLUMNS,
    compare_with_published,
    latency_table,
    remarks,
    to_action,
    to_csv,
)
from deblurgan.benchmarks.peak import Peak
from deblurgan.benchmarks.roofline import draw_roofline
from deblurgan.benchmarks.stream import measure_stream
from deblurgan.benchmarks.worker_process import Opened, Refused, Turn, WorkerProcess
from deblurgan.benchmarks.workload import Workload, open_workload
from deblurgan.runtime import console
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError

FRAME = np.zeros((1, 16, 16, 3), np.uint8)


def deblur_bench(*words: object) -> int:
    return console.run(bench.app, [str(word) for word in words])


def opened(workload: Workload, **changes: Any) -> Opened:
    values: dict[str, Any] = {
        "model": workload.model, "engine": workload.engine, "description": "engine 1.0",
        "precision": "fp32", "device": "cpu", "in_flight": 1, "operations": 1e9,
        "open_seconds": 0.5, "peak_memory": 64 << 20, "device_memory": None,
    }  # fmt: skip
    return Opened(**{**values, **changes})


class FakeWorker:
    """Takes ``takes[engine]`` seconds a call, without waiting; keeps who was asked when."""

    takes: ClassVar[dict[str, float]] = {}
    asked: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, workload: Workload) -> None:
        if workload.engine not in self.takes:
            raise Refused("not installed")
        self.workload, self.opened = workload, opened(workload)

    def take_turn(self, calls: int, seconds: float) -> Turn:
        each = self.takes[self.workload.engine]
        if each < 0:
            raise Refused("the system ended it")
        self.asked.append((self.workload.engine, calls))
        count = min(calls, max(1, int(seconds / each)))
        clock.now += count * each
        return Turn([each] * count, [each / 2] * count)

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None: ...


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


clock = Clock()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    monkeypatch.setattr(latency, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(latency, "time", clock)
    monkeypatch.setattr(FakeWorker, "takes", {"a": 0.1, "b": 0.2, "eager": 1.0, "fp32": 0.01})
    monkeypatch.setattr(FakeWorker, "asked", [])
    return FakeWorker


def engine(name: str, **changes: Any) -> Workload:
    return Workload("engine", "edge", name, **{"width": 64, "height": 48, **changes})


def test_rows_take_turns_up_and_down_the_order(fake: type[FakeWorker]) -> None:
    budget = Budget(runs=30, seconds=100, rounds=5)
    found = measure_latency([engine("a"), engine("b")], [], budget, lambda *_: None)
    assert fake.asked == [("a", 6), ("b", 6), ("b", 6), ("a", 6)] * 2 + [("a", 6), ("b", 6)]
    rows = {row.engine: row for row in found.rows}
    assert [row.frame and row.frame.runs for row in found.rows] == [30, 30]
    assert rows["a"].frame is not None
    assert rows["a"].engine_only is not None
    assert (rows["a"].frame.p50, rows["a"].engine_only.p50) == pytest.approx((0.1, 0.05))
    assert rows["a"].frames_a_second == pytest.approx(10)
    assert (rows["a"].verdict, rows["a"].reason) == ("valid", "")


def test_the_paper_in_eager_pytorch_is_what_rows_are_held_against(
    fake: type[FakeWorker],
) -> None:
    peer = Workload("pytorch", "paper", "eager", 64, 48)
    found = measure_latency([engine("a"), peer], [], Budget(), lambda *_: (7, 8))
    assert found.rows[0].times_as_fast == pytest.approx(10)
    assert found.rows[1].times_as_fast == pytest.approx(1)
    other = measure_latency([engine("a", threads=2), peer], [], Budget(), lambda *_: (7, 8))
    assert other.rows[0].times_as_fast is None
    assert (other.rows[0].multiply_adds, other.rows[0].bytes_moved) == (7, 8)


def test_the_share_of_peak_is_of_the_product_of_the_same_rounds(fake: type[FakeWorker]) -> None:
    peaks = [Workload("product", engine="fp32"), Workload("copy", engine="missing")]
    found = measure_latency([engine("a")], peaks, Budget(), lambda *_: (10**9, 1))
    assert found.peaks[0].rate == pytest.approx(1e9 / 0.01)
    assert found.peaks[0].runs == 5 * latency.PEAK_CALLS
    assert found.rows[0].share_of_peak == pytest.approx(2e9 / 0.1 / 1e11)
    assert found.missing == ["peak of missing: not installed"]


def test_too_few_runs_are_refused_with_what_would_be_enough(fake: type[FakeWorker]) -> None:
    found = measure_latency([engine("b")], [], Budget(seconds=0.5), lambda *_: None)
    row = found.rows[0]
    assert (row.verdict, row.frame, row.frames_a_second) == ("refused", None, None)
    assert "runs in 1 s, and fewer than 10 say nothing: --runs 10 and --seconds" in row.reason


def test_what_does_not_run_is_a_row_with_its_reason(fake: type[FakeWorker]) -> None:
    fake.takes["dies"] = -1
    found = measure_latency(
        [engine("missing"), engine("dies"), engine("a")], [], Budget(), lambda *_: None
    )
    told = [(row.verdict, row.reason) for row in found.rows]
    assert told == [("refused", "not installed"), ("refused", "the system ended it"), ("valid", "")]


def test_a_row_that_finds_no_memory_beside_the_others_is_refused(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "free_memory", lambda: 100 << 20)
    found = measure_latency([engine("a")], [], Budget(), lambda *_: None)
    assert "100 MiB of memory free" in found.rows[0].reason


def test_a_stream_of_one_frame_in_flight_is_no_row_of_its_own(fake: type[FakeWorker]) -> None:
    found = measure_latency([engine("a"), engine("a", stream=True)], [], Budget(), lambda *_: None)
    assert [row.stream for row in found.rows] == [False]


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=60))
def test_percentiles_are_in_order_whatever_was_measured(times: list[float]) -> None:
    found = percentiles([times])
    assert min(times) <= found.p50 <= found.p90 <= found.p99 <= max(times) * (1 + 1e-12)
    assert found.iqr >= 0
    assert found.spread == pytest.approx(found.iqr / found.p50)
    assert found.runs == len(times)


def test_a_wide_spread_and_a_long_tail_are_noise() -> None:
    assert percentiles([[1.0, 1.01, 0.99] * 10]).noise == ""
    assert "quartiles" in percentiles([[1.0, 1.2, 0.8] * 10]).noise
    assert "99th percentile" in percentiles([[1.0] * 28 + [5.0, 5.0]]).noise
    workload = engine("a")
    taken = Taken(workload, opened(workload), [[1.0, 1.2, 0.8] * 10], [[]])
    assert make_row(taken, None, {}).verdict == "noisy"


class Slow:
    """A backend of ``in_flight`` frames, which counts those under way."""

    description, memory = "slow", None

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self.lock, self.under_way, self.most, self.calls = threading.Lock(), 0, 0, 0

    def run(self, frames: Frames) -> Frames:
        with self.lock:
            self.under_way += 1
            self.calls += 1
            self.most = max(self.most, self.under_way)
        time.sleep(0.002)
        with self.lock:
            self.under_way -= 1
        return frames

    def close(self) -> None: ...


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_a_stream_keeps_all_in_flight_busy(in_flight: int) -> None:
    backend = Slow(in_flight)
    times = measure_stream(backend, FRAME, 6, 60)
    assert len(times) == 6
    assert min(times) > 0
    assert backend.most <= in_flight
    assert 6 + 2 * in_flight - 1 <= backend.calls <= 6 + 3 * in_flight - 2
    assert measure_stream(backend, FRAME, 6, 0)  # one at least, however little time there is


def test_a_batch_is_all_its_frames(negative: Path) -> None:
    with ExitStack() as undo:
        one = open_workload(Workload("engine", str(negative), "onnxruntime", 32, 16), undo)
        batch = open_workload(Workload("engine", str(negative), "onnxruntime", 32, 16, 3), undo)
        made, made_of_batch = one.call(), batch.call()
        engine_call = one.make_engine_call()
        assert engine_call is not None
        engine_call()
        assert batch.make_engine_call() is None
    assert isinstance(made_of_batch, list)
    assert len(made_of_batch) == 3
    assert all(np.array_equal(frame, made) for frame in made_of_batch)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_worker_measures_in_a_process_of_its_own(negative: Path, backend: str) -> None:
    pytest.importorskip(backend)
    with WorkerProcess(Workload("engine", str(negative), backend, 32, 16)) as worker:
        turn = worker.take_turn(4, 60)
        assert worker.opened.engine == backend
        assert worker.opened.peak_memory > 10 << 20
        assert (len(turn.frame), len(turn.engine)) == (4, 4)
    assert worker.process.returncode is not None


def test_a_worker_that_cannot_or_that_ends_says_why(negative: Path) -> None:
    with pytest.raises(Refused, match="tensorrt"):
        WorkerProcess(Workload("engine", str(negative), "tensorrt", 32, 16))
    with WorkerProcess(Workload("engine", str(negative), "onnxruntime", 32, 16)) as worker:
        worker.process.kill()
        with pytest.raises(Refused, match="the system ended it: not enough memory"):
            worker.take_turn(1, 1)


def test_an_engine_is_measured_without_pytorch_beside_it() -> None:
    code = "import sys, deblurgan.benchmarks.latency_worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_model_meets_every_backend_size_batch_and_thread() -> None:
    choice = Choice(["m", "n"], ["x", "y"], [(64, 48), (32, 16)], [1, 4], [1, 2], ["paper"],
                    ["eager"], stream=True)  # fmt: skip
    chosen = choose_workloads(choice, "cpu")
    engines = [w for w in chosen if w.kind == "engine" and not w.stream]
    assert len(engines) == len(set(engines)) == 2 * 2 * 2 * 2 * 2
    assert len([w for w in chosen if w.stream]) == 2 * 2 * 2 * 2  # of one frame at once alone
    assert len([w for w in chosen if w.kind == "pytorch"]) == 2 * 2 * 2


def row(name: str = "edge", seconds: float = 0.1, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "name": f"{name} fp32", "model": name, "engine": "openvino", "description": "OpenVINO",
        "precision": "fp32", "device": "cpu", "width": 64, "height": 48, "batch": 1, "threads": 2,
        "stream": False, "verdict": "valid", "multiply_adds": 10**9, "bytes_moved": 10**7,
        "frame": percentiles([[seconds] * 10]), "frames_a_second": 1 / seconds,
        "peak_memory": 64 << 20, "share_of_peak": 0.5,
    }  # fmt: skip
    return Row(**{**values, **changes})


REFUSED = row(
    "bad", verdict="refused", reason="why", frame=None, frames_a_second=None, share_of_peak=None
)
ROWS = [
    row(),
    row(seconds=0.4, width=128, height=96),
    row(seconds=0.18, threads=1),
    row(seconds=0.3, batch=4),
    row("paper", 2.0, engine="pytorch eager", verdict="noisy", reason="its quartiles"),
    REFUSED,
]
PEAKS = [Peak("product", "fp32", "cpu", 2, 50e9, 9, "PyTorch"),
         Peak("copy", "bytes", "cpu", 2, 9e9, 9, "PyTorch")]  # fmt: skip


def test_the_table_has_every_row_and_the_papers() -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(latency_table(ROWS))
    lines = [line for line in text.getvalue().splitlines() if line.strip()]
    assert sum("64x48" in line or "128x96" in line for line in lines) == len(ROWS)
    assert lines[-1].split() == ["DeblurGAN", "published", "?", "1", "850", "1.18", "?", "?"]
    marks = [line.split()[0] for line in lines]
    assert (marks.count("~"), marks.count("x")) == (1, 1)
    said = "\n".join(remarks(ROWS))
    assert "refused: bad fp32: why" in said
    assert "resolution and precision not stated" in said


def test_no_cell_is_cut_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "output", Console(width=40, soft_wrap=True))
    command.show(latency.Latencies(ROWS, PEAKS[:1]), None)
    shown = capsys.readouterr().out
    assert "pytorch eager" in shown
    assert "engine only" in shown


def test_the_comparison_with_the_paper_says_what_it_does_not_know() -> None:
    said = compare_with_published(row())
    for words in ("0.1 s a frame, 2 G operations, 50% of", "does not state", "1,394 G operations"):
        assert words in said


def test_csv_has_all_rows_and_nothing_where_nothing_is() -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert list(read[0]) == list(CSV_COLUMNS)
    assert len(read) == len(ROWS)
    assert (read[0]["p50_seconds"], read[0]["runs"]) == ("0.1", "10")
    assert (read[-1]["p50_seconds"], read[-1]["verdict"]) == ("", "refused")


def test_the_action_reads_a_list_of_values_without_the_refused() -> None:
    entries = json.loads(to_action(ROWS))
    assert len(entries) == len(ROWS) - 1
    assert all(set(e) == {"name", "unit", "value", "range", "extra"} for e in entries)
    assert (entries[0]["unit"], entries[0]["value"]) == ("ms", 100.0)
    assert entries[0]["range"].startswith("± ")
    assert "noisy" in entries[-1]["extra"]


@pytest.mark.parametrize(
    "draw",
    [lambda: draw_latency(ROWS), lambda: draw_scaling(ROWS), lambda: draw_roofline(ROWS, PEAKS),
     lambda: draw_scaling(ROWS[:1])],
    ids=["latency", "scaling", "roofline", "one"],
)  # fmt: skip
def test_pictures_are_drawn_with_ink(draw: Any) -> None:
    picture = cv2.imdecode(np.frombuffer(draw(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.std() > 5


def test_nothing_to_draw_is_told() -> None:
    for draw in (draw_latency, draw_scaling):
        with pytest.raises(DeblurError, match="a row with figures"):
            draw([REFUSED])
    with pytest.raises(DeblurError, match="0 products, 1 copies"):
        draw_roofline(ROWS, PEAKS[1:])


def test_the_command_writes_all_that_it_is_asked_for(
    make_clip: Callable[..., Path], negative: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from deblurgan.benchmarks import peak

    monkeypatch.setattr(peak, "choose_peaks", lambda devices, threads: [])
    files = {name: tmp_path / f"{name}.{ending}" for name, ending in (
        ("json", "json"), ("csv", "csv"), ("action", "json"), ("plot", "png"), ("scaling", "png"),
    )}  # fmt: skip
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    assert deblur_bench(
        "latency", "--model", negative, "--backend", "onnxruntime", "--size", "64x48", "--threads",
        1, "--no-peers", "--runs", 10, "--clip", make_clip(tmp_path / "in.mp4"), *words,
    ) == 0  # fmt: skip
    assert all(path.stat().st_size for path in files.values())
    result = json.loads(files["json"].read_text())
    assert (result["schema"], result["kind"]) == (1, "latency")
    (only,) = result["figures"]["rows"]
    assert only["name"] == "negative fp32 onnxruntime 64x48 batch 1 threads 1"
    assert only["frame"]["runs"] == only["engine_only"]["runs"] == 10
    assert result["figures"]["video"]["frames"] == 12
    assert result["figures"]["published"]["seconds"] == 0.85
    assert "published" in capsys.readouterr().out


@pytest.mark.slow
def test_a_checkpoint_is_run_in_pytorch_and_exported_in_every_precision_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    checkpoint = pytest.importorskip("deblurgan.train.checkpoint")
    networks = pytest.importorskip("deblurgan.train.networks")
    from deblurgan.benchmarks import peak

    monkeypatch.setattr(peak, "choose_peaks", lambda devices, threads: [])
    small = networks.EdgeGenerator(networks.EdgeSettings(channels=4, blocks=0, deep_blocks=1))
    checkpoint.save_checkpoint(tmp_path / "small.safetensors", small, {})
    assert deblur_bench(
        "latency", "--checkpoint", tmp_path / "small.safetensors", "--precision", "fp32",
        "--precision", "int8", "--backend", "openvino", "--size", "64x48", "--threads", 1,
        "--peer", "channels-last", "--runs", 10, "--no-stream", "--json", tmp_path / "rows.json",
    ) == 0  # fmt: skip
    rows = json.loads((tmp_path / "rows.json").read_text())["figures"]["rows"]
    assert [(row["model"], row["precision"], row["engine"]) for row in rows] == [
        ("small-fp32", "fp32", "openvino"),
        ("small-int8", "int8", "openvino"),
        ("paper", "fp32", "pytorch channels-last"),
        ("small", "fp32", "pytorch channels-last"),
    ]
    fp32, int8, paper, eager = rows
    assert fp32["multiply_adds"] == int8["multiply_adds"] == eager["multiply_adds"]
    assert int8["bytes_moved"] * 4 == fp32["bytes_moved"]
    assert paper["multiply_adds"] > 100 * eager["multiply_adds"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "abacus"], "--backend: expected one of auto"),
        (["--peer", "abacus"], "--peer: expected one of eager"),
        (["--precision", "int8"], "--precision: expected a --checkpoint"),
        (["--precision", "int3", "--checkpoint", "paper"], "--precision: expected one of fp32"),
        (["--threads", "4096"], "--threads: expected at most"),
        (["--plot", "missing/plot.png"], "no such folder"),
        (["--plot", "plot.jpg"], "ends in .png"),
        (["--model", "missing.onnx"], "no such file"),
        (["--checkpoint", "missing.safetensors"], "missing.safetensors"),
        (["--clip", "missing.mp4"], "missing.mp4: expected a video"),
        (["--size", "big"], "--size: expected WIDTHxHEIGHT"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_options_are_told_before_anything_is_measured(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    assert deblur_bench("latency", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
