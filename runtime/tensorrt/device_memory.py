"""Whether a build will fit into the GPU's memory, asked before it has run for minutes.

``needed`` comes out of the network itself: the largest sum of tensors that are
alive at a time, at the largest frames of the profile. TensorRT for RTX then
asks for 1.1 to 1.9 times as much when the size is fixed and 4.2 to 5.5 times
when it is a range (measured at 720p and 1080p, with the shipped edge model, the
paper's generator and a U-Net).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.device import LIBRARY, Device
from deblurgan.runtime.tensorrt.parser import parse_onnx
from deblurgan.runtime.tensorrt.profiles import Profile

MEGABYTE = 1 << 20
FIXED_FACTOR, RANGE_FACTOR = 1.5, 5.0
# The file in the parser, the builder's copy, and the plan.
WEIGHTS_COPIES = 3
# What CUDA and TensorRT's kernels take before the first tensor, roughly.
CONTEXT = 500 * MEGABYTE
MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Need:
    """In bytes: ``activations`` are the tensors alive at a time at the largest frames."""

    weights: int
    activations: int
    is_fixed: bool

    @property
    def least(self) -> int:
        """Less than this no plan of the model can run in."""
        return self.weights + self.activations

    @property
    def likely(self) -> int:
        """What building takes, by the factors above."""
        factor = FIXED_FACTOR if self.is_fixed else RANGE_FACTOR
        return CONTEXT + WEIGHTS_COPIES * self.weights + round(factor * self.activations)


@dataclass(frozen=True)
class Room:
    """In bytes; ``is_shared`` where the GPU has no memory of its own (a Jetson)."""

    total: int
    free: int
    is_shared: bool = False


def check_room(need: Need, room: Room) -> str | None:
    """None where there is room; a warning where it is likely too little.

    Raises :class:`DeblurError` where there can never be enough.
    """
    kind = "memory, which processor and GPU share" if room.is_shared else "memory on the GPU"
    ways = "a smaller --max, " + ("" if need.is_fixed else "one --size instead of a range, ")
    ways += "--batch 1 or half precision (--precision fp16)"
    if need.least > room.total:
        raise DeblurError(
            "the largest frames of the profile",
            expected=f"a plan that fits into {megabytes(room.total)} of {kind}",
            found=f"{megabytes(need.least)} for weights and activations alone",
            remedy=f"try {ways}",
        )
    if need.likely <= room.free:
        return None
    ways += ", a bound like --workspace 512"
    if room.is_shared:
        ways += ", closing other programs, the desktop first, or more swap for what is not CUDA's"
    return (
        f"building may take {megabytes(need.likely)}, and {megabytes(room.free)} of "
        f"{megabytes(room.total)} of {kind} are free; if it fails, try {ways}"
    )


def estimate_need(bindings: Bindings, builder: Any, path: Path, profile: Profile) -> Need | None:
    """Read off a network of its own, made for the largest frames; None where the
    bindings leave a shape open.
    """
    parsed = parse_onnx(bindings, builder, path)
    parsed.network.get_input(0).shape = profile.max.dimensions
    activations = most_alive(parsed.network, bindings.trt)
    if activations is None:
        return None
    return Need(path.stat().st_size, activations, profile.is_fixed)


def most_alive(network: Any, trt: Any) -> int | None:
    """The most bytes of tensors that are alive at a time, when every layer writes its
    output to memory and a tensor ends with the last layer that reads it.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    last_read: dict[str, int] = {}
    for index, layer in enumerate(layers):
        for place in range(layer.num_inputs):
            tensor = layer.get_input(place)
            if tensor is not None:
                last_read[tensor.name] = index
    alive = most = 0
    ending: dict[int, int] = {}
    for index, layer in enumerate(layers):
        for place in range(layer.num_outputs):
            tensor = layer.get_output(place)
            size = tensor_size(tensor)
            if size is None:
                return None
            if layer.type == trt.LayerType.CONSTANT:
                continue
            end = last_read.get(tensor.name, index)
            ending[end] = ending.get(end, 0) + size
            alive += size
        most = max(most, alive)
        alive -= ending.pop(index, 0)
    return most


def tensor_size(tensor: Any) -> int | None:
    """In bytes, None where its shape is not known."""
    size = float(tensor.dtype.itemsize)
    for length in tensor.shape:
        if length < 0:
            return None
        size *= length
    return round(size)


def measure_room(
    device: Device | None, library: str = LIBRARY, meminfo: Path = MEMINFO
) -> Room | None:
    """None where there is no GPU: a plan built ahead of time needs none."""
    if device is None:
        return None
    if device.is_integrated:
        return read_meminfo(meminfo)
    free = ask_free(library)
    return Room(device.memory, device.memory if free is None else free)


def read_meminfo(path: Path) -> Room | None:
    with suppress(OSError):
        lines = dict(re.findall(r"^(\w+):\s+(\d+) kB$", path.read_text(), re.MULTILINE))
        if "MemTotal" in lines and "MemAvailable" in lines:
            total, free = int(lines["MemTotal"]), int(lines["MemAvailable"])
            return Room(total << 10, free << 10, is_shared=True)
    return None


def ask_free(library: str) -> int | None:
    """Free memory of the first GPU. Only a context may ask: the primary one is lent for it."""
    try:
        cuda = ctypes.CDLL(library)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        context, before = ctypes.c_void_p(), ctypes.c_void_p()
        device = ctypes.c_int()
        first: tuple[Callable[[], int], ...] = (
            lambda: cuda.cuInit(0),
            lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
            lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        )
        if any(step() != 0 for step in first):
            return None
        try:
            if cuda.cuCtxPushCurrent_v2(context) != 0:
                return None
            asked = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
            cuda.cuCtxPopCurrent_v2(ctypes.byref(before))
        finally:
            cuda.cuDevicePrimaryCtxRelease_v2(device)
    except (OSError, AttributeError):  # no such library, or another under its name
        return None
    return free.value if asked == 0 else None


def megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"
