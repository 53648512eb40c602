"""What the streams rest on, with pycuda alone: memory beside the processor that the GPU
copies from by itself, and copies in both directions at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.tensorrt.pycuda_driver import retain_context
from deblurgan.runtime.tensorrt.slots import Buffer, Slot

FRAME = 1920 * 1080 * 3 * 16  # bytes: copies that take some milliseconds
ROUNDS = 5


@pytest.fixture
def cuda() -> Iterator[Any]:
    cuda = pytest.importorskip("pycuda.driver")
    if find_device() is None:
        pytest.skip("no GPU")
    context = retain_context(cuda)
    context.push()
    yield cuda
    context.pop()


@pytest.mark.gpu
def test_a_buffer_is_pinned_and_carries_what_is_put_in(cuda: Any) -> None:
    with ExitStack() as taken:
        stream = cuda.Stream()
        buffer = Buffer(cuda, 1 << 20, taken)
        sent = np.random.RandomState(1).randint(0, 256, 1 << 20).astype(np.uint8)
        buffer.host[:] = sent
        cuda.memcpy_htod_async(buffer.device, buffer.host, stream)
        stream.synchronize()
        buffer.host[:] = 0
        cuda.memcpy_dtoh_async(buffer.host, buffer.device, stream)
        stream.synchronize()
        assert np.array_equal(buffer.host, sent)


@pytest.mark.gpu
def test_up_and_down_overlap(cuda: Any) -> None:
    """By the clock of the GPU: both ways together take less time than one after the other."""
    with ExitStack() as taken:
        up, down = cuda.Stream(), cuda.Stream()
        slot = Slot(cuda, FRAME, taken)
        begun, ended = cuda.Event(), cuda.Event()

        def took(back: Any) -> float:
            times = []
            for _ in range(ROUNDS):
                begun.record(up)
                slot.uploaded.record(up)
                back.wait_for_event(slot.uploaded)
                cuda.memcpy_htod_async(slot.given.device, slot.given.host, up)
                cuda.memcpy_dtoh_async(slot.made.host, slot.made.device, back)
                slot.downloaded.record(back)
                up.wait_for_event(slot.downloaded)
                ended.record(up)
                ended.synchronize()
                times.append(begun.time_till(ended))
            return float(np.median(times))

        took(down)  # the first time, memory is mapped
        assert took(down) < 0.85 * took(up)
