"""What this machine has of all that running a plan takes, and what a plan lacks here."""

from __future__ import annotations

import importlib.util
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.bindings import (
    TITLES,
    find_bindings,
    how_to_install,
    how_to_install_pycuda,
)
from deblurgan.runtime.tensorrt.device import Device, describe_gpu, find_device
from deblurgan.runtime.tensorrt.plan_card import PlanCard


@dataclass(frozen=True)
class Machine:
    """Of ``tensorrt`` and ``tensorrt_rtx`` one has either the version that is
    installed or a reason why it is ``missing``; ``cuda`` is the major version of
    CUDA that it was made for, where its package says so.
    """

    device: Device | None
    tensorrt: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    cuda: dict[str, int] = field(default_factory=dict)
    pycuda: bool = True
    platform: str = ""

    @property
    def processor(self) -> str:
        return self.platform.rpartition(" ")[2]


def why_not_here(card: PlanCard, machine: Machine | None = None) -> list[str]:
    """Why a plan will not run on this machine, each with what mends it; empty: it runs."""
    here = machine or this_machine()
    reasons = []
    if not card.is_rtx and card.platform != here.platform:
        reasons.append(
            f"built on {card.platform}, and this is {here.platform}: "
            f"build it here: {card.rebuild_command()}"
        )
    reasons += why_not_this_tensorrt(card, here)
    if not here.pycuda:
        reasons.append(f"no pycuda: {how_to_install_pycuda(card.flavour, here.processor)}")
    if here.device is None:
        reasons.append(
            "no NVIDIA GPU and driver that this process sees: nvidia-smi shows what there is"
        )
    else:
        reasons += why_not_this_device(card, here.device, here.cuda.get(card.flavour))
    return reasons


def this_machine() -> Machine:
    installed, missing = {}, {}
    for name in TITLES:
        try:
            installed[name] = find_bindings(rtx=name == "tensorrt_rtx").version
        except DeblurError as error:
            missing[name] = error.found
    return Machine(
        device=find_device(),
        tensorrt=installed,
        missing=missing,
        cuda=read_cuda_majors(),
        pycuda=importlib.util.find_spec("pycuda") is not None,
        platform=describe_platform(),
    )


def describe_platform() -> str:
    """System and processor: no plan of plain TensorRT moves from one to another."""
    return f"{platform.system()} {platform.machine()}"


def read_cuda_majors() -> dict[str, int]:
    """By flavour, from names like ``tensorrt-cu12-bindings`` and ``tensorrt_rtx_cu13``."""
    found = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").replace("-", "_").lower()
        match = re.fullmatch(r"(tensorrt|tensorrt_rtx)_cu(\d+)(_bindings|_libs)?", name)
        if match:
            found[match[1]] = int(match[2])
    return found


def why_not_this_tensorrt(card: PlanCard, here: Machine) -> Iterator[str]:
    installed = here.tensorrt.get(card.flavour)
    if installed is None:
        others = [f"{TITLES[name]} {version}" for name, version in here.tensorrt.items()]
        only = f", only {others[0]}, which does not load it" if others else ""
        yield (
            f"it needs {card.title}, and there is none here "
            f"({here.missing.get(card.flavour, 'not installed')}){only}: "
            + how_to_install((card.flavour,), here.processor)
        )
    elif not loads(card, installed):
        yield (
            f"built with {card.title}, and here is {installed}: build it again with that: "
            f"{card.rebuild_command()}"
        )


def loads(card: PlanCard, installed: str) -> bool:
    """A version-compatible plan runs on later versions, one of 10 on 11 too; RTX has no such."""
    plan, here = version_numbers(card.tensorrt), version_numbers(installed)
    if plan == here:
        return True
    if card.is_rtx or not card.version_compatible or here < plan:
        return False
    return plan[0] == here[0] or (plan[0], here[0]) == (10, 11)


def version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def why_not_this_device(card: PlanCard, device: Device, cuda: int | None) -> Iterator[str]:
    here = device.description
    if card.is_rtx:
        if card.targets and device.architecture not in card.targets:
            both = (*card.targets, device.architecture)
            yield (
                f"built for {', '.join(card.targets)}, and here is {here}: build it for this "
                f"one too: {card.rebuild_command(both)}"
            )
        elif not card.targets and version_numbers(device.compute_capability) < (8, 0):
            alone = card.rebuild_command((device.architecture,))
            yield f"built for Ampere and later, and here is {here}: build it for this one: {alone}"
    elif not runs_on(card, device):
        there = "no GPU"
        if card.gpu and card.compute_capability and card.multiprocessors:
            there = describe_gpu(card.gpu, card.compute_capability, card.multiprocessors)
        yield (f"built on {there}, and here is {here}: build it here: {card.rebuild_command()}")
    if cuda is not None and version_numbers(device.cuda)[0] < cuda:
        yield (
            f"the driver {device.driver or 'here'} serves CUDA {device.cuda}, and the "
            f"{TITLES[card.flavour]} here is made for CUDA {cuda}: update the driver "
            "(Ubuntu: sudo ubuntu-drivers install)"
        )


def runs_on(card: PlanCard, device: Device) -> bool:
    if card.hardware_compatible:
        return version_numbers(device.compute_capability) >= (8, 0)
    return (card.chip, card.compute_capability, card.multiprocessors) == device.identity
