"""pycuda, and the context that everything on the device shares."""

from __future__ import annotations

import atexit
import functools
import importlib
from typing import Any

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.bindings import how_to_install_pycuda


def import_pycuda(flavour: str) -> Any:
    """``pycuda.driver``, or a :class:`DeblurError` that says what is missing to run
    plans of this flavour.
    """
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        remedy = how_to_install_pycuda(flavour)
        if "libcuda" in str(error):
            remedy = "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install); in a "
            remedy += "container, start it with --gpus all"
        raise DeblurError(
            "pycuda", expected="pycuda and a driver for it", found=str(error), remedy=remedy
        ) from None


@functools.cache
def retain_context(cuda: Any) -> Any:
    """The first device's primary context, kept until the process ends: when pycuda lets
    go of one it leaves it current on the thread, where others would stumble over it.
    """
    cuda.init()
    atexit.register(retain_context.cache_clear)
    return cuda.Device(0).retain_primary_context()
