"""Latency: each row in a process of its own, all of a frame size in turn, round by round.

A machine whose speed drifts is no fairer to one row than to another, and the memory at its
peak is the row's own. A row whose spread says that it means little is flagged, and one with
too few runs has no figures.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from deblurgan.benchmarks.latency_rows import (
    Row,
    Taken,
    find_eager,
    make_row,
    name_of,
    refused_row,
    with_share,
)
from deblurgan.benchmarks.peak import Peak, drop_slow_int8
from deblurgan.benchmarks.worker_process import Opened, Refused, WorkerProcess
from deblurgan.benchmarks.workload import Workload
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.tiling.memory import format_memory, free_memory

PEAK_CALLS = 3  # in a round
LEAST_FREE = 512 << 20  # bytes; all rows of a size are in memory together


@dataclass(frozen=True)
class Budget:
    """A row ends at ``runs`` or after ``seconds``, whichever comes first."""

    runs: int = 30
    seconds: float = 20.0
    rounds: int = 5


@dataclass
class Latencies:
    """All rows, the peaks of the machine, and what could not be measured and why."""

    rows: list[Row] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


# Multiply-adds and bytes moved of a call, or None: of what model, precision and frames.
Cost = Callable[[Workload, Opened], "tuple[int, int] | None"]


def measure_latency(
    workloads: Sequence[Workload],
    peaks: Sequence[Workload],
    budget: Budget,
    cost: Cost,
    tell: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Latencies:
    """Measure ``workloads``, and with them ``peaks``. What does not run here becomes a row that
    is refused. ``tell`` hears of every turn: how many are over, of how many, and whose.
    """
    sizes: dict[tuple[int, int], list[Workload]] = defaultdict(list)
    for workload in workloads:
        sizes[workload.width, workload.height].append(workload)
    found = Latencies()
    total = len(workloads) + budget.rounds * len(workloads)
    done = 0

    def step(workload: Workload) -> None:
        nonlocal done
        check_interrupted()
        tell(done, total, name_of(workload))
        done += 1

    with ExitStack() as for_all:
        machine, missing = open_all(peaks, for_all, lambda _: None)
        for group in sizes.values():
            found.rows += measure_size(group, machine, budget, cost, step)
    found.missing = [f"peak of {w.engine or 'a copy'}: {why}" for w, why in missing.items()]
    found.peaks, dropped = drop_slow_int8([make_peak(taken) for _, taken in machine if taken.runs])
    found.missing += dropped
    found.rows = [with_share(row, found.peaks) for row in found.rows]
    return found


Ready = list[tuple[WorkerProcess, Taken]]


def measure_size(
    group: Sequence[Workload],
    machine: Ready,
    budget: Budget,
    cost: Cost,
    step: Callable[[Workload], None],
) -> list[Row]:
    """The rows of one frame size, all loaded together, and the machine's peaks between them."""
    with ExitStack() as workers:
        ready, refused = open_all(group, workers, step)
        for left in range(budget.rounds, 0, -1):
            # Up and down the order in turn.
            order = list(ready)
            ready.reverse()
            for worker, taken in order:
                step(taken.workload)
                take_turn(worker, taken, budget, left)
            for worker, taken in machine:
                check_interrupted()
                run_turn(worker, taken, PEAK_CALLS, budget.seconds / budget.rounds)
    rows = {taken.workload: taken for _, taken in ready}
    eager = find_eager(rows)
    made = []
    for workload in group:
        if workload in refused:
            made.append(refused_row(workload, refused[workload]))
        elif not is_idle_stream(workload, rows[workload].opened):
            taken = rows[workload]
            made.append(make_row(taken, cost(workload, taken.opened), eager))
    return made


def open_all(
    workloads: Sequence[Workload], workers: ExitStack, step: Callable[[Workload], None]
) -> tuple[Ready, dict[Workload, str]]:
    ready: Ready = []
    refused = {}
    for workload in workloads:
        step(workload)
        free = free_memory()
        if free is not None and free < LEAST_FREE:
            refused[workload] = (
                f"only {format_memory(free)} of memory free beside the other rows of this size: "
                "measure fewer at a time"
            )
            continue
        try:
            worker = workers.enter_context(WorkerProcess(workload))
            ready.append((worker, Taken(workload, worker.opened)))
        except Refused as why:
            refused[workload] = str(why)
    return ready, refused


def take_turn(worker: WorkerProcess, taken: Taken, budget: Budget, left: int) -> None:
    """Its share of what is left of the budget, with ``left`` rounds to go."""
    calls, seconds = budget.runs - taken.runs, budget.seconds - taken.spent
    if calls < 1 or seconds <= 0 or is_idle_stream(taken.workload, taken.opened):
        return
    run_turn(worker, taken, -(-calls // left), seconds / left)


def run_turn(worker: WorkerProcess, taken: Taken, calls: int, seconds: float) -> None:
    if taken.failed:
        return
    begun = time.perf_counter()
    try:
        turn = worker.take_turn(calls, seconds)
    except Refused as why:
        taken.failed = str(why)
        return
    taken.spent += time.perf_counter() - begun
    taken.frame.append(turn.frame)
    taken.engine.append(turn.engine)


def is_idle_stream(workload: Workload, opened: Opened) -> bool:
    """One frame in flight is one frame at a time, which has its row already."""
    return workload.stream and opened.in_flight == 1


def make_peak(taken: Taken) -> Peak:
    """Of the fastest run."""
    fastest = min(seconds for turn in taken.frame for seconds in turn)
    return Peak(
        taken.workload.kind,
        taken.opened.precision,
        taken.workload.device,
        taken.workload.threads,
        taken.opened.operations / fastest,
        taken.runs,
        taken.opened.description,
    )
