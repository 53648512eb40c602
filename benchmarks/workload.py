"""What a row of the latency table runs: one kind of work, prepared once and called often."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from deblurgan.benchmarks.engine_only import without_the_host
from deblurgan.benchmarks.stream import measure_stream
from deblurgan.runtime.backends import (
    NEED_GPU,
    Backend,
    NoEngine,
    choose_candidates,
    open_backend,
)
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import find_model

Kind = Literal["engine", "pytorch", "product", "copy"]
CPU, CUDA = "cpu", "cuda"
PAPER = "paper"  # the generator of that name in PyTorch, untrained


@dataclass(frozen=True)
class Workload:
    """``model`` is a model's name or file for an engine, and ``paper`` or a checkpoint for
    PyTorch; ``engine`` a backend, a way to run PyTorch, or the precision of a matrix product.
    ``batch`` frames are there at once; with ``stream`` frames follow each other instead, as
    many in flight as the engine takes. ``device`` is where PyTorch runs.
    """

    kind: Kind
    model: str = ""
    engine: str = ""
    width: int = 0
    height: int = 0
    batch: int = 1
    threads: int = 1
    stream: bool = False
    device: str = CPU


@dataclass(frozen=True)
class Subject:
    """Of a workload, what is there to be called; of a stream ``stream`` is, as
    :func:`~deblurgan.benchmarks.stream.measure_stream` says. ``engine`` is the backend's own
    name, or PyTorch's; ``description`` has its version; ``device_memory`` asks for bytes on
    the GPU. What ``make_engine_call`` gives leaves out the way from and to the host, and may
    take memory of its own; None where a batch or a stream is called. Of a matrix product
    ``operations`` are those of a call, of a copy the bytes that it reads and writes.
    """

    call: Callable[[], object]
    make_engine_call: Callable[[], Callable[[], object] | None]
    model: str
    engine: str
    description: str
    precision: str
    device: str
    in_flight: int
    device_memory: Callable[[], int | None]
    operations: float = 0.0
    stream: Callable[[int, float], list[float]] | None = None


def open_workload(workload: Workload, undo: ExitStack) -> Subject:
    """Load it; ``undo`` gives back what it takes. Raises :class:`DeblurError` with the reason
    where it does not run here.
    """
    if workload.kind == "engine":
        return open_engine(workload, undo)
    # Only now: an engine's memory is to be measured without PyTorch beside it.
    from deblurgan.benchmarks.pytorch_peers import open_copy, open_peer, open_product

    opener = {"pytorch": open_peer, "product": open_product, "copy": open_copy}[workload.kind]
    return opener(workload)


def open_engine(workload: Workload, undo: ExitStack) -> Subject:
    """A backend, whole frames without tiles."""
    model = find_model(workload.model)
    together = workload.batch > 1 or workload.stream
    name, backend = open_first(model, workload, together)
    undo.callback(backend.close)
    frame = make_frames(1, workload.height, workload.width)
    call: Callable[[], object]
    if together:
        threads = undo.enter_context(ThreadPoolExecutor(backend.in_flight))
        frames = [frame] * workload.batch

        def call() -> object:
            return list(threads.map(backend.run, frames))
    else:

        def call() -> object:
            return backend.run(frame)

    return Subject(
        call,
        lambda: None if together else without_the_host(backend, frame),
        Path(model.reference).stem,
        name,
        backend.description,
        backend.model.card.precision,
        CUDA if name in NEED_GPU else CPU,
        backend.in_flight,
        lambda: backend.memory,
        stream=partial(measure_stream, backend, frame) if workload.stream else None,
    )


def open_first(model: Model, workload: Workload, overlap: bool) -> tuple[str, Backend]:
    """The first backend that runs here, by its own name."""
    reasons: list[str] = []
    for name in choose_candidates(model, workload.engine):
        try:
            return name, open_backend(
                model,
                workload.width,
                workload.height,
                name=name,
                threads=workload.threads,
                overlap=overlap,
            )
        except NoEngine as error:
            reasons.append(error.found)
    raise DeblurError(
        workload.engine,
        expected="an engine that runs here",
        found="; ".join(reasons),
        remedy="leave out this --backend, or install it",
    )


def make_frames(batch: int, height: int, width: int) -> Frames:
    """Noise from a fixed seed: what is in a picture changes no engine's time."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
