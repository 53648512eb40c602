"""The GPU of this machine and its driver, asked of the driver itself.

``libcuda`` is there wherever a driver is, on a Jetson too, and answers without
pycuda, a context or memory on the device. It honours ``CUDA_VISIBLE_DEVICES``.
"""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libcuda.so.1"
# Where the kernel module and the board say what they are.
DRIVER_VERSION = (Path("/sys/module/nvidia/version"), Path("/proc/driver/nvidia/version"))
BOARD = Path("/proc/device-tree/model")
# CUdevice_attribute in cuda.h.
MULTIPROCESSOR_COUNT, INTEGRATED = 16, 18
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Device:
    """The first GPU that this process sees. ``name`` is for people: a Jetson's own where
    the system tells it; ``chip`` is what CUDA calls it. ``memory`` is in bytes, and the
    processor's too where the GPU ``is_integrated``. ``cuda`` is the newest CUDA that the
    driver serves, ``driver`` its own version where the system tells it.
    """

    name: str
    chip: str
    compute_capability: str
    multiprocessors: int
    is_integrated: bool
    memory: int
    driver: str | None
    cuda: str

    @property
    def identity(self) -> tuple[str, str, int]:
        """What a plan and its timings hold for. CUDA calls a whole family ``Orin``, and
        the multiprocessors tell its members apart; the board's name does not serve: a
        container hides it, and flashing may change it.
        """
        return self.chip, self.compute_capability, self.multiprocessors

    @property
    def description(self) -> str:
        return describe_gpu(self.name, self.compute_capability, self.multiprocessors)

    @property
    def architecture(self) -> str:
        """As TensorRT for RTX calls it: ``sm89`` for 8.9."""
        return "sm" + self.compute_capability.replace(".", "")


def find_device(library: str = LIBRARY) -> Device | None:
    """None where there is no NVIDIA GPU, no driver, or none that answers."""
    try:
        cuda = ctypes.CDLL(library)
        if cuda.cuInit(0) != 0:
            return None
        device, version = ctypes.c_int(), ctypes.c_int()
        asked = (
            COMPUTE_CAPABILITY_MAJOR,
            COMPUTE_CAPABILITY_MINOR,
            MULTIPROCESSOR_COUNT,
            INTEGRATED,
        )
        told = [ctypes.c_int() for _ in asked]
        memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
        answers = (
            cuda.cuDeviceGet(ctypes.byref(device), 0),
            cuda.cuDriverGetVersion(ctypes.byref(version)),
            cuda.cuDeviceGetName(name, len(name), device),
            cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
            *(
                cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
                for attribute, value in zip(asked, told, strict=True)
            ),
        )
    except (OSError, AttributeError):  # no such library, or another under its name
        return None
    if any(answers):
        return None
    major, minor, multiprocessors, integrated = (value.value for value in told)
    chip = name.value.decode(errors="replace")
    return Device(
        name=name_board() or chip,
        chip=chip,
        compute_capability=f"{major}.{minor}",
        multiprocessors=multiprocessors,
        is_integrated=integrated != 0,
        memory=memory.value,
        driver=read_driver_version(),
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def describe_gpu(name: str, compute_capability: str, multiprocessors: int) -> str:
    return f"{name} (compute capability {compute_capability}, {multiprocessors} multiprocessors)"


def name_board(path: Path = BOARD) -> str | None:
    """A Jetson's name, where the system tells it: a container hides it."""
    with suppress(OSError):
        board = path.read_bytes().decode(errors="replace").strip("\0\n ")
        if "Jetson" in board:
            return board
    return None


def read_driver_version(paths: tuple[Path, ...] = DRIVER_VERSION) -> str | None:
    for path in paths:
        with suppress(OSError):
            found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", path.read_text(errors="replace"))
            if found:
                return found[0]
    return None
