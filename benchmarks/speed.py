"""Speed: an engine's frames a second next to the paper's generator in PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from deblurgan.benchmarks.stream import run_overlapping
from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import Frames
from deblurgan.train.networks import ResNetGenerator


@dataclass(frozen=True)
class Speed:
    """Seconds a frame: the engine's with frames overlapping, the paper's network's
    in PyTorch (eager, fp32), and how many times as fast the engine is.
    """

    engine_seconds: float
    paper_seconds: float
    ratio: float


def compare_with_paper(
    backend: Backend, width: int, height: int, rounds: int = 3, frames: int = 8
) -> Speed:
    """Engine and paper in turn on the same frames, ``rounds`` times; the medians,
    and the median of the rounds' ratios, which holds when the machine's speed drifts.
    """
    random = np.random.default_rng(0)
    pictures = [
        random.integers(0, 256, (1, height, width, 3), dtype=np.uint8) for _ in range(frames)
    ]
    paper = paper_generator()
    backend.run(pictures[0])
    paper(pictures[0])
    pairs = []
    for _ in range(rounds):
        engine = seconds(lambda: run_overlapping(backend, pictures)) / frames
        pairs.append((engine, seconds(lambda: paper(pictures[0]))))
    return Speed(
        statistics.median(engine for engine, _ in pairs),
        statistics.median(paper_time for _, paper_time in pairs),
        statistics.median(paper_time / engine for engine, paper_time in pairs),
    )


def paper_generator() -> Callable[[Frames], torch.Tensor]:
    """The paper's network as one would run it: eager, fp32, dropout off."""
    generator = ResNetGenerator().eval()

    @torch.inference_mode()
    def run(frames: Frames) -> torch.Tensor:
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        return generator(pictures)

    return run


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
