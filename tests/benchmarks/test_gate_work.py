"""Turns of work and reference, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.benchmarks import gate_work
from deblurgan.benchmarks.gate_work import (
    FEWEST_ROUNDS,
    Work,
    count_frames,
    environment,
    frames_that_plant,
    measure,
    measure_in_process,
)
from deblurgan.runtime.errors import DeblurError, Failure


@pytest.fixture
def work(negative: Path) -> Work:
    return Work(str(negative), "onnxruntime", 64, 48, threads=1, reference="engine")


def test_a_process_measures_rounds(work: Work) -> None:
    measured = measure_in_process(work, 0.01)
    assert len(measured.work) >= FEWEST_ROUNDS
    assert len(measured.work) == len(measured.reference)


def test_an_error_comes_out_of_the_process_as_it_was(work: Work) -> None:
    with pytest.raises(DeblurError, match="at least 16x16 pixels, found 8x8") as error:
        measure_in_process(replace(work, width=8, height=8), 0.01)
    assert not isinstance(error.value, Failure)


@pytest.mark.parametrize("how", ["error", "death"])
def test_what_goes_wrong_in_the_process_is_a_failure_of_ours(
    how: str, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_work, "send_measurement", raise_there if how == "error" else die)
    with pytest.raises(Failure, match=r"status [17];"):
        measure_in_process(work, 0.01)


def raise_there(*_: object) -> None:
    raise SystemExit(1)


def die(*_: object) -> None:
    os._exit(7)


def test_a_process_that_does_not_end_is_ended(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_work, "send_measurement", sleep_on)
    monkeypatch.setattr(gate_work, "LONGEST_START", 0.2)
    with pytest.raises(Failure, match="nothing after"):
        measure_in_process(work, 0.01)
    assert multiprocessing.active_children() == []


def sleep_on(*_: object) -> None:
    time.sleep(100)


def test_an_exception_there_is_one_line_here(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> None:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(gate_work, "measure", measure)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    before = signal.getsignal(signal.SIGINT)
    try:
        gate_work.send_measurement(sender, work, 1)
    finally:
        signal.signal(signal.SIGINT, before)
    error = receiver.recv()
    assert isinstance(error, Failure)
    assert "ZeroDivisionError: by nothing" in str(error)


def test_turns_are_taken_and_the_planted_share_is_the_works_alone(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference, work, work, reference; the reference does what it always does."""
    calls: list[str] = []

    class Engine:
        def run(self, frames: object) -> None:
            calls.append("w")

    class Deblurring:
        def __init__(self, *_: object, **__: object) -> None:
            self.model = gate_work_model()

        def __enter__(self) -> Deblurring:
            return self

        def __exit__(self, *_: object) -> None: ...

        def engine(self, *_: object) -> Engine:
            return Engine()

    def open_(*_: object) -> Callable[[], object]:
        return lambda: calls.append("r")

    def warm_up(*_: object) -> int:
        return 4

    monkeypatch.setattr(gate_work, "Deblurrer", Deblurring)
    monkeypatch.setattr(gate_work, "open_reference", open_)
    monkeypatch.setattr(gate_work, "warm_up", warm_up)
    measure(work, 0)
    assert "".join(calls) == ("r" * 4 + "w" * 8 + "r" * 4) * FEWEST_ROUNDS
    calls.clear()
    measure(replace(work, planted=0.25), 0)
    assert "".join(calls) == ("r" * 4 + "w" * 10 + "r" * 4) * FEWEST_ROUNDS


def gate_work_model() -> object:
    class Card:
        precision = "fp32"

    class Model:
        card = Card

    return Model


@given(frames=st.integers(1, 200), percent=st.integers(0, 300))
def test_a_planted_share_is_met_to_a_hundredth(frames: int, percent: int) -> None:
    planted = percent / 100
    count = frames_that_plant(frames, planted)
    assert frames <= count <= frames + 50
    assert round(2 * count * planted) == pytest.approx(2 * count * planted, rel=0.011)


@pytest.mark.parametrize(("seconds", "count"), [(0.01, 3), (0.03, 1), (5.0, 1)])
def test_blocks_are_filled(seconds: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_work, "WARM_UP", 0.01)

    def clock(work: Callable[[], object]) -> float:
        work()
        return seconds

    assert gate_work.warm_up(lambda count: None, clock) == count


def test_a_clip_is_a_job_of_so_many_frames(
    work: Work, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    assert count_frames(clip, 100) == 12
    assert count_frames(clip, 5) == 5
    measured = measure(replace(work, clip=clip, frames=4, planted=0.5), 0)
    assert len(measured.work) == FEWEST_ROUNDS
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with environment({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert dict(os.environ) == before
