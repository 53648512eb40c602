"""A turn's calls: host to host and engine only, each as often as it says something."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the benchmarks want PyTorch")

from deblurgan.benchmarks import latency_worker
from deblurgan.benchmarks.latency_worker import take_turn


def test_host_to_host_and_engine_only_alternate() -> None:
    made: list[str] = []
    turn = take_turn(lambda: made.append("frame"), lambda: made.append("engine"), 3, 60)
    assert made == ["frame", "engine"] * 3
    assert [len(times) for times in turn.values()] == [3, 3]


def test_of_slow_calls_the_engine_alone_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_worker, "SLOW", 0.0)
    made: list[str] = []
    take_turn(lambda: made.append("frame"), lambda: made.append("engine"), 3, 60)
    assert made == ["frame", "engine", "frame", "frame"]


def test_a_turn_has_a_call_however_little_time_there_is() -> None:
    assert [len(times) for times in take_turn(int, None, 3, 0.0).values()] == [1, 0]
