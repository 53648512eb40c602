"""The machine that figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass

from deblurgan.runtime.backends import available_threads
from deblurgan.runtime.processor import find_instructions, name_processor
from deblurgan.runtime.tensorrt.device import find_device

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
    device = find_device()
    return Machine(
        processor=name_processor(),
        instructions=find_instructions(),
        cores=available_threads(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=installed_versions(),
        devices=() if device is None else (device.name,),
    )


def installed_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
