"""A plan and the ``.plan.json`` beside it, which says what the plan is.

The plan is TensorRT's own, readable by ``trtexec --loadEngine``; it can say
neither which model it was made of nor where it runs, so the sidecar does.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import Golden, make_golden, read_golden
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan
from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.tensorrt.machine import describe_platform, why_not_here
from deblurgan.runtime.tensorrt.memory_bound import memory_bound
from deblurgan.runtime.tensorrt.plan_card import VERSION, PlanCard
from deblurgan.runtime.tensorrt.profiles import Profile
from deblurgan.runtime.whole_file import write_whole

__all__ = [
    "PlanCard",
    "finish_golden",
    "mark_verified",
    "open_plan",
    "sidecar_path",
    "why_not_here",
    "write_plan",
]

LARGEST = 1 << 24  # bytes of a sidecar; they have some ten thousand
UNFINISHED = "making it was stopped before its end, by hand or for want of memory"


def write_plan(path: Path, built: BuiltPlan, model: Model, options: BuildOptions) -> PlanCard:
    """Write a plan and its sidecar, both whole or neither; an older pair is replaced.

    A golden pair that the model does not bring is made once they are written.
    Raises :class:`DeblurError` where they cannot be written: then what was
    there before is untouched.
    """
    device = find_device()
    golden = golden_within(model, options.profile)
    card = PlanCard(
        path=path,
        card=replace(model.card, golden={}),
        onnx=model.path.name,
        onnx_sha256=hashlib.sha256(model.path.read_bytes()).hexdigest(),
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_size=len(built.plan),
        flavour=built.flavour,
        tensorrt=built.tensorrt,
        targets=tuple(built.targets),
        platform=describe_platform(),
        gpu=device.name if device else None,
        chip=device.chip if device else None,
        compute_capability=device.compute_capability if device else None,
        multiprocessors=device.multiprocessors if device else None,
        driver=device.driver if device else None,
        cuda=device.cuda if device else None,
        profile=options.profile,
        workspace=options.workspace,
        optimization_level=options.optimization_level,
        hardware_compatible=options.hardware_compatible,
        version_compatible=options.version_compatible,
        seconds=round(built.seconds, 2),
        layers=built.layers,
        device_memory=built.device_memory,
        written=now(),
        golden=golden,
        golden_missing="" if golden else UNFINISHED,
    )
    write_pair(path, built.plan, encode(card))
    return finish_golden(card, model)


def finish_golden(card: PlanCard, model: Model) -> PlanCard:
    """Make the golden pair that a sidecar still lacks, or note why there is none.

    The plan is on the disk by then, for this may take long and much memory: a frame of
    the plan's size, on the processor. A limit in pixels would not tell how much, for
    networks differ twentyfold, so what this machine has left is the limit. Killed or
    stopped all the same, it costs the pair and not the plan.
    """
    if card.golden_missing != UNFINISHED:
        return card
    golden, missing = None, ""
    try:
        with memory_bound():
            golden = make_golden(model, card.profile.min.width, card.profile.min.height)
    except DeblurError as error:
        missing = f"{error.found}; {error.remedy}"
    finished = replace(card, golden=golden, golden_missing=missing)
    try:
        write_whole(sidecar_path(card.path), encode(finished))
    except DeblurError as error:  # the plan is worth more than its pair
        return replace(card, golden_missing=f"it could not be written: {error.found}")
    return finished


def open_plan(path: Path) -> PlanCard:
    """Read a plan's sidecar and check that the plan is the one it describes.

    Raises :class:`DeblurError` for a plan without a sidecar, for either of them
    changed or cut short, and for what is no plan at all.
    """
    plan = read_plan(path)
    card = read_sidecar(path, plan)
    found = None
    if len(plan) < card.plan_size:
        found = f"the first {len(plan):,} of its {card.plan_size:,} bytes"
    elif len(plan) > card.plan_size or hashlib.sha256(plan).hexdigest() != card.plan_sha256:
        found = "another plan, or a changed one: the two were not written together"
    if found is not None:
        raise DeblurError(
            path,
            expected=f"the plan that {sidecar_path(path).name} describes",
            found=found,
            remedy=f"copy both again, or build them again: {card.rebuild_command()}",
        )
    return card


def mark_verified(card: PlanCard, device: str) -> PlanCard:
    """Note in the sidecar that a device made the golden pair's picture."""
    verified = replace(card, verified=True, verified_on=device, verified_at=now())
    write_whole(sidecar_path(card.path), encode(verified))
    return verified


def sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def golden_within(model: Model, profile: Profile) -> Golden | None:
    """The model's own golden pair, where the profile takes it."""
    golden = read_golden(model)
    if golden and profile.contains(profile.min.batch, golden.height, golden.width):
        return golden
    return None


def read_plan(path: Path) -> bytes:
    found = None
    try:
        plan = path.read_bytes()
        if not plan:
            found = "an empty file"
    except FileNotFoundError:
        found = "no such file"
    except OSError as error:
        found = f"a file that cannot be read ({(error.strerror or str(error)).lower()})"
    if found is not None:
        raise DeblurError(
            path,
            expected="a TensorRT plan",
            found=found,
            remedy=f"build one with: deblur-export trt MODEL.onnx -o {path}",
        )
    return plan


def read_sidecar(path: Path, plan: bytes) -> PlanCard:
    """Raises :class:`DeblurError` for a sidecar that is not there, not ours or not as written."""
    side = sidecar_path(path)
    expected, remedy = "what a plan's sidecar says", "build the plan again: deblur-export trt"
    remedy += f" MODEL.onnx -o {path} --overwrite"
    try:
        if side.stat().st_size > LARGEST:
            raise ValueError("no sidecar is so long")
        values = json.loads(side.read_bytes())
        version = values["version"]
        if isinstance(version, int) and version > VERSION:
            raise DeblurError(
                side,
                expected=f"a sidecar of version {VERSION}",
                found=f"version {version}, of a later release of this program",
                remedy=f"update this program, or {remedy}",
            )
        if values.pop("checksum") != checksum(values):
            raise DeblurError(
                side,
                expected=expected,
                found="one that was changed after it was written",
                remedy=remedy,
            )
        return PlanCard.from_json(path, values)
    except FileNotFoundError:
        # All plans of TensorRT begin with such a tag: vtrt, ptrt, ftrt.
        found = (
            "none beside the plan" if plan[1:4] == b"trt" else f"none, and {path.name} is no plan"
        )
        remedy = f"copy it from where the plan was built, or {remedy}"
        raise DeblurError(side, expected=expected, found=found, remedy=remedy) from None
    except OSError as error:
        found = f"a file that cannot be read ({(error.strerror or str(error)).lower()})"
        raise DeblurError(side, expected=expected, found=found, remedy=remedy) from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise DeblurError(
            side, expected=expected, found="something else, or a part of one", remedy=remedy
        ) from None


def encode(card: PlanCard) -> bytes:
    values = card.to_json()
    return (json.dumps(values | {"checksum": checksum(values)}, indent=1) + "\n").encode()


def checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def write_pair(path: Path, plan: bytes, sidecar: bytes) -> None:
    """Both are on the disk before either gets its name.

    A kill between the two renames leaves a plan and a sidecar that do not
    belong together, which :func:`open_plan` says.
    """
    both = ((path, plan), (sidecar_path(path), sidecar))
    parts = [target.with_name(f".{target.name[:80]}.{os.getpid()}.part") for target, _ in both]
    try:
        with refusals(path, len(plan) + len(sidecar)):
            for part, (target, content) in zip(parts, both, strict=True):
                if target.is_dir():
                    raise IsADirectoryError(None, f"a folder of the name {target.name}")
                with part.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            for part, (target, _) in zip(parts, both, strict=True):
                os.replace(part, target)
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def refusals(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeblurError(
            path,
            expected=f"room and permission to write {size:,} bytes",
            found=(error.strerror or str(error)).lower(),
            remedy="free some space or choose another folder; an earlier plan is untouched",
        ) from None
