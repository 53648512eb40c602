"""The frames in flight: each one has a slot, with all the memory that it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

# Seconds to wait for frames in flight; a slot whose thread was killed never comes back.
PATIENCE = 30


class Buffer:
    """Bytes on the device, and as many beside the processor, pinned: copies need no detour."""

    def __init__(self, cuda: Any, size: int, taken: ExitStack) -> None:
        self.host = cuda.pagelocked_empty(size, np.uint8)
        taken.callback(self.host.base.free)
        self.device = cuda.mem_alloc(size)
        taken.callback(self.device.free)


class Slot:
    """Memory for one frame of ``size`` bytes before and after, and the events that say
    how far it is: ``uploaded`` to the device, ``computed``, ``downloaded`` to the host.
    """

    uploaded: Any
    computed: Any
    downloaded: Any

    def __init__(self, cuda: Any, size: int, taken: ExitStack) -> None:
        self.given = Buffer(cuda, size, taken)
        self.made = Buffer(cuda, size, taken)
        # Whoever waits sleeps: decoder and encoder want the processor.
        flags = cuda.event_flags.DISABLE_TIMING | cuda.event_flags.BLOCKING_SYNC
        for name in ("uploaded", "computed", "downloaded"):
            setattr(self, name, cuda.Event(flags))
            taken.callback(delattr, self, name)


class Slots:
    """Lends each slot to one thread at a time."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.all, self.idle = tuple(slots), list(slots)
        self.is_closed = False
        self.changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[Slot]:
        """Waits for an idle one; raises ``RuntimeError`` once closed."""
        with self.changed:
            self.changed.wait_for(lambda: self.idle or self.is_closed)
            if self.is_closed:
                raise RuntimeError("a plan cannot run after it was closed")
            slot = self.idle.pop(0)
        try:
            yield slot
        finally:
            with self.changed:
                self.idle.append(slot)
                self.changed.notify_all()

    def close(self) -> None:
        """Lend no more, and wait until all are back, but not for ever."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: len(self.idle) == len(self.all), PATIENCE)
