"""Frames of a source that does not wait: the newest ones, in time, and the others counted."""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from deblurgan.runtime.pipeline import Frame

SMOOTHING = 0.2  # weight of the last frame in the mean that the next ones are judged by


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
    a device that is too slow shows what there is now.
    """

    def __init__(self, max_latency: float | None = None) -> None:
        self.max_latency, self.dropped = max_latency, 0
        self.error: BaseException | None = None
        self._waiting: deque[Frame] = deque()
        self._has_ended = False
        self._changed = threading.Condition()
        self._taken: dict[float, float] = {}  # by the time of arrival
        self._processing: float | None = None
        self._latencies = array("d")

    def take(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Frames of ``frames``, until it ends, breaks off or :meth:`stop` is called."""
        reader = threading.Thread(target=self._read, args=(frames,), name="live", daemon=True)
        reader.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._has_ended)
                if not self._waiting:
                    return
                self._drop_late()
                frame = self._waiting.popleft()
            self._taken[frame.arrived] = time.monotonic()
            yield frame

    def note_written(self, frame: Frame) -> None:
        now = time.monotonic()
        self._latencies.append(now - frame.arrived)
        took = now - self._taken.pop(frame.arrived, now)
        if self._processing is None:
            self._processing = took
        self._processing += SMOOTHING * (took - self._processing)

    def stop(self) -> None:
        """Take no more frames; those that wait still go their way."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    @property
    def latency(self) -> Latency:
        """Of the frames that were written."""
        known = 1000 * np.asarray(self._latencies if self._latencies else [0.0])
        p50, p99 = np.percentile(known, [50, 99])
        return Latency(len(self._latencies), self.dropped, float(p50), float(p99))

    def _read(self, frames: Iterator[Frame]) -> None:
        try:
            for frame in frames:
                with self._changed:
                    if self._has_ended:
                        return
                    self._waiting.append(replace(frame, arrived=time.monotonic()))
                    if self.max_latency is not None:
                        self._drop_late()
                    self._changed.notify_all()
        except BaseException as error:  # told at the end: what came before it is sound
            self.error = error
        self.stop()

    def _drop_late(self) -> None:
        if self.max_latency is None:
            return
        left = self.max_latency - (self._processing or 0.0)
        now = time.monotonic()
        while len(self._waiting) > 1 and now - self._waiting[0].arrived > max(left, 0.0):
            self._waiting.popleft()
            self.dropped += 1
