"""Plans that were built on this machine, kept for the next run.

An entry is known by all that decides about its content: the model's bytes, the
TensorRT and the GPU that built it, the profile and the options. It is built under a lock:
of several processes that want it one builds, and the others wait for that.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path

from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.bindings import Bindings, find_bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, build_plan, choose_flavour
from deblurgan.runtime.tensorrt.device import Device, find_device
from deblurgan.runtime.tensorrt.kernel_cache import kernels_path
from deblurgan.runtime.tensorrt.machine import this_machine, why_not_here
from deblurgan.runtime.tensorrt.plan_card import VERSION, PlanCard
from deblurgan.runtime.tensorrt.sidecar import (
    finish_golden,
    open_plan,
    sidecar_path,
    write_plan,
)
from deblurgan.runtime.whole_file import make_folder

ELSEWHERE = "keep plans elsewhere with: export XDG_CACHE_HOME=FOLDER"


@dataclass(frozen=True)
class CachedPlan:
    """An entry: ``size`` in bytes with all that is beside it, ``age`` in seconds, and why it
    does not run here (nothing: it does). ``card`` is None where it is damaged.
    """

    path: Path
    card: PlanCard | None
    size: int
    age: float
    reasons: tuple[str, ...]


def cached_plan(
    model: Model,
    options: BuildOptions,
    progress: Callable[[int, int], None] | None = None,
    *,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """The plan of this model for this machine, built now if it is not there yet.

    ``progress`` and ``warn`` are as in :func:`~deblurgan.runtime.tensorrt.builder.build_plan`.
    An entry that is damaged is said and built anew. Raises :class:`DeblurError` when
    it cannot be built, or not kept.
    """
    warn = warn or (lambda _: None)
    path = entry_path(model, options, find_bindings(choose_flavour(options)), find_device())
    with locked(path, lambda: warn("another process builds the same plan: waiting for it")):
        if path.exists() or sidecar_path(path).exists():
            try:
                finish_golden(open_plan(path), model)
                return path
            except DeblurError as error:
                warn(f"{path}: {error.found}; it is built anew")
        remove(path)
        built = build_plan(model, options, progress, warn=warn)
        try:
            write_plan(path, built, model, options)
        except DeblurError as error:
            raise DeblurError(
                path,
                expected=error.expected,
                found=error.found,
                remedy=f"make some with: deblur-export plans clear, or {ELSEWHERE}",
            ) from None
    return path


def is_cached(model: Model, options: BuildOptions) -> bool:
    """Whether :func:`cached_plan` need not build it, unless it is damaged."""
    return entry_path(
        model, options, find_bindings(choose_flavour(options)), find_device()
    ).exists()


def list_plans() -> list[CachedPlan]:
    """All entries, the newest first."""
    machine, plans = this_machine(), []
    for path in plans_folder().glob("*.plan"):
        with suppress(FileNotFoundError):  # another process clears
            status = path.stat()
            size = status.st_size
            with suppress(FileNotFoundError):
                size += sidecar_path(path).stat().st_size
            with suppress(FileNotFoundError):
                size += kernels_path(path).stat().st_size
            card, reasons = None, []
            try:
                card = open_plan(path)
                reasons = why_not_here(card, machine)
            except DeblurError as error:
                reasons = [f"damaged: {error.found}"]
            age = max(0.0, time.time() - status.st_mtime)
            plans.append(CachedPlan(path, card, size, age, tuple(reasons)))
    return sorted(plans, key=lambda plan: plan.age)


def clear_plans(*, unusable_only: bool = False) -> list[CachedPlan]:
    """Remove all entries, or those that do not run on this machine; returns what is gone.

    What another process is building stays.
    """
    gone = []
    for plan in list_plans():
        if unusable_only and not plan.reasons:
            continue
        with suppress(BlockingIOError), locked(plan.path, None):
            remove(plan.path)
            lock_path(plan.path).unlink(missing_ok=True)
            gone.append(plan)
    return gone


def plans_folder() -> Path:
    """``~/.cache/deblurgan/plans``, or below ``XDG_CACHE_HOME``; it need not exist yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # as the XDG base directory specification has it
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            raise DeblurError(
                "the cache of plans",
                expected="a home folder to keep it in",
                found="none, and no XDG_CACHE_HOME",
                remedy=ELSEWHERE,
            ) from None
    return base / "deblurgan" / "plans"


def entry_path(
    model: Model, options: BuildOptions, bindings: Bindings, device: Device | None
) -> Path:
    """Where a plan is kept: the model's name for people, and a digest of all that matters."""
    gpu: tuple[str, ...] = ()
    if device is not None:
        driver = (device.driver or device.cuda).split(".")[0]
        gpu = (*map(str, device.identity), driver)
    parts = {
        "sidecar": VERSION,
        "onnx": hashlib.sha256(model.path.read_bytes()).hexdigest(),
        "tensorrt": [bindings.name, bindings.version],
        "gpu": gpu,
        "profile": asdict(options.profile),
        "workspace": options.workspace,
        "optimization_level": options.optimization_level,
        "hardware_compatible": options.hardware_compatible,
        "version_compatible": options.version_compatible,
        "targets": sorted(target.lower() for target in options.targets),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
    return plans_folder() / f"{model.path.stem[:40]}-{digest}.plan"


def remove(path: Path) -> None:
    """An entry, its kernels, and what a killed process may have left of it."""
    files = (path, sidecar_path(path), kernels_path(path))
    try:
        for file in (*files, *path.parent.glob(f".{escape(path.name)}*.part")):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(path, error) from None


def lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(path: Path, wait: Callable[[], None] | None) -> Iterator[None]:
    """Alone with an entry. ``wait`` is called when another process is at it; without
    one that raises ``BlockingIOError``.
    """
    try:
        make_folder(path.parent)
        file = lock_path(path).open("wb")
    except (DeblurError, OSError) as error:
        raise refusal(path.parent, error) from None
    with file:  # closing it gives the lock back, as the end of the process does
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                raise
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def refusal(path: Path, error: DeblurError | OSError) -> DeblurError:
    found = error.found if isinstance(error, DeblurError) else (error.strerror or str(error))
    return DeblurError(
        path,
        expected="a cache of plans that can be written to",
        found=found.lower(),
        remedy=f"chmod or chown it, or {ELSEWHERE}",
    )
