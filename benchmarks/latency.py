"""Latency: each row in a process of its own, all of a frame size in turn, round by round.

A machine whose speed drifts is no fairer to one row than to another, and the memory at its
peak is the row's own. A row whose spread says that it means little is flagged, and one with
too few runs has no figures.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from deblurgan.benchmarks.peak import Peak, drop_slow_int8, find_product, share_of_peak
from deblurgan.benchmarks.worker_process import Opened, Refused, WorkerProcess
from deblurgan.benchmarks.workload import PAPER, Workload
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.tiling.memory import format_memory, free_memory

FEWEST_RUNS = 10  # below that quartiles say nothing
NOISY_SPREAD = 0.10  # of the median, between the quartiles
NOISY_TAIL = 2.0  # times the median, at the 99th percentile
PEAK_CALLS = 3  # in a round
LEAST_FREE = 512 << 20  # bytes; all rows of a size are in memory together

Verdict = Literal["valid", "noisy", "refused"]


@dataclass(frozen=True)
class Budget:
    """A row ends at ``runs`` or after ``seconds``, whichever comes first."""

    runs: int = 30
    seconds: float = 20.0
    rounds: int = 5


@dataclass(frozen=True)
class Percentiles:
    """Of a call's seconds. ``iqr`` lies between the quartiles, ``spread`` is its share of the
    median; ``rounds`` are the rounds' medians.
    """

    runs: int
    p50: float
    p90: float
    p99: float
    iqr: float
    spread: float
    rounds: tuple[float, ...]

    @property
    def noise(self) -> str:
        """Why it means little; empty where it does not."""
        if self.spread > NOISY_SPREAD:
            return f"its quartiles lie {self.spread:.0%} of the median apart"
        if self.p99 > NOISY_TAIL * self.p50:
            return f"its 99th percentile is {self.p99 / self.p50:.1f} times the median"
        return ""


@dataclass(frozen=True)
class Row:
    """A workload's figures. A call takes ``frame`` seconds from ``batch`` uint8 frames on the
    host to as many deblurred ones; of one frame at a time ``engine_only`` leaves out the way
    from and to the host. A row with ``stream`` has ``in_flight`` frames under way all the
    time, and its seconds are those between two of them.

    Memory is in bytes, ``device_memory`` on the GPU; ``multiply_adds`` and ``bytes_moved`` (an
    estimate) are a call's; ``times_as_fast`` is next to the paper's generator in eager PyTorch
    with the same frames and threads, the median of the rounds' ratios.
    """

    name: str
    model: str
    engine: str
    description: str
    precision: str
    device: str
    width: int
    height: int
    batch: int
    threads: int
    stream: bool
    verdict: Verdict
    reason: str = ""
    in_flight: int = 1
    frame: Percentiles | None = None
    engine_only: Percentiles | None = None
    frames_a_second: float | None = None
    open_seconds: float | None = None
    peak_memory: int | None = None
    device_memory: int | None = None
    multiply_adds: int | None = None
    bytes_moved: int | None = None
    share_of_peak: float | None = None
    times_as_fast: float | None = None


@dataclass
class Latencies:
    """All rows, the peaks of the machine, and what could not be measured and why."""

    rows: list[Row] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass
class Taken:
    """What a workload has given so far: seconds of calls, round by round, and how many were
    ``spent`` on it.
    """

    workload: Workload
    opened: Opened
    frame: list[list[float]] = field(default_factory=list)
    engine: list[list[float]] = field(default_factory=list)
    failed: str = ""
    spent: float = 0.0

    @property
    def runs(self) -> int:
        return sum(map(len, self.frame))


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
    found, fastest = Latencies(), dict[Workload, Peak]()
    total = len(workloads) + budget.rounds * len(workloads)
    done = 0

    def step(workload: Workload) -> None:
        nonlocal done
        check_interrupted()
        tell(done, total, name_of(workload))
        done += 1

    for group in sizes.values():
        with ExitStack() as workers:
            ready, refused = open_all(group, workers, step)
            machine, missing = open_all(peaks, workers, lambda _: None)
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
        note_peaks(fastest, [taken for _, taken in machine])
        rows = {taken.workload: taken for _, taken in ready}
        eager = find_eager(rows)
        for workload in group:
            if workload in refused:
                found.rows.append(refused_row(workload, refused[workload]))
            elif not is_idle_stream(workload, rows[workload].opened):
                taken = rows[workload]
                found.rows.append(make_row(taken, cost(workload, taken.opened), eager))
        found.missing += [f"peak of {w.engine or 'a copy'}: {why}" for w, why in missing.items()]
    found.missing = list(dict.fromkeys(found.missing))
    found.peaks, dropped = drop_slow_int8(list(fastest.values()))
    found.missing += dropped
    found.rows = [with_share(row, found.peaks) for row in found.rows]
    return found


Ready = list[tuple[WorkerProcess, Taken]]


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


def note_peaks(fastest: dict[Workload, Peak], measured: Sequence[Taken]) -> None:
    for taken in measured:
        times = [seconds for turn in taken.frame for seconds in turn]
        if not times:
            continue
        workload, opened = taken.workload, taken.opened
        before = fastest.get(workload)
        peak = Peak(
            workload.kind,
            opened.precision,
            workload.device,
            workload.threads,
            max(opened.operations / min(times), before.rate if before else 0.0),
            len(times) + (before.runs if before else 0),
            opened.description,
        )
        fastest[workload] = peak


def make_row(taken: Taken, cost: tuple[int, int] | None, eager: dict[object, Taken]) -> Row:
    workload, opened = taken.workload, taken.opened
    row = Row(
        name=name_of(workload, opened),
        model=opened.model,
        engine=opened.engine,
        description=opened.description,
        precision=opened.precision,
        device=opened.device,
        width=workload.width,
        height=workload.height,
        batch=workload.batch,
        threads=workload.threads,
        stream=workload.stream,
        in_flight=opened.in_flight,
        open_seconds=opened.open_seconds,
        peak_memory=opened.peak_memory or None,
        device_memory=opened.device_memory,
        multiply_adds=cost and cost[0],
        bytes_moved=cost and cost[1],
        verdict="valid",
    )
    if taken.failed or taken.runs < FEWEST_RUNS:
        return replace(row, verdict="refused", reason=taken.failed or too_few(taken))
    frame = percentiles(taken.frame)
    engine = percentiles(taken.engine) if any(taken.engine) else None
    peer = eager.get(alike(workload))
    return replace(
        row,
        verdict="noisy" if frame.noise else "valid",
        reason=frame.noise,
        frame=frame,
        engine_only=engine,
        frames_a_second=(1 if workload.stream else workload.batch) / frame.p50,
        times_as_fast=None if peer is None else times_as_fast(frame, peer),
    )


def too_few(taken: Taken) -> str:
    each = taken.spent / max(taken.runs, 1)
    return (
        f"{taken.runs} runs in {taken.spent:.0f} s, and fewer than {FEWEST_RUNS} say nothing: "
        f"--runs {FEWEST_RUNS} and --seconds {each * (FEWEST_RUNS + 2):.0f} would be enough"
    )


def percentiles(rounds: Sequence[Sequence[float]]) -> Percentiles:
    """Over all rounds' calls."""
    times = [seconds for turn in rounds for seconds in turn]
    p25, p50, p75, p90, p99 = (float(v) for v in np.percentile(times, (25, 50, 75, 90, 99)))
    medians = tuple(statistics.median(turn) for turn in rounds if turn)
    return Percentiles(len(times), p50, p90, p99, p75 - p25, (p75 - p25) / p50, medians)


