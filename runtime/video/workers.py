"""Segments on several processes and machines, by way of Ray.

Each worker opens the video itself, decodes the two seconds that it is asked for, and gives
back the encoded segment: the file has to be found under the same name everywhere. What one
worker makes is what any other makes, so that of one that dies is made once more.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deblurgan.runtime import console
from deblurgan.runtime.backends import Backend, available_threads
from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import ModelCard
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError, Failure
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.pipeline import DeblurredFrame, StageClock, run_pipeline
from deblurgan.runtime.sharpness import SharpFrames
from deblurgan.runtime.tiling.fitting import Tile
from deblurgan.runtime.tiling.tiles import untiled
from deblurgan.runtime.video.choice import mark_sharp
from deblurgan.runtime.video.encoder import SegmentEncoder, VideoLayout
from deblurgan.runtime.video.segment import Segment, SegmentWriter
from deblurgan.runtime.video.source import Part, VideoSource
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.video_input import VideoInput

DEATHS = 3  # of workers over one segment, before it is taken for the segment's fault
ANSWERS = 5.0  # seconds within which a cluster has to
CLUSTER_THREADS = 4  # of a worker somewhere else, where --threads says nothing


@dataclass(frozen=True)
class Settings:
    """Of the engine, as :class:`~deblurgan.runtime.deblurrer.Deblurrer` takes them."""

    model: str | Path
    backend: str
    threads: int | None
    tile: Tile
    memory_limit: int | None


@dataclass(frozen=True)
class Task:
    """What a worker has to know of a video, of ``size`` (width, height), to make its segments
    as any other would; ``weights`` is the SHA-256 of the others' model's, where one has told.
    """

    source: VideoInput
    identity: str
    size: tuple[int, int]
    span: Span
    layout: VideoLayout
    compare: str | None
    keep_sharp: bool
    hardware: str
    weights: str | None = None


@dataclass(frozen=True)
class Made:
    """A segment's file, empty where no frame is in it; or why there is none."""

    content: bytes = b""
    frames: int = 0
    sharp: int = 0
    seconds: float = 0.0
    error: DeblurError | None = None


class SegmentWorker:
    """Lives in a process of its own, and keeps its engine from one segment to the next."""

    def __init__(self, settings: Settings) -> None:
        self._deblurrer = Deblurrer(
            settings.model,
            backend=settings.backend,
            threads=settings.threads,
            tile=settings.tile,
            memory_limit=settings.memory_limit,
        )

    def describe(self, task: Task) -> tuple[str, ModelCard] | DeblurError:
        """The engine, and what the model that it has loaded says of itself."""
        try:
            engine = untiled(self._engine(task))
            return engine.description, engine.model.card
        except DeblurError as error:
            return error

    def make(self, task: Task, number: int) -> Made:
        try:
            return self._make(task, number)
        except DeblurError as error:
            return Made(error=error)

    def _engine(self, task: Task) -> Backend:
        return self._deblurrer.engine(*task.size, overlap=True, written=task.layout.size)

    def _make(self, task: Task, number: int) -> Made:
        with (
            VideoSource(task.source, span=task.span, hardware=task.hardware) as source,
            tempfile.TemporaryDirectory() as folder,
        ):
            if source.identity != task.identity:
                raise DeblurError(
                    task.source.name,
                    expected="the same file on every machine",
                    found="another one here",
                    remedy="name a file in a folder that all of them share",
                )
            card = self._engine(task).model.card
            if task.weights not in (None, card.weights_sha256):
                raise DeblurError(
                    "--model",
                    expected="the same weights on every machine",
                    found="others here",
                    remedy="install the same version everywhere, or name a file that all share",
                )
            path, made = Path(folder) / "segment", list[Segment]()
            comparison = None
            if task.compare is not None:
                comparison = Comparison(task.compare, *source.size, source.turn)
            encoder = SegmentEncoder(
                path,
                task.layout,
                source,
                comparison,
                lambda _: SegmentWriter(path),
                lambda _, segment: made.append(segment),
            )

            def place(item: DeblurredFrame) -> None:
                encoder.encode(item.origin, item.blurred.pixels, item.pixels)

            sharp, clock = SharpFrames(), StageClock()
            frames = source.frames(Part(number, number + 1))
            taken = mark_sharp(frames, sharp) if task.keep_sharp else frames
            run_pipeline(taken, self._engine(task), place, clock)
            encoder.flush()
            if not made:
                return Made()
            count = len(made[0].summary.times)
            return Made(path.read_bytes(), count, sharp.kept, clock.seconds["engine"])


