"""Memory of the host's that the GPU copies from and to by itself: page-locked.

Out of it a copy takes half the time or less, and needs no processor. It is asked of
``libcuda``, so that ONNX Runtime needs no pycuda for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.tensorrt.device import LIBRARY

# Page-locked for every context, whichever is current where it is used.
PORTABLE = 1


class Refused(Exception):
    """The driver gives none."""


def page_locked(size: int, taken: ExitStack, library: str = LIBRARY) -> NDArray[np.uint8]:
    """``size`` bytes, freed with ``taken``: nothing may use them after that.

    Where the driver gives none it is ordinary memory, which is slower and no less right.
    """
    with ExitStack() as undo:
        try:
            address = allocate(size, undo, library)
        except (OSError, AttributeError, Refused):  # no driver, or another under its name
            return np.empty(size, np.uint8)
        taken.push(undo.pop_all())
    return np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)


def allocate(size: int, undo: ExitStack, library: str) -> int:
    """The address. The device's primary context, ONNX Runtime's too, lives as long as it."""
    cuda = ctypes.CDLL(library)
    device, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    must(cuda.cuInit(0))
    must(cuda.cuDeviceGet(ctypes.byref(device), 0))
    must(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    undo.callback(cuda.cuDevicePrimaryCtxRelease_v2, device)
    with current(cuda, context):
        must(cuda.cuMemHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), PORTABLE))
    undo.callback(free, cuda, context, address)
    if address.value is None:
        raise Refused
    return address.value


def free(cuda: Any, context: ctypes.c_void_p, address: ctypes.c_void_p) -> None:
    with current(cuda, context):
        cuda.cuMemFreeHost(address)


@contextmanager
def current(cuda: Any, context: ctypes.c_void_p) -> Iterator[None]:
    must(cuda.cuCtxPushCurrent_v2(context))
    try:
        yield
    finally:
        cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def must(status: int) -> None:
    if status != 0:
        raise Refused(f"CUDA error {status}")
