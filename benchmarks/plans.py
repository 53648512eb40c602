"""Plans on the GPU of this machine: built, verified by their golden pair, and timed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import PRECISIONS, Frames, Model, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import golden_frame
from deblurgan.runtime.tensorrt.builder import BuildOptions
from deblurgan.runtime.tensorrt.device import Device, find_device
from deblurgan.runtime.tensorrt.plan_cache import cached_plan
from deblurgan.runtime.tensorrt.profiles import choose_profile
from deblurgan.runtime.tensorrt.runner import PlanRunner, verify

if TYPE_CHECKING:
    from deblurgan.export.frames import Precision

WARM_UP = 10


@dataclass(frozen=True)
class PlanRun:
    """One plan: ``largest`` and ``mean`` are its golden pair's difference in levels,
    ``repeats_equal`` whether a frame gives the same bytes each time; the latencies,
    host to host, are in seconds. ``build_seconds`` are the builder's own.
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


@dataclass(frozen=True)
class TestRun:
    """Whether the tests marked ``gpu`` passed, and pytest's last line."""

    __test__ = False  # not one of pytest's own

    passed: bool
    said: str


def run_gpu_tests(checkout: Path) -> TestRun:
    """All that pytest prints goes to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "--tb=short", "tests"],
        cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    print(done.stdout, file=sys.stderr)
    lines = done.stdout.strip().splitlines()
    said = lines[-1] if lines else f"pytest ended with status {done.returncode}"
    return TestRun(done.returncode == 0, said)


def export_all(checkpoint: Path, folder: Path) -> list[Model]:
    """A checkpoint in every precision; int8 is calibrated on the two pictures of the
    package, which is enough for speed, and for whether the plan makes its file's picture.
    """
    from deblurgan.export.onnx_export import export_onnx
    from deblurgan.export.proof import PICTURES
    from deblurgan.export.search import QuantisationRequest
    from deblurgan.train.checkpoint import load_checkpoint

    loaded, choice, models = load_checkpoint(checkpoint), None, []
    request = QuantisationRequest(calibration=PICTURES, method="min-max")
    for precision in PRECISIONS:
        report = export_onnx(
            loaded,
            folder / f"{checkpoint.stem}-{precision}.onnx",
            cast("Precision", precision),
            quantisation=request if precision.startswith("int8") else None,
            choice=choice,
        )
        choice = choice or report.choice
        models.append(open_model(report.path))
    return models


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
    plan = cached_plan(model, BuildOptions(choose_profile(model, size=(width, height))), progress)
    difference = verify(plan)
    frame = golden_frame(width, height)
    with PlanRunner(plan) as runner:
        equal = repeats_are_equal(runner.run, frame)
        times = time_runs(runner.run, frame, runs)
        engine, build_seconds = runner.description, runner.card.seconds
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
