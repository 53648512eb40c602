"""Plans on the GPU of this machine: built, verified by their golden pair, and timed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import golden_frame
from deblurgan.runtime.tensorrt.builder import BuildOptions
from deblurgan.runtime.tensorrt.device import Device, find_device
from deblurgan.runtime.tensorrt.plan_cache import cached_plan
from deblurgan.runtime.tensorrt.profiles import choose_profile
from deblurgan.runtime.tensorrt.runner import PlanRunner, verify

WARM_UP = 10


@dataclass(frozen=True)
class PlanRun:
    """One plan: ``largest`` and ``mean`` are its golden pair's difference in levels,
    ``repeats_equal`` whether a frame gives the same bytes each time; the latencies,
    host to host, are in seconds.
    """

    model: str
    precision: str
    engine: str
    build_seconds: float
    largest: int
    mean: float
    repeats_equal: bool
    runs: int
    p50: float
    p90: float
    p99: float


def require_gpu() -> Device:
    """Raises :class:`DeblurError` where there is none."""
    device = find_device()
    if device is None:
        raise DeblurError(
            "deblur-bench gpu",
            expected="an NVIDIA GPU and its driver",
            found="none that this process sees",
            remedy="run it on a machine with one; nvidia-smi shows what there is",
        )
    return device


def run_gpu_tests(checkout: Path) -> str:
    """The last line of what pytest says of the tests that are marked ``gpu``."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "--tb=short", str(checkout / "tests")],
        cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    print(done.stdout, file=sys.stderr)
    lines = done.stdout.strip().splitlines()
    return lines[-1] if lines else f"pytest ended with status {done.returncode}"


def measure_plan(
    model: Model,
    width: int,
    height: int,
    runs: int,
    progress: Callable[[int, int], None] | None = None,
) -> PlanRun:
    """Build a plan of one size (or take it from the cache), verify it and time it.

    Raises :class:`DeblurError` where it cannot be built or makes another picture.
    """
    start = time.perf_counter()
    plan = cached_plan(model, BuildOptions(choose_profile(model, size=(width, height))), progress)
    build_seconds = time.perf_counter() - start
    difference = verify(plan)
    frame = golden_frame(width, height)
    with PlanRunner(plan) as runner:
        equal = repeats_are_equal(runner.run, frame)
        times = time_runs(runner.run, frame, runs)
        engine = runner.description
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return PlanRun(
        model=model.path.name,
        precision=model.card.precision,
        engine=engine,
        build_seconds=build_seconds,
        largest=difference.largest,
        mean=difference.mean,
        repeats_equal=equal,
        runs=runs,
        p50=p50,
        p90=p90,
        p99=p99,
    )


def repeats_are_equal(run: Callable[[Frames], Frames], frame: Frames) -> bool:
    """These runs warm it up as well."""
    first = run(frame)
    return all(np.array_equal(run(frame), first) for _ in range(WARM_UP))


def time_runs(run: Callable[[Frames], Frames], frame: Frames, runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        check_interrupted()
        start = time.perf_counter()
        run(frame)
        times.append(time.perf_counter() - start)
    return times
