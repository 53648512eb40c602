"""Kernels that TensorRT for RTX compiled for this GPU, kept beside their plan.

The file is one line of JSON, which says what they were compiled for, and then RTX's own
bytes. It is never worth an error: without it the kernels are compiled again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole


@dataclass(frozen=True)
class KernelKey:
    """What kernels hold for."""

    plan_sha256: str
    tensorrt: str
    gpu: str


def kernels_path(plan: Path) -> Path:
    return plan.with_name(plan.name + ".cache")


def read_kernels(path: Path, key: KernelKey, warn: Callable[[str], None]) -> bytes:
    """Empty where there are none for ``key``, or none that may be handed to TensorRT."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        warn(f"{path}: not read ({error.strerror}); kernels are compiled anew")
        return b""
    line, _, kernels = content.partition(b"\n")
    try:
        card = json.loads(line)
        is_whole = card.pop("sha256") == hashlib.sha256(kernels).hexdigest()
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        warn(f"{path}: damaged, or not written by this program; kernels are compiled anew")
        return b""
    return kernels if card == asdict(key) else b""


def write_kernels(path: Path, key: KernelKey, kernels: bytes) -> None:
    card = {**asdict(key), "sha256": hashlib.sha256(kernels).hexdigest()}
    with suppress(DeblurError):  # a folder that may only be read
        write_whole(path, json.dumps(card).encode() + b"\n" + kernels, durable=False)
