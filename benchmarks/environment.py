"""What a figure was measured with: the machine, its state, and the versions of all that
takes part.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from importlib import metadata

from deblurgan.benchmarks.machine_state import MachineState, read_state
from deblurgan.runtime.backends import available_threads
from deblurgan.runtime.processor import describe_processor
from deblurgan.runtime.tensorrt.device import find_device

PACKAGES = (
    "deblurgan-edge", "numpy", "torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt",
    "tensorrt-rtx-cu13", "av", "opencv-python-headless",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """``threads`` are the processors that this process may use, of ``cores``; ``state`` is the
    machine's when the result is written.
    """

    processor: str
    cores: int
    threads: int
    system: str
    python: str
    gpu: str | None
    versions: dict[str, str] = field(default_factory=dict)
    state: MachineState | None = None


def describe_environment() -> Environment:
    """Of this process on this machine."""
    device = find_device()
    return Environment(
        processor=describe_processor(),
        cores=os.cpu_count() or 1,
        threads=available_threads(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        gpu=None if device is None else device.description,
        versions=find_versions(),
        state=read_state(),
    )


def find_versions() -> dict[str, str]:
    """Of the packages that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
