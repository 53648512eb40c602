"""Models on the GPU of this machine: plans built, pictures verified, frames timed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from deblurgan.benchmarks.stream import run_overlapping
from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import PRECISIONS, Frames, Model, open_model
from deblurgan.runtime.difference import TOLERANCES, Difference
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import Golden, compare_golden
from deblurgan.runtime.tensorrt.device import Device, find_device

if TYPE_CHECKING:
    from deblurgan.export.frames import Precision

WARM_UP = 10


@dataclass(frozen=True)
class EngineRun:
    """A model on a backend. ``open_seconds`` is from nothing to ready, with building the
    plan where none was kept; ``largest`` and ``mean`` are the golden pair's difference in
    levels, ``repeats_equal`` whether a frame gives the same bytes each time. The latencies,
    host to host and one frame at a time, are in seconds; ``frames_a_second`` are reached
    with ``in_flight`` of them under way, and ``memory`` is what they take of the device's.
    """

    model: str
    precision: str
    backend: str
    engine: str
    open_seconds: float
    largest: int
    mean: float
    repeats_equal: bool
    runs: int
    p50: float
    p90: float
    p99: float
    in_flight: int
    frames_a_second: float
    memory: int | None


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


def measure_engine(
    model: Model,
    name: str,
    golden: Golden,
    runs: int,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> EngineRun:
    """Load a model for frames of its golden pair's size, compare with the pair and time it.

    Raises :class:`~deblurgan.runtime.backends.NoEngine` where the backend is missing here,
    and :class:`DeblurError` where it makes another picture or a plan cannot be built.
    """
    width, height = golden.width, golden.height
    frame, start = golden.frame(), time.perf_counter()
    engine = open_backend(model, width, height, name=name, progress=progress, warn=warn)
    opened = time.perf_counter() - start
    try:
        difference = compare_golden(golden, engine.run(frame))
        check_difference(model, name, difference)
        equal = repeats_are_equal(engine.run, frame)
        times = time_runs(engine.run, frame, runs)
    finally:
        engine.close()
    engine = open_backend(model, width, height, name=name, overlap=True, warn=warn)
    try:
        run_overlapping(engine, [frame] * WARM_UP)
        start = time.perf_counter()
        run_overlapping(engine, [frame] * runs)
        rate = runs / (time.perf_counter() - start)
        in_flight, memory, said = engine.in_flight, engine.memory, engine.description
    finally:
        engine.close()
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return EngineRun(
        model=model.path.name,
        precision=model.card.precision,
        backend=name,
        engine=said,
        open_seconds=opened,
        largest=difference.largest,
        mean=difference.mean,
        repeats_equal=equal,
        runs=runs,
        p50=p50,
        p90=p90,
        p99=p99,
        in_flight=in_flight,
        frames_a_second=rate,
        memory=memory,
    )


def check_difference(model: Model, name: str, difference: Difference) -> None:
    tolerance = TOLERANCES[model.card.precision]
    if not difference.within(tolerance):
        raise DeblurError(
            model.path,
            expected=f"its golden pair's picture on {name} (largest difference "
            f"{tolerance.largest}, mean {tolerance.mean} levels)",
            found=f"another: {difference}",
            remedy="report it with these numbers",
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
