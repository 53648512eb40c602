"""Where a run computes: Fabric for the devices that are asked for, or that
``torchrun`` has started this process for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from torch import Tensor

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.processor import find_instructions
from deblurgan.train.recipe import Arithmetic, TrainingSettings


@dataclass(frozen=True)
class Devices:
    """``kind``: auto, cpu, cuda or cuda:N. ``count`` devices on each of ``nodes`` machines."""

    kind: str = "auto"
    count: int = 1
    nodes: int = 1


class KeepInputs(MixedPrecision):
    """Mixed precision that leaves the networks' inputs alone. Fabric's own would
    round the picture to 8 bits of mantissa before it is added as the global skip.
    """

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(devices: Devices, settings: TrainingSettings) -> Fabric:
    """Fabric, launched: in a process of a group it returns in each of them."""
    device = find_device(devices.kind)
    kind = device.type
    count, nodes = devices.count, devices.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has the say
        count = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // count
    if kind == "cuda" and count > torch.cuda.device_count():
        raise DeblurError(
            "--devices",
            expected=f"at most the {torch.cuda.device_count()} GPUs of this machine",
            found=str(count),
            remedy="ask for fewer",
        )
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    # Meant to catch reads of memory that nothing was written to; a step would pay for it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not settings.deterministic
    group = count * nodes > 1
    fabric = Fabric(
        accelerator=kind,
        devices=count if group or kind == "cpu" or device.index is None else [device.index],
        num_nodes=nodes,
        strategy="ddp" if group else "auto",
        plugins=[make_precision(settings.precision, kind)],
    )
    fabric.launch()
    return fabric


def find_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where it works."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("neither cpu nor cuda")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeblurError(
            "--device",
            expected="a device that is there",
            found=f"{name} ({str(error).splitlines()[0]})",
            remedy="leave it out, or use --device cpu",
        ) from None
    return device


def make_precision(precision: Arithmetic, kind: str) -> Precision:
    precision = settle_precision(precision, kind)
    if precision == "fp32":
        return Precision()
    if precision == "bf16":
        if computes_bf16(kind) is False and os.environ.get("LOCAL_RANK", "0") == "0":
            console.say("training.precision: bf16 is only imitated on this device: fp32 is faster")
        return KeepInputs("bf16-mixed", kind)
    if kind == "cpu":
        raise DeblurError(
            "training.precision",
            expected="fp32 or bf16 on a processor",
            found="fp16, which only GPUs train in",
            remedy="add --set training.precision=fp32",
        )
    return KeepInputs("16-mixed", kind)


def settle_precision(precision: Arithmetic, kind: str) -> Arithmetic:
    """The precision itself; of ``auto``, what trains fastest on devices of that kind."""
    if precision != "auto":
        return precision
    # PyTorch trains in bf16 with AVX-512; what it does on Arm has not been measured.
    tried = kind == "cuda" or "AVX-512" in find_instructions()
    return "bf16" if tried and computes_bf16(kind) else "fp32"


def computes_bf16(kind: str) -> bool | None:
    """Whether a device of that kind has instructions for it; None where nothing tells."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = find_instructions()
    return "bf16" in known if known else None


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """What one process fails at in here ends all of them, so that none waits for the
    others. Nothing in here may wait for them either.
    """
    error = None
    try:
        yield
    except DeblurError as found:
        error = found
    for told in gathered(fabric, error and vars(error)):
        if told is not None:
            raise told_once(fabric, error or DeblurError(**told)) from None


def check_alike(fabric: Fabric, folder: Path, facts: dict[str, Any]) -> None:
    """Raise ``DeblurError`` where processes know of another run, or of another point of it."""
    first, *others = gathered(fabric, facts)
    for number, other in enumerate(others, 1):
        for name, value in first.items():
            if other[name] != value:
                error = DeblurError(
                    folder,
                    expected=f"the same {name} for all processes",
                    found=f"{value} in the first, {other[name]} in number {number}",
                    remedy="let all machines see the same data and the same --output folder, and "
                    "name the precision where their processors differ: "
                    "--set training.precision=fp32",
                )
                raise told_once(fabric, error)


def gathered(fabric: Fabric, value: Any) -> list[Any]:
    """Every process's value, in the order of their ranks."""
    values = [value] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def told_once(fabric: Fabric, error: DeblurError) -> BaseException:
    """An error that all processes have, for one of them to tell."""
    return error if fabric.is_global_zero else SystemExit(console.BAD_INPUT)


def total(fabric: Fabric, numbers: list[float]) -> list[float]:
    """The sum over all processes of each of some numbers."""
    if fabric.world_size == 1:
        return numbers
    summed = torch.tensor(numbers, dtype=torch.float64, device=fabric.device)
    return cast(Tensor, fabric.all_reduce(summed, reduce_op="sum")).tolist()
