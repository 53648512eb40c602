"""Latencies that may be compared: everything takes turns, in rounds, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TypeVar

import numpy as np

from deblurgan.export.ladder.report import Latency, Speed, Timing
from deblurgan.export.ladder.runs import Eager, Runner
from deblurgan.runtime.backends import available_threads
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames
from deblurgan.train.networks import Generator, ResNetGenerator, describe_generator

Name = TypeVar("Name", bound=Hashable)
Rounds = list[list[float]]  # seconds of each call, round by round

PYTORCH, PAPER = "pytorch", "paper"


def measure_speed(
    runners: Sequence[Runner], generator: Generator, frame: Frames, seconds: float, rounds: int
) -> tuple[Timing, list[Speed | None]]:
    """Time all runners that may be timed on one frame, and with them PyTorch on the same
    generator and on the paper's, untrained: what it has learnt changes no time.
    """
    height, width = frame.shape[1:3]
    paper = ResNetGenerator().eval()
    is_paper = describe_generator(generator) == describe_generator(paper)
    with ExitStack() as stack:
        work: dict[str | int, Callable[[], object]] = {}
        for index, runner in enumerate(runners):
            if not runner.untimed:
                backend = stack.enter_context(closing(runner.load(width, height)))
                work[index] = partial(backend.run, frame)
        work[PYTORCH] = partial(Eager(generator).run, frame)
        if not is_paper:
            work[PAPER] = partial(Eager(paper).run, frame)
        taken = take_turns(work, seconds, rounds)
    taken.setdefault(PAPER, taken[PYTORCH])
    timing = Timing(
        width,
        height,
        seconds,
        rounds,
        available_threads(),
        latency(taken[PYTORCH]),
        latency(taken[PAPER]),
        is_paper,
    )
    speeds = [
        Speed(
            latency(taken[index]),
            times_as_fast(taken[index], taken[PYTORCH]),
            times_as_fast(taken[index], taken[PAPER]),
        )
        if index in taken
        else None
        for index in range(len(runners))
    ]
    return timing, speeds


def take_turns(
    work: Mapping[Name, Callable[[], object]],
    seconds: float,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Rounds]:
    """Seconds of every call. Each piece of work is called once to warm up, and then
    in every round until its share of ``seconds`` is over, once at least.

    A machine whose speed drifts is no fairer to one than to another: the rounds go
    up and down the order in turn.
    """
    for call in work.values():
        check_interrupted()
        call()
    taken: dict[Name, Rounds] = {name: [] for name in work}
    for turn in range(rounds):
        for name in list(work)[:: -1 if turn % 2 else 1]:
            taken[name].append(time_calls(work[name], seconds / rounds, clock))
    return taken


def time_calls(
    call: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> list[float]:
    times: list[float] = []
    while not times or sum(times) < seconds:
        check_interrupted()
        start = clock()
        call()
        times.append(clock() - start)
    return times


def latency(rounds: Rounds) -> Latency:
    """Percentiles over all rounds' calls."""
    times = [seconds for calls in rounds for seconds in calls]
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return Latency(len(times), p50, p90, p99)


def times_as_fast(rounds: Rounds, other: Rounds) -> float:
    """How many times as fast the first is: the median of the rounds' ratios, which
    holds where the machine's speed drifts.
    """
    return statistics.median(
        statistics.median(theirs) / statistics.median(mine)
        for mine, theirs in zip(rounds, other, strict=True)
    )
