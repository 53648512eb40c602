"""Whether work has become slower than allowed: times in, one of three outcomes out.

What is compared is the logarithm of work by reference, so that a machine twice as slow
changes nothing.

With no change and 5 % allowed, the interval has to be narrower than 4.9 % to each side. Where
processes differ by 1 %, eight of them in the baseline and four now make it 2.9 %: nine of ten
such comparisons pass at the first look, and all by the tenth. Where they differ by 2 %, four of
ten pass at the first and nearly all by the twentieth. A slowdown of 15 % lies 9 % beyond the
limit, and is found at the first look in both cases. What is slower by 5 % to the point no budget
can tell: it is inconclusive but for one time in thirty.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99
RESAMPLES = 10_000
# Below this many a resample says little of how processes differ.
FEWEST_PROCESSES = 4
# What a baseline leaves open, no later measurement makes up for, however long it takes.
FEWEST_OF_BASELINE = 8
TRIMMED = 0.25  # the share of a process's rounds that is cut off at each end


class Outcome(Enum):
    """Values are exit statuses; 1 and 2 are those of errors."""

    PASS = 0
    REGRESSION = 3
    INCONCLUSIVE = 4


@dataclass(frozen=True)
class Process:
    """What one process measured, in rounds: seconds of a frame (or of a job), and seconds of
    the reference in the same round.
    """

    work: tuple[float, ...]
    reference: tuple[float, ...]

    def __post_init__(self) -> None:
        times = (*self.work, *self.reference)
        if not self.work or len(self.work) != len(self.reference):
            raise ValueError("as many rounds of the work as of the reference, and one at least")
        if not all(1e-12 < seconds < 1e12 for seconds in times):
            raise ValueError("seconds are above 0, and no trillion")

    @property
    def log_ratios(self) -> NDArray[np.float64]:
        return np.log(self.work) - np.log(self.reference)


@dataclass(frozen=True)
class Comparison:
    """How many times as long the work takes as in the baseline, against the reference: the
    estimate and its interval; ``spread`` is the share by which processes differ.
    """

    change: float
    low: float
    high: float
    spread: float
    outcome: Outcome


def settle(
    baseline: Sequence[Process],
    measure: Callable[[], Process],
    most: float,
    budget: float,
    *,
    watch: Callable[[float], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Comparison, list[Process]]:
    """Measure one process after the other until it is a pass or a regression, or until
    ``budget`` seconds are spent: the comparison, and what was measured. ``watch`` is told the
    seconds that are.

    To look after each process makes one of the looks err more often than one look would; the
    confidence of each is higher for it.
    """
    now: list[Process] = []
    start = clock()
    while True:
        now.append(measure())
        spent = clock() - start
        watch(spent)
        found = compare(baseline, now, most)
        if found.outcome is not Outcome.INCONCLUSIVE or spent >= budget:
            return found, now


def collect(
    measure: Callable[[], Process],
    budget: float,
    *,
    watch: Callable[[float], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Process]:
    """For a baseline: as many as the budget has room for, and ``FEWEST_OF_BASELINE`` at least."""
    measured: list[Process] = []
    start = clock()
    while len(measured) < FEWEST_OF_BASELINE or clock() - start < budget:
        measured.append(measure())
        watch(clock() - start)
    return measured


def compare(
    baseline: Sequence[Process],
    now: Sequence[Process],
    most: float,
    *,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """``most`` is the slowdown that is allowed, 0.05 for 5 %.

    A regression where the whole interval lies above it, a pass where all of it lies below,
    inconclusive between, and with fewer than ``FEWEST_PROCESSES`` on either side. The same
    samples give the same answer.
    """
    random = np.random.default_rng(0)
    figures = [float(np.mean(centres(side))) for side in (now, baseline)]
    change = figures[0] - figures[1]
    errors = resample(now, random) - resample(baseline, random)
    low, high = change + np.quantile(errors, [(1 - confidence) / 2, (1 + confidence) / 2])
    enough = min(len(baseline), len(now)) >= FEWEST_PROCESSES
    return Comparison(
        math.exp(change),
        math.exp(low),
        math.exp(high),
        float(np.std(centres(now))),
        decide(low, high, math.log1p(most)) if enough else Outcome.INCONCLUSIVE,
    )


def decide(low: float, high: float, most: float) -> Outcome:
    if low > most:
        return Outcome.REGRESSION
    return Outcome.PASS if high < most else Outcome.INCONCLUSIVE


def centres(processes: Sequence[Process]) -> NDArray[np.float64]:
    return np.array([trimmed_mean(process.log_ratios) for process in processes])


def trimmed_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis; a quarter at each end may be anything."""
    cut = int(values.shape[-1] * TRIMMED)
    kept = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    return np.asarray(kept.mean(axis=-1))


def resample(processes: Sequence[Process], random: np.random.Generator) -> NDArray[np.float64]:
    """Errors that the mean of the processes may have: as many drawn from those that were, with
    replacement. That a process's rounds are noisy is in how the processes differ.
    """
    found = centres(processes)
    count = len(found)
    if count == 1:
        return np.zeros(RESAMPLES)
    errors = found[random.integers(0, count, (RESAMPLES, count))].mean(axis=1) - found.mean()
    # A few differ less than many would, and tell only roughly how much: for normal noise this
    # makes it Student's distribution.
    return np.asarray(errors * np.sqrt(count / random.chisquare(count - 1, RESAMPLES)))
