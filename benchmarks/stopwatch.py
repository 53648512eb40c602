"""Time that a piece of work takes, less what it waited for a processor that others had."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

THREADS = Path("/proc/self/task")


def own_seconds(work: Callable[[], object]) -> float:
    """Wall seconds of ``work``, less those that its threads stood ready to run and did not.

    Sleeping, waiting for a lock or for a disk counts: that is the work's own doing. Where the
    system does not tell the time in its queue (Linux does), it is plain wall time.
    """
    queued = queued_seconds()
    start = time.perf_counter()
    work()
    wall = time.perf_counter() - start
    later = queued_seconds()
    # Threads that work together wait at the same time: the one that waited longest held up the
    # others for so long at least, and their sum would count what nobody waited for.
    waited = max((later[name] - queued.get(name, 0.0) for name in later), default=0.0)
    return wall - min(max(waited, 0.0), wall * (1 - 1e-3))


def queued_seconds() -> dict[str, float]:
    """Of each thread of this process, by its number: how long it has stood in the queue."""
    seconds = {}
    for thread in THREADS.iterdir() if THREADS.is_dir() else ():
        with suppress(OSError, IndexError, ValueError):  # it has just ended, or is not told
            # Nanoseconds on a processor, nanoseconds in the queue, turns.
            seconds[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return seconds
