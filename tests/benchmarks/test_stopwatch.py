"""Time of one's own: the queue for a processor is taken off, sleeping is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deblurgan.benchmarks import stopwatch
from deblurgan.benchmarks.stopwatch import own_seconds, queued_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A hand that the test sets, in seconds."""
    hand = [100.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: hand[0])
    return hand


def set_queues(monkeypatch: pytest.MonkeyPatch, *readings: dict[str, float]) -> None:
    turns = iter(readings)
    monkeypatch.setattr(stopwatch, "queued_seconds", lambda: next(turns))


@pytest.mark.parametrize(
    ("before", "after", "serial", "parallel"),
    [
        ({}, {}, 4.0, 4.0),  # a system that does not tell
        ({"1": 5.0}, {"1": 6.0}, 3.0, 3.0),
        ({"1": 5.0, "2": 1.0}, {"1": 6.0, "2": 2.5}, 1.5, 2.5),
        ({"1": 5.0}, {"1": 5.0, "2": 1.5}, 2.5, 2.5),  # a thread that is new
        ({"1": 5.0, "2": 9.0}, {"1": 5.5}, 3.5, 3.5),  # one that has ended
    ],
)
def test_waiting_in_the_queue_is_taken_off(
    before: dict[str, float],
    after: dict[str, float],
    serial: float,
    parallel: float,
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_queues(monkeypatch, before, after, before, after)

    def work() -> None:
        clock[0] += 4

    assert own_seconds(work, is_serial=True) == pytest.approx(serial)
    assert own_seconds(work, is_serial=False) == pytest.approx(parallel)


def test_some_time_is_left_whatever_the_queues_say(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_queues(monkeypatch, {"1": 0.0}, {"1": 50.0})

    def work() -> None:
        clock[0] += 4

    assert 0 < own_seconds(work, is_serial=True) < 4


def test_queues_are_read_as_linux_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, line in (("7", "100 2500000000 3\n"), ("8", "0 0 0\n"), ("9", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(line)
    (tmp_path / "10").mkdir()  # has just ended
    monkeypatch.setattr(stopwatch, "THREADS", tmp_path)
    assert queued_seconds() == {"7": 2.5, "8": 0.0}
    monkeypatch.setattr(stopwatch, "THREADS", tmp_path / "missing")
    assert queued_seconds() == {}


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="a system without it")
def test_this_system_tells_this_process() -> None:
    assert str(os.getpid()) in queued_seconds()
