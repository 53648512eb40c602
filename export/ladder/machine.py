"""The machine that figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from deblurgan.runtime.backends import available_threads
from deblurgan.runtime.tensorrt.device import find_device

CPU_INFO = Path("/proc/cpuinfo")
# The instructions that decide how much int8 gains.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
PACKAGES = (
    "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """``cores`` are those that this process may use, ``memory`` is in bytes,
    ``packages`` name versions; ``devices`` is the NVIDIA GPU, if there is one.
    """

    processor: str
    instructions: tuple[str, ...]
    cores: int
    memory: int
    system: str
    python: str
    packages: dict[str, str]
    devices: tuple[str, ...]


def describe_machine() -> Machine:
    """This machine, without its name and without anything else of its owner."""
    cpu = read_cpu_info()
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    device = find_device()
    return Machine(
        processor=cpu.get("model name") or platform.processor() or platform.machine(),
        instructions=tuple(name for name in INSTRUCTIONS if name in flags),
        cores=available_threads(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=installed_versions(),
        devices=() if device is None else (device.name,),
    )


def read_cpu_info() -> dict[str, str]:
    """The first processor's lines of ``/proc/cpuinfo``; empty where there is none."""
    if not CPU_INFO.is_file():
        return {}
    first = CPU_INFO.read_text().split("\n\n")[0]
    rows = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}


def installed_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
