"""A bound on the memory of this process, so that what wants too much fails and can say so.

On a small device the kernel ends the process instead, or the desktop beside it.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deblurgan.runtime.tensorrt.device_memory import MEMINFO, read_meminfo

# Of what is available; the rest is for everything else that runs.
SHARE = 0.8
STATM = Path("/proc/self/statm")


@contextmanager
def memory_bound(meminfo: Path = MEMINFO) -> Iterator[None]:
    """Allocations beyond most of what is available now fail, in Python with ``MemoryError``.

    Without effect where the system does not tell what is available.
    """
    room = read_meminfo(meminfo)
    if room is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(STATM.read_text().split()[5]) * resource.getpagesize()
    limit = used + round(SHARE * room.free)
    limits = [limit, *(old for old in (soft, hard) if old != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
