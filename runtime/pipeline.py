"""A frame's way: source thread -> engine -> sink, in order, a few at a time.

The source runs in a thread of its own, the engine in as many as it can use,
the sink in the caller's, where Ctrl-C arrives: it is looked for between two
frames. The first error anywhere stops all of them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.console import check_interrupted, signals_wake
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError

STAGES = ("decode", "engine", "encode")
# Sees each frame before and after, in order.
Watcher = Callable[[Frames, Frames], None]


@dataclass(frozen=True)
class Frame:
    """A frame on its way: pixels uint8 ``[height, width, 3]`` RGB, and whatever
    the sink needs to put it in its place. One that ``is_sharp`` passes by the engine;
    ``arrived`` is when a live one came, of the monotonic clock.
    """

    pixels: Frames
    origin: Any
    is_sharp: bool = False
    arrived: float = 0.0


@dataclass(frozen=True)
class DeblurredFrame:
    """A :class:`Frame` with its deblurred ``pixels``, of the same shape."""

    blurred: Frame
    pixels: Frames

    @property
    def origin(self) -> Any:
        return self.blurred.origin


@dataclass(frozen=True)
class UnderWay:
    """A frame that the engine has, or has done."""

    frame: Frame
    result: Future[Frames]


@dataclass(frozen=True)
class End:
    """The source's last word: it is through, or the error that stopped it."""

    error: BaseException | None = None


class StageClock:
    """How long each stage worked, in seconds of its threads, and on how many frames;
    ``workers`` are the engine's threads.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.frames, self.workers = 0, 1
        self.started = time.perf_counter()
        self._lock = threading.Lock()

    def restart(self) -> None:
        """Count the time from now on."""
        self.started = time.perf_counter()

    @property
    def wall(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def milliseconds(self) -> float:
        """Engine time a frame, of one thread."""
        return 1000 * self.seconds["engine"] / max(self.frames, 1)

    def share(self, stage: str) -> float:
        """Of the time so far that a stage was at work: at 1 all others wait for it."""
        threads = self.workers if stage == "engine" else 1
        return min(1.0, self.seconds[stage] / max(self.wall, 1e-9) / threads)

    @property
    def limit(self) -> str:
        """The stage that the others wait for most."""
        return max(STAGES, key=self.share)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - start

    def run(self, backend: Backend, pixels: Frames) -> Frames:
        with self.measure("engine"):
            deblurred = backend.run(pixels[None])[0]
        if deblurred.shape != pixels.shape or deblurred.dtype != np.uint8:
            raise DeblurError(
                "--model",
                expected=f"a model whose frames come out as they go in, {list(pixels.shape)}",
                found=f"{deblurred.dtype} {list(deblurred.shape)}",
                remedy="export it with: deblur-export onnx",
            )
        with self._lock:
            self.frames += 1
        return deblurred


def run_pipeline(
    source: Iterable[Frame],
    backend: Backend,
    sink: Callable[[DeblurredFrame], None],
    clock: StageClock | None = None,
    *,
    ahead: int | None = None,
    give_up: Callable[[], None] = lambda: None,
) -> StageClock:
    """Feed every frame of ``source`` to ``sink``, deblurred and in order. ``clock`` may be
    looked at meanwhile. ``ahead`` is how many frames may be on their way: two a worker and
    one for the sink by default, and the less the sooner each comes out. ``give_up`` is called
    before the source is waited for at the end: one that may wait for ever has to end then.
    """
    clock = clock or StageClock()
    clock.workers = backend.in_flight
    frames: queue.SimpleQueue[UnderWay | End] = queue.SimpleQueue()
    slots = threading.Semaphore(ahead or 2 * backend.in_flight + 1)
    stopped = threading.Event()
    engine = ThreadPoolExecutor(backend.in_flight, thread_name_prefix="engine")

    def submit(frame: Frame) -> Future[Frames]:
        if not frame.is_sharp:
            return engine.submit(clock.run, backend, frame.pixels)
        as_it_is: Future[Frames] = Future()
        as_it_is.set_result(frame.pixels)
        return as_it_is

    def feed() -> None:
        try:
            coming = iter(source)
            while True:
                # A live source gives its newest frame: it is asked when there is room for it.
                slots.acquire()
                if stopped.is_set():
                    return
                with clock.measure("decode"):
                    frame = next(coming, None)
                if frame is None:
                    break
                frames.put(UnderWay(frame, submit(frame)))
            frames.put(End())
        except BaseException as error:
            frames.put(End(error))

    feeder = threading.Thread(target=feed, name="source", daemon=True)
    with signals_wake(lambda: frames.put(End())):
        feeder.start()
        try:
            while not isinstance(item := frames.get(), End):
                check_interrupted()
                done = DeblurredFrame(item.frame, item.result.result())
                with clock.measure("encode"):
                    sink(done)
                slots.release()
            if item.error is not None:
                raise item.error
        finally:
            stopped.set()
            slots.release()
            give_up()
            feeder.join()
            engine.shutdown(wait=True, cancel_futures=True)
    return clock
