"""A row of the latency table, made of what its workload took: valid, noisy or refused."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from deblurgan.benchmarks.peak import Peak, find_product, share_of_peak
from deblurgan.benchmarks.worker_process import Opened
from deblurgan.benchmarks.workload import PAPER, Workload

FEWEST_RUNS = 10  # below that quartiles say nothing
NOISY_SPREAD = 0.10  # of the median, between the quartiles
NOISY_TAIL = 2.0  # times the median, at the 99th percentile

Verdict = Literal["valid", "noisy", "refused"]


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

    @property
    def title(self) -> str:
        """Model and precision, said once."""
        return self.model if self.precision in self.model else f"{self.model} {self.precision}"


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


def make_row(taken: Taken, cost: tuple[int, int] | None, eager: dict[object, Taken]) -> Row:
    workload, opened = taken.workload, taken.opened
    row = replace(
        refused_row(workload, taken.failed or too_few(taken)),
        name=name_of(workload, opened),
        model=opened.model,
        engine=opened.engine,
        description=opened.description,
        precision=opened.precision,
        device=opened.device,
        in_flight=opened.in_flight,
        open_seconds=opened.open_seconds,
        peak_memory=opened.peak_memory or None,
        device_memory=opened.device_memory,
        multiply_adds=cost and cost[0],
        bytes_moved=cost and cost[1],
    )
    if taken.failed or taken.runs < FEWEST_RUNS:
        return row
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
