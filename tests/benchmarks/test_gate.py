"""The statistics of the gate, on made samples: nothing here looks at a clock."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurgan.benchmarks import gate
from deblurgan.benchmarks.gate import (
    FEWEST_OF_BASELINE,
    FEWEST_PROCESSES,
    Outcome,
    Process,
    collect,
    compare,
    settle,
    trimmed_mean,
)

BETWEEN, WITHIN = 0.010, 0.015  # as seen with the other core loaded, and a little more
ORDER = [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.REGRESSION]


def simulate(
    random: np.random.Generator,
    count: int = 5,
    slowdown: float = 1.0,
    machine: float = 1.0,
    noise: float = 1.0,
    rounds: int = 8,
) -> list[Process]:
    """Processes with noise of their own, rounds with more, and one in twelve disturbed; the
    machine drifts as a whole.
    """
    processes = []
    for _ in range(count):
        drift = machine * np.exp(random.normal(0, 0.2, rounds).cumsum())
        own = random.normal(0, BETWEEN * noise) + random.normal(0, WITHIN * noise, rounds)
        own += (random.random(rounds) < 1 / 12) * random.normal(0, 0.2 * noise, rounds)
        work = drift * slowdown * 0.02 * np.exp(own)
        processes.append(Process(tuple(work), tuple(drift * 0.01)))
    return processes


def scaled(processes: list[Process], factor: float) -> list[Process]:
    return [
        Process(tuple(factor * t for t in p.work), tuple(factor * t for t in p.reference))
        for p in processes
    ]


def slowed(processes: list[Process], factor: float) -> list[Process]:
    return [Process(tuple(factor * t for t in p.work), p.reference) for p in processes]


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.01, 100))
def test_a_machine_of_another_speed_changes_nothing(seed: int, factor: float) -> None:
    random = np.random.default_rng(seed)
    before, now = simulate(random), simulate(random, slowdown=1.04)
    one, other = compare(before, now, 0.05), compare(before, scaled(now, factor), 0.05)
    assert other.change == pytest.approx(one.change)
    assert (other.low, other.high) == pytest.approx((one.low, one.high))


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    less=st.floats(0.8, 1.3),
    more=st.floats(1.0, 1.5),
    most=st.floats(0, 0.3),
)
def test_more_slowdown_is_never_a_better_outcome(
    seed: int, less: float, more: float, most: float
) -> None:
    random = np.random.default_rng(seed)
    before, now = simulate(random), simulate(random)
    outcomes = [compare(before, slowed(now, f), most).outcome for f in (less, less * more)]
    assert ORDER.index(outcomes[0]) <= ORDER.index(outcomes[1])


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), most=st.floats(0, 0.3), more=st.floats(0, 0.3))
def test_to_allow_more_is_never_a_worse_outcome(seed: int, most: float, more: float) -> None:
    random = np.random.default_rng(seed)
    before, now = simulate(random), simulate(random, slowdown=1.08)
    strict, lenient = (compare(before, now, m).outcome for m in (most, most + more))
    assert ORDER.index(lenient) <= ORDER.index(strict)


@pytest.mark.parametrize(("count_before", "count_now"), [(4, 4), (8, 4), (6, 10)])
def test_the_interval_holds_the_truth_as_often_as_it_says(
    count_before: int, count_now: int
) -> None:
    random = np.random.default_rng(7)
    runs, truth, misses = 120, 1.03, 0
    for _ in range(runs):
        before = simulate(random, count_before)
        found = compare(before, simulate(random, count_now, truth), 0.05)
        assert found.low <= found.change <= found.high
        misses += not found.low <= truth <= found.high
    assert misses / runs <= 0.025


@pytest.mark.parametrize(
    ("slowdown", "wanted", "least"),
    [(1.0, Outcome.PASS, 0.95), (0.8, Outcome.PASS, 1), (1.15, Outcome.REGRESSION, 0.95)],
)
def test_the_power_under_the_noise_of_a_loaded_machine(
    slowdown: float, wanted: Outcome, least: float
) -> None:
    """With as many processes as the budget has room for, and a look after each."""
    random = np.random.default_rng(3)
    runs, right = 40, 0
    for _ in range(runs):
        before = simulate(random, 6)
        now = iter(simulate(random, 20, slowdown))
        found, _ = settle(before, lambda now=now: next(now), 0.05, 9, clock=Ticks())
        right += found.outcome is wanted
    assert right / runs >= least


def test_a_slowdown_of_just_what_is_allowed_is_rarely_called_either(
) -> None:  # fmt: skip
    random = np.random.default_rng(5)
    runs, called = 40, 0
    for _ in range(runs):
        now = iter(simulate(random, 20, 1.05))
        found, _ = settle(simulate(random, 6), lambda now=now: next(now), 0.05, 9, clock=Ticks())
        called += found.outcome is not Outcome.INCONCLUSIVE
    assert called / runs <= 0.08


def test_a_baselines_own_noise_counts() -> None:
    random = np.random.default_rng(1)
    now = simulate(random, 8)
    widths = []
    for noise in (0.1, 10.0):
        found = compare(simulate(random, 4, noise=noise), now, 0.05)
        widths.append(found.high / found.low)
    assert widths[1] > 1.5 * widths[0]


def test_more_processes_narrow_the_interval() -> None:
    random = np.random.default_rng(2)
    found = [compare(simulate(random, n), simulate(random, n), 0.05) for n in (4, 64)]
    assert found[1].high / found[1].low < (found[0].high / found[0].low) ** 0.5


def test_the_same_samples_give_the_same_answer() -> None:
    random = np.random.default_rng(2)
    before, now = simulate(random), simulate(random)
    assert compare(before, now, 0.05) == compare(before, now, 0.05)


@pytest.mark.parametrize("few", [1, FEWEST_PROCESSES - 1])
def test_few_processes_settle_nothing(few: int) -> None:
    process = Process((0.02,) * 6, (0.01,) * 6)
    for before, now in ((few, 9), (9, few)):
        found = compare([process] * before, [process] * now, 0.05)
        assert found.outcome is Outcome.INCONCLUSIVE
    assert compare([process] * 4, [process] * 4, 0.05).outcome is Outcome.PASS


def test_a_quarter_of_the_rounds_may_be_anything() -> None:
    values = np.array([1.0] * 4 + [1e9, 1e9, -1e9, -1e9])
    assert trimmed_mean(values) == 1
    assert trimmed_mean(np.array([3.0])) == 3


def test_a_gate_measures_until_it_knows_and_no_longer() -> None:
    clear = Process((0.04,) * 6, (0.01,) * 6)
    before = [Process((0.02,) * 6, (0.01,) * 6)] * 4
    seen: list[float] = []
    found, now = settle(before, lambda: clear, 0.05, 100, watch=seen.append, clock=Ticks())
    assert found.outcome is Outcome.REGRESSION
    assert found.change == pytest.approx(2)
    assert len(now) == FEWEST_PROCESSES == len(seen)


def test_a_gate_that_cannot_know_ends_with_its_budget() -> None:
    before = [Process((0.02,) * 6, (0.01,) * 6)] * 4
    border = Process((0.02 * 1.05,) * 6, (0.01,) * 6)
    noisy = [slowed([border], factor)[0] for factor in (0.97, 1.03)]
    turns = iter(noisy * 50)
    found, now = settle(before, lambda: next(turns), 0.05, 10, clock=Ticks())
    assert found.outcome is Outcome.INCONCLUSIVE
    assert len(now) == 10


def test_a_baseline_takes_its_budget_and_the_fewest_processes_at_least() -> None:
    process = Process((0.02,), (0.01,))
    assert len(collect(lambda: process, 1, clock=Ticks())) == FEWEST_OF_BASELINE
    assert len(collect(lambda: process, 30, clock=Ticks())) > FEWEST_OF_BASELINE


@pytest.mark.parametrize(
    ("work", "reference"),
    [((), ()), ((1.0,), ()), ((0.0,), (1.0,)), ((math.nan,), (1.0,)), ((1.0,), (-1.0,))],
)
def test_times_that_are_none_are_refused(
    work: tuple[float, ...], reference: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"rounds|above 0"):
        Process(work, reference)


def test_outcomes_and_errors_have_statuses_of_their_own() -> None:
    assert len({outcome.value for outcome in Outcome} | {1, 2, 130}) == 6
    assert gate.Outcome.PASS.value == 0


class Ticks:
    """A clock that goes on by a second each time it is looked at."""

    def __init__(self) -> None:
        self.ticks: Iterator[float] = iter(map(float, range(10_000)))

    def __call__(self) -> float:
        return next(self.ticks)
