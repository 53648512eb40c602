"""Frames of a source that is read once: the newest ones in time, and the others counted."""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from deblurgan.runtime.pipeline import Frame

T = TypeVar("T")
# Frames that wait take so many bytes of pixels at most, but two may always wait.
WAITING = 32_000_000
# How long a reader that is to stop is waited for, in seconds.
FAREWELL = 1.0
SMOOTHING = 0.2  # weight of the last frame in the mean that the next ones are judged by
DEVIATIONS = 2.0  # mean absolute ones from the mean


class NetworkThread(threading.Thread):
    """One that FFmpeg may keep: where it waits for a network nothing can wake it."""

    def __init__(self, name: str, target: Callable[..., None], *given: object) -> None:
        super().__init__(target=target, args=given, name=name, daemon=True)


def is_network_waited_for() -> bool:
    """Whether FFmpeg has kept one."""
    return any(isinstance(thread, NetworkThread) for thread in threading.enumerate())


@dataclass(frozen=True)
class Latency:
    """From a frame's arrival to its being written, in milliseconds; ``dropped`` are frames
    that would have come too late.
    """

    frames: int
    dropped: int
    p50: float
    p99: float


class LiveFrames:
    """Takes frames as they come, in a thread of its own, and gives them to the engine.

    With ``max_latency`` (seconds) the oldest waiting frames are dropped where they would
    come out later than that after they arrived; the newest is never dropped, so that
    a device that is too slow shows what there is now. Without it none is: when too many
    wait, the source has to.
    """

    def __init__(self, max_latency: float | None = None) -> None:
        self.max_latency, self.dropped = max_latency, 0
        self.error: BaseException | None = None
        self._waiting: deque[Frame] = deque()
        self._has_ended = False
        self._reader: threading.Thread | None = None
        self._most = 2
        self._changed = threading.Condition()
        self._taken: dict[float, float] = {}  # by the time of arrival
        self._processing: float | None = None
        self._deviation = 0.0
        self._latencies = array("d")

    def take(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Frames of ``frames``, until it ends, breaks off or :meth:`stop` is called."""
        self._reader = NetworkThread("live", self._read, frames)
        self._reader.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._has_ended)
                if not self._waiting:
                    return
                self._drop_late()
                frame = self._waiting.popleft()
                self._changed.notify_all()
            self._taken[frame.arrived] = time.monotonic()
            yield frame

    def note_written(self, frame: Frame) -> None:
        now = time.monotonic()
        self._latencies.append(now - frame.arrived)
        took = now - self._taken.pop(frame.arrived, now)
        if self._processing is None:
            self._processing = took
        self._deviation += SMOOTHING * (abs(took - self._processing) - self._deviation)
        self._processing += SMOOTHING * (took - self._processing)

    def stop(self) -> None:
        """Take no more frames; those that wait still go their way."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and wait a moment for the thread that reads."""
        self.stop()
        if self._reader is not None:
            self._reader.join(FAREWELL)

    @property
    def latency(self) -> Latency:
        """Of the frames that were written."""
        known = 1000 * np.asarray(self._latencies if self._latencies else [0.0])
        p50, p99 = np.percentile(known, [50, 99])
        return Latency(len(self._latencies), self.dropped, float(p50), float(p99))

    def _read(self, frames: Iterator[Frame]) -> None:
        try:
            for frame in frames:
                arrived = replace(frame, arrived=time.monotonic())
                self._most = max(2, WAITING // frame.pixels.nbytes)
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    if self._has_ended:
                        return
                    self._waiting.append(arrived)
                    self._drop_late()
                    self._changed.notify_all()
        except BaseException as error:  # told at the end: what came before it is sound
            if not self._has_ended:  # or else it broke off because it was told to
                self.error = error
        self.stop()

    def _has_room(self) -> bool:
        is_full = self.max_latency is None and len(self._waiting) >= self._most
        return self._has_ended or not is_full

    def _drop_late(self) -> None:
        if self.max_latency is None:
            return
        while len(self._waiting) > self._most:
            self._drop_oldest()
        # Nearly every frame takes less than that.
        expected = (self._processing or 0.0) + DEVIATIONS * self._deviation
        left = self.max_latency - expected
        now = time.monotonic()
        while len(self._waiting) > 1 and now - self._waiting[0].arrived > max(left, 0.0):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._waiting.popleft()
        self.dropped += 1


def interruptibly(call: Callable[[], T]) -> T:
    """What ``call`` returns or raises. A signal does not wait for it: FFmpeg does not wake
    from waiting for a network.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    NetworkThread("open", run).start()
    return result.result()