def find_eager(rows: dict[Workload, Taken]) -> dict[object, Taken]:
    """The paper's generator in eager PyTorch, by frames and threads."""
    return {
        alike(workload): taken
        for workload, taken in rows.items()
        if workload.kind == "pytorch"
        and (workload.model, workload.engine) == (PAPER, "eager")
        and taken.runs >= FEWEST_RUNS
    }


def alike(workload: Workload) -> object:
    batch = 1 if workload.stream else workload.batch
    return workload.width, workload.height, batch, workload.threads


def times_as_fast(frame: Percentiles, peer: Taken) -> float:
    """The median of the rounds' ratios, which holds where the machine's speed drifts."""
    theirs = percentiles(peer.frame).rounds
    return statistics.median(b / a for a, b in zip(frame.rounds, theirs, strict=False))


def with_share(row: Row, peaks: Sequence[Peak]) -> Row:
    peak = find_product(peaks, row.precision, row.device, row.threads)
    if peak is None or row.frame is None or row.multiply_adds is None:
        return row
    return replace(row, share_of_peak=share_of_peak(2 * row.multiply_adds, row.frame.p50, peak))


def refused_row(workload: Workload, reason: str) -> Row:
    return Row(
        name=name_of(workload),
        model=workload.model.rpartition("/")[2],
        engine=engine_of(workload),
        description="",
        precision="",
        device=workload.device,
        width=workload.width,
        height=workload.height,
        batch=workload.batch,
        threads=workload.threads,
        stream=workload.stream,
        verdict="refused",
        reason=reason,
    )


def engine_of(workload: Workload) -> str:
    return f"pytorch {workload.engine}" if workload.kind == "pytorch" else workload.engine


def name_of(workload: Workload, opened: Opened | None = None) -> str:
    """Stable from run to run, for those who compare them."""
    model = opened.model if opened else workload.model.rpartition("/")[2]
    engine = f"{opened.precision} {opened.engine}" if opened else engine_of(workload)
    frames = "in flight" if workload.stream else f"batch {workload.batch}"
    size = f"{workload.width}x{workload.height}"
    return f"{model} {engine} {size} {frames} threads {workload.threads}"
