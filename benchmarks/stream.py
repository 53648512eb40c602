"""Frames that follow each other, as many under way as the engine takes: what becomes of them,
and how long lies between two.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames


def run_overlapping(backend: Backend, pictures: Sequence[Frames]) -> list[Frames]:
    """What the engine makes of them, in their order."""

    def run(picture: Frames) -> Frames:
        check_interrupted()
        return backend.run(picture)

    with ThreadPoolExecutor(backend.in_flight) as threads:
        return list(threads.map(run, pictures))


def measure_stream(backend: Backend, frame: Frames, frames: int, seconds: float) -> list[float]:
    """Seconds a frame, of ``frames`` frames, or of as many as there is time for, and of one at
    least. Each is a window over as many frames as are in flight, for they come out in groups;
    those of the beginning and the end, when fewer are under way, are not counted.
    """
    in_flight = backend.in_flight
    wanted, fewest = frames + 2 * in_flight - 1, 2 * in_flight
    done: list[float] = []
    begun = time.perf_counter()

    def work(_: int) -> None:
        while len(done) < fewest or (len(done) < wanted and time.perf_counter() - begun < seconds):
            backend.run(frame)
            done.append(time.perf_counter())

    with ThreadPoolExecutor(in_flight) as threads:
        list(threads.map(work, range(in_flight)))
    whole = sorted(done)[: len(done) - in_flight + 1]
    times = [(b - a) / in_flight for a, b in zip(whole, whole[in_flight:], strict=False)]
    return times[:frames]