class WorkerPool:
    """Workers on the cluster at ``address``, or ``workers`` processes on this machine.

    Raises :class:`DeblurError` where Ray is missing or the cluster does not answer. As a
    context it lets the workers go.
    """

    def __init__(self, settings: Settings, *, address: str | None, workers: int | None) -> None:
        console.require("ray", "ray")
        self._ray, self._stopped = start_ray(address, workers), threading.Event()
        options: dict[str, Any] = {"num_cpus": 1}
        if address is None:
            self.size = workers or 1
            threads = settings.threads or max(1, available_threads() // self.size)
        else:
            there = self._ray.cluster_resources()
            threads = settings.threads or CLUSTER_THREADS
            if gpus := int(there.get("GPU", 0)):
                options = {"num_cpus": 1, "num_gpus": 1}
            else:
                threads = min(threads, max(1, int(there.get("CPU", 1))))
                options = {"num_cpus": threads}
            self.size = workers or gpus or max(1, int(there.get("CPU", 1)) // threads)
        self.settings = Settings(
            settings.model, settings.backend, threads, settings.tile, settings.memory_limit
        )
        self._kind = self._ray.remote(**options)(SegmentWorker)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.size):
            self._idle.put(None)  # begun when there is something to do

    def describe(self, task: Task) -> tuple[str, ModelCard]:
        """The engine that a worker has, and its model's card; those that begin later get the
        model in the same precision, whatever their engine is.
        """
        described: tuple[str, ModelCard] | DeblurError
        described = self._ask(lambda worker: worker.describe.remote(task))
        if isinstance(described, DeblurError):
            raise described
        _, card = described
        model = find_model(self.settings.model).in_precision(card.precision)
        self.settings = replace(self.settings, model=model.reference)
        return described

    def make(self, task: Task, number: int) -> Made:
        """A segment; waits for a worker that is idle. May be called from several threads.

        Raises :class:`DeblurError` as the worker did.
        """
        made: Made = self._ask(lambda worker: worker.make.remote(task, number))
        if made.error is not None:
            raise made.error
        return made

    def make_all(self, task: Task, numbers: list[int], done: Callable[[int, Made], None]) -> None:
        """Segments, several at a time; ``done`` is told of each in the caller's thread."""
        with ThreadPoolExecutor(self.size, thread_name_prefix="segment") as threads:
            running = {threads.submit(self.make, task, number): number for number in numbers}
            try:
                for future in as_completed(running):
                    console.check_interrupted()
                    done(running[future], future.result())
            except BaseException:
                for future in running:
                    future.cancel()
                if console.is_interrupted():
                    self.stop()
                raise

    def stop(self) -> None:
        """Let the workers go, whatever they are at."""
        self._stopped.set()
        self._ray.shutdown()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        worker = self._idle.get()
        try:
            for _ in range(DEATHS):
                if worker is None:
                    worker = self._kind.remote(self.settings)
                try:
                    return self._ray.get(question(worker))
                except self._ray.exceptions.RayActorError:
                    worker = None
                    if self._stopped.is_set():
                        raise
            raise Failure(
                "--workers",
                expected="workers that live until their segment is made",
                found=f"{DEATHS} that died over the same one",
                remedy="look at what killed them (memory: fewer workers, or --memory-limit)",
            )
        finally:
            self._idle.put(worker)


def start_ray(address: str | None, workers: int | None) -> Any:
    """Connect to a cluster, or begin one of this machine's processes."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None and (Path.home() / ".ray" / "auth_token").is_file():
        # As clusters of Ray 2.60 and later want it, unless they were told otherwise.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        settings |= {"num_cpus": workers, "include_dashboard": False}
    else:
        settings |= {"address": address}
    with own_signals():
        try:
            if address is not None:
                check_answers(address)
            ray.init(**settings)
        except (OSError, RuntimeError, ValueError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeblurError(
                "--ray" if address else "--workers",
                expected="a Ray cluster that answers",
                found=f"none at {address} ({said})" if address else f"none here ({said})",
                remedy="begin one with: ray start --head",
            ) from None
    return ray


def check_answers(address: str) -> None:
    """Ray itself would try for minutes. Raises ``OSError`` where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS).close()


@contextmanager
def own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
