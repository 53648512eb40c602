"""A frame's way: source thread -> engine -> sink, in order, a few at a time.

The source runs in a thread of its own, the engine in as many as it can use,
the sink in the caller's, where Ctrl-C arrives. The first error anywhere
stops all of them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import Frames

# Sees each frame before and after, in order.
Watcher = Callable[[Frames, Frames], None]


@dataclass(frozen=True)
class Frame:
    """A frame on its way: pixels uint8 ``[height, width, 3]`` RGB, and whatever
    the sink needs to put it in its place.
    """

    pixels: Frames
    origin: Any


@dataclass(frozen=True)
class DeblurredFrame:
    """A :class:`Frame` whose engine work is under way or done."""

    blurred: Frame
    result: Future[Frames]

    @property
    def origin(self) -> Any:
        return self.blurred.origin

    @property
    def pixels(self) -> Frames:
        """The deblurred pixels; waits for them."""
        return self.result.result()


@dataclass(frozen=True)
class End:
    """The source's last word: it is through, or the error that stopped it."""

    error: BaseException | None = None


class EngineClock:
    """How long the engine worked, in seconds of its threads, and on how many frames."""

    def __init__(self) -> None:
        self.seconds, self.frames = 0.0, 0
        self._lock = threading.Lock()

    @property
    def milliseconds(self) -> float:
        """Engine time a frame, of one thread."""
        return 1000 * self.seconds / max(self.frames, 1)

    def run(self, backend: Backend, pixels: Frames) -> Frames:
        start = time.perf_counter()
        deblurred = backend.run(pixels[None])[0]
        with self._lock:
            self.seconds += time.perf_counter() - start
            self.frames += 1
        return deblurred


def run_pipeline(
    source: Iterable[Any],
    backend: Backend,
    sink: Callable[[Any], None],
    clock: EngineClock | None = None,
) -> EngineClock:
    """Feed every item of ``source`` to ``sink``, in order; each :class:`Frame`
    reaches it as a :class:`DeblurredFrame`, everything else as it is. ``clock``
    may be looked at meanwhile.
    """
    clock = clock or EngineClock()
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # Frames are bounded, two a worker and one for the sink; what else passes
    # is small, and a burst of sound must not keep the next frame from the engine.
    slots = threading.Semaphore(2 * backend.in_flight + 1)
    stopped = threading.Event()
    engine = ThreadPoolExecutor(backend.in_flight, thread_name_prefix="engine")

    def feed() -> None:
        try:
            for item in source:
                if isinstance(item, Frame):
                    slots.acquire()
                    if stopped.is_set():
                        return
                    item = DeblurredFrame(item, engine.submit(clock.run, backend, item.pixels))
                elif stopped.is_set():
                    return
                items.put(item)
            items.put(End())
        except BaseException as error:
            items.put(End(error))

    feeder = threading.Thread(target=feed, name="source", daemon=True)
    feeder.start()
    try:
        while not isinstance(item := items.get(), End):
            sink(item)
            if isinstance(item, DeblurredFrame):
                slots.release()
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        slots.release()
        feeder.join()
        engine.shutdown(wait=True, cancel_futures=True)
    return clock
