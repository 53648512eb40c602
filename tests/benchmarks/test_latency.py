"""Rows of latencies: what is valid, noisy and refused, and what turns they take."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.benchmarks import latency
from deblurgan.benchmarks.latency import Budget, measure_latency
from deblurgan.benchmarks.latency_choice import Choice, choose_workloads
from deblurgan.benchmarks.latency_rows import Taken, make_row, percentiles
from deblurgan.benchmarks.worker_process import Opened, Refused, Turn
from deblurgan.benchmarks.workload import Workload

FRAME = np.zeros((1, 16, 16, 3), np.uint8)


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
