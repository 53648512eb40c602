"""Time that a piece of work takes, less what it waited for a processor that others had."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

THREADS = Path("/proc/self/task")
LEAST = 0.02  # of the wall time, whatever the queues say


def own_seconds(work: Callable[[], object], *, is_serial: bool) -> float:
    """Wall seconds of ``work``, less those that its threads stood ready to run and did not.

    Sleeping, waiting for a lock or for a disk counts: that is the work's own doing. Where the
    system does not tell the time in its queue (Linux does), it is plain wall time.

    Of work that ``is_serial`` one thread is ready at a time, so all their waiting is wall time.
    Threads that work together wait at the same time: the one that waited longest held up the
    others for so long at least, and their sum would count what nobody waited for.
    """
    # To read takes time as well, and may have to wait: that is between the two looks at the
    # clock, so that what is taken off is never more than what is in them.
    start = time.perf_counter()
    queued = queued_seconds()
    work()
    later = queued_seconds()
    wall = time.perf_counter() - start
    waits = [max(later[name] - queued.get(name, 0.0), 0.0) for name in later]
    waited = sum(waits) if is_serial else max(waits, default=0.0)
    return max(wall - waited, wall * LEAST)


def queued_seconds() -> dict[str, float]:
    """Of each thread of this process, by its number: how long it has stood in the queue."""
    seconds = {}
    for thread in THREADS.iterdir() if THREADS.is_dir() else ():
        with suppress(OSError, IndexError, ValueError):  # it has just ended, or is not told
            # Nanoseconds on a processor, nanoseconds in the queue, turns.
            seconds[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return seconds
