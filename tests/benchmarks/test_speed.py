"""The speed next to the paper's generator: the medians of rounds, and never nonsense."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from deblurgan.benchmarks import speed
from deblurgan.benchmarks.speed import compare_with_paper, paper_generator
from deblurgan.benchmarks.stream import run_overlapping
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.deblurrer import Deblurrer


class Counting:
    """A backend that remembers what it was given."""

    description = "counting"
    in_flight = 2

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, frames: Frames) -> Frames:
        assert frames.dtype == np.uint8
        self.shapes.append(frames.shape)
        return frames

    def close(self) -> None: ...


def test_an_engine_is_compared_with_the_paper(negative: Path) -> None:
    with Deblurrer(negative) as deblurrer:
        engine = deblurrer.engine(64, 64, overlap=True)
        result = compare_with_paper(engine, 64, 64, rounds=1, frames=1)
    for figure in (result.engine_seconds, result.paper_seconds, result.ratio):
        assert math.isfinite(figure)
        assert figure > 0
    assert result.ratio == pytest.approx(result.paper_seconds / result.engine_seconds)


def test_the_medians_of_the_rounds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine and paper take turns; eight frames are timed at once, one of the paper's."""
    times = iter([8.0, 4.0, 16.0, 12.0, 80.0, 500.0])

    def seconds(work: object) -> float:
        assert callable(work)
        work()
        return next(times)

    monkeypatch.setattr(speed, "seconds", seconds)
    monkeypatch.setattr(speed, "paper_generator", lambda: lambda frames: frames)
    backend = Counting()
    result = compare_with_paper(backend, 48, 32)
    assert (result.engine_seconds, result.paper_seconds, result.ratio) == (2, 12, 6)
    assert backend.shapes == [(1, 32, 48, 3)] * (1 + 3 * 8)


def test_every_frame_is_run() -> None:
    backend = Counting()
    run_overlapping(backend, [np.zeros((1, n, 16, 3), np.uint8) for n in (16, 24, 32)])
    assert sorted(backend.shapes) == [(1, n, 16, 3) for n in (16, 24, 32)]


def test_the_paper_generator_takes_frames_and_gives_pictures() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (1, 18, 34, 3), dtype=np.uint8)
    run = paper_generator()
    restored = run(frames)
    assert restored.shape == (1, 3, 18, 34)
    assert restored.abs().max() <= 1
    assert torch.equal(run(frames), restored)  # dropout is off
