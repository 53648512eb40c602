"""What a row runs, and the process of its own that it runs in."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from deblurgan.benchmarks.stream import measure_stream
from deblurgan.benchmarks.worker_process import Refused, WorkerProcess
from deblurgan.benchmarks.workload import Workload, open_workload
from deblurgan.runtime.contract import Frames

FRAME = np.zeros((1, 16, 16, 3), np.uint8)


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
