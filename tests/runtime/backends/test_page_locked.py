"""Page-locked memory, of a ``libcuda`` that is compiled here and counts."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from deblurgan.runtime.backends.page_locked import page_locked
from deblurgan.runtime.tensorrt.device import LIBRARY, find_device

DRIVER = """
#include <stddef.h>
#include <stdlib.h>
static int retained, current, allocated;
int count_retained(void) { return retained; }
int count_current(void) { return current; }
int count_allocated(void) { return allocated; }
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)0x1234567890; retained++; return device == 7 ? 0 : 101;
}
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return device == 7 ? 0 : 101; }
int cuCtxPushCurrent_v2(void *context) {
    current++; return context == (void *)0x1234567890 ? 0 : 201;
}
int cuCtxPopCurrent_v2(void **context) { current--; return 0; }
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    if (ALLOC || !current || flags != 1) return 2;
    *address = malloc(size); allocated++; return 0;
}
int cuMemFreeHost(void *address) {
    if (!current) return 201;
    free(address); allocated--; return 0;
}
"""


@pytest.fixture
def compile_driver(tmp_path: Path) -> Callable[..., str]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def compile_(init: int = 0, alloc: int = 0) -> str:
        code, library = tmp_path / "cuda.c", tmp_path / f"libcuda-{init}-{alloc}.so"
        code.write_text(DRIVER)
        defines = [f"-DINIT={init}", f"-DALLOC={alloc}"]
        words = [str(compiler), "-shared", "-fPIC", *defines, "-o", str(library), str(code)]
        subprocess.run(words, check=True)
        return str(library)

    return compile_


def counts(library: str) -> tuple[int, int, int]:
    """Contexts retained, contexts current, and blocks of memory."""
    driver = ctypes.CDLL(library)
    return driver.count_retained(), driver.count_current(), driver.count_allocated()


def test_it_is_taken_and_given_back(compile_driver: Callable[..., str]) -> None:
    library = compile_driver()
    with ExitStack() as taken:
        first, second = (page_locked(size, taken, library) for size in (1000, 2_000_000))
        assert counts(library) == (2, 0, 2)
        first[:], second[:] = 1, 2
        assert (first.dtype, first.shape, second.shape) == (np.uint8, (1000,), (2_000_000,))
        assert (int(first.sum()), int(second.sum())) == (1000, 4_000_000)
    assert counts(library) == (0, 0, 0)


@pytest.mark.parametrize("fails", [{"init": 100}, {"alloc": 1}])
def test_a_driver_that_gives_none_leaves_ordinary_memory(
    fails: dict[str, int], compile_driver: Callable[..., str]
) -> None:
    library = compile_driver(**fails)
    with ExitStack() as taken:
        memory = page_locked(100, taken, library)
        assert counts(library) == (0, 0, 0)
        memory[:] = 3
        assert int(memory.sum()) == 300


def test_without_a_driver_it_is_ordinary_memory() -> None:
    with ExitStack() as taken:
        assert page_locked(100, taken, "libcuda-that-is-nowhere.so.1").size == 100


@pytest.mark.gpu
def test_a_real_driver_gives_some() -> None:
    if find_device() is None:
        pytest.skip("no GPU")
    kind = ctypes.c_uint()
    with ExitStack() as taken:
        memory = page_locked(1 << 20, taken)
        memory[:] = 7
        asked = ctypes.CDLL(LIBRARY).cuPointerGetAttribute(
            ctypes.byref(kind), 2, ctypes.c_void_p(memory.ctypes.data)
        )
        assert (asked, kind.value) == (0, 1), "of the host, and known to CUDA"
