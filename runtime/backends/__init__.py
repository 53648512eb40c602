"""Backends: a model file and a frame size in, deblurred frames out.

The difference between them is load, run and close; everything else about
frames is the same for all. ``open_backend`` picks the best that works here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.device import find_device

AUTO = "auto"
# Best first: the module here, and its class.
ENGINES = {
    "tensorrt": ("tensorrt", "TensorRTEngine"),
    "tensorrt-rtx": ("tensorrt", "RTXEngine"),
    "onnxruntime-cuda": ("onnxruntime", "CUDAEngine"),
    "openvino": ("openvino", "CPUEngine"),
    "onnxruntime": ("onnxruntime", "CPUEngine"),
}
NAMES = (AUTO, *ENGINES)
# Not worth an import where there is no GPU: some take seconds.
NEED_GPU = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda")
NO_GPU = "no NVIDIA GPU and driver that this process sees"
INSTALL = 'install one with: pip install ".[cpu]" in the checkout'
INSTALL_CUDA = 'pip install ".[gpu]" in the checkout, instead of [cpu]'


class Backend(Protocol):
    """A model loaded for one frame size. ``run`` may be called from
    ``in_flight`` threads at a time, and is fastest when it is.
    """

    @property
    def model(self) -> Model:
        """The file that it has loaded."""

    @property
    def description(self) -> str:
        """The engine with its version, and what it runs on."""

    @property
    def in_flight(self) -> int:
        """From how many threads :meth:`run` may be called at a time."""

    @property
    def memory(self) -> int | None:
        """Bytes of the GPU's memory that it holds; None for what computes on the processor,
        and where the driver does not tell.
        """

    def run(self, frames: Frames) -> Frames:
        """Deblur one frame, uint8 ``[1, height, width, 3]``, RGB."""

    def close(self) -> None:
        """Give back memory and device; the backend cannot be used afterwards."""


class Unavailable(Exception):
    """A backend cannot run on this machine: the message says why, ``remedy`` what helps."""

    def __init__(self, reason: str, remedy: str = INSTALL) -> None:
        super().__init__(reason)
        self.remedy = remedy


class NoEngine(DeblurError):
    """None of the backends that were asked for runs on this machine."""


class DoesNotFit(DeblurError):
    """A frame does not fit into the memory that there is, and no other engine mends that."""


@dataclass(frozen=True)
class Request:
    """What is to be loaded: an engine by name, and the rest as in :func:`open_backend`."""

    engine: str
    model: Model
    width: int
    height: int
    threads: int
    overlap: bool = False
    may_build: bool = True
    progress: Callable[[int, int], None] | None = None
    warn: Callable[[str], None] | None = None


# Loads an engine for a size in pixels (width, height), with or without overlap.
Load = Callable[[int, int, bool], Backend]
# Loads what is requested, in another size perhaps.
Fit = Callable[[Request, Load], Backend]


def open_backend(
    model: Model,
    width: int,
    height: int,
    *,
    name: str = AUTO,
    threads: int | None = None,
    overlap: bool = False,
    may_build: bool = True,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
    fit: Fit | None = None,
) -> Backend:
    """Load ``model``, in the precision that is meant for the backend where it has several,
    for frames of ``width`` x ``height`` pixels.

    ``threads`` bounds the processor threads of a CPU engine (default: those
    that this process may use). With ``overlap`` several frames are worked on at
    a time: more of them a second, each one later.

    TensorRT builds a plan the first time, which may take minutes: ``progress`` is told
    how much of how much is done; without ``may_build`` it is left out where no plan is
    at hand. ``warn`` is told what the user should know. ``fit`` may load the engine for
    tiles of the frame (:mod:`deblurgan.runtime.tiling.fitting`); without it a frame stays whole.

    Raises :class:`NoEngine` when the named backend, or with ``auto`` every backend, is
    missing here, :class:`DoesNotFit` as ``fit`` does, and :class:`DeblurError` for a frame
    that the model does not take, when a plan cannot be built or makes another picture, and
    when it is to run on another backend than its own.
    """
    model.check_frame(width, height)
    candidates = choose_candidates(model, name)
    most = available_threads()
    reasons, unavailable = [], {}
    for candidate in candidates:
        try:
            check_device(candidate, model)
            request = Request(
                candidate, model.best_for(candidate), width, height, min(threads or most, most),
                overlap, may_build, progress, warn,
            )  # fmt: skip
            backend = load(request) if fit is None else fit(request, partial(load_other, request))
        except DoesNotFit:
            raise
        except Unavailable as reason:
            reasons.append(f"{candidate}: {reason}")
            unavailable[candidate] = reason
        except Exception as error:
            if len(candidates) == 1:
                raise
            # What one engine cannot load, the next one may.
            first = (str(error).splitlines() or ["no reason given"])[0]
            kind = "" if isinstance(error, DeblurError) else f"{type(error).__name__}: "
            reasons.append(f"{candidate}: {kind}{first}")
            if warn is not None:
                warn(f"{reasons[-1]}; the next engine is tried")
        else:
            if warn is not None and candidate not in NEED_GPU:
                warn_of_idle_gpu(unavailable, warn)
            return backend
    raise NoEngine(
        "backend",
        expected="an engine that runs here" if name == AUTO else f"{name} to run here",
        found="; ".join(reasons),
        remedy=f"{INSTALL} (NVIDIA: [gpu] or [trt] instead)"
        if name == AUTO
        else unavailable[name].remedy,
    )


def warn_of_idle_gpu(unavailable: dict[str, Unavailable], warn: Callable[[str], None]) -> None:
    """A GPU that is here and computes nothing is worth a word."""
    device = find_device() if unavailable else None
    if device is not None:
        reasons = "; ".join(f"{name}: {unavailable[name]}" for name in unavailable)
        remedy = next(iter(unavailable.values())).remedy
        warn(f"{device.description} is not used: {reasons}; {remedy}")


def choose_candidates(model: Model, name: str) -> tuple[str, ...]:
    """The backends to try, best first; raises :class:`DeblurError` for a name that is none."""
    if name not in NAMES:
        raise DeblurError(
            "--backend",
            expected=f"one of {', '.join(NAMES)}",
            found=name,
            remedy="leave it out for the best that works here",
        )
    if model.backend is None:
        return tuple(ENGINES) if name == AUTO else (name,)
    if name not in (AUTO, model.backend):
        raise DeblurError(
            "--backend",
            expected=f"{model.backend}, which {model.path} was built with",
            found=name,
            remedy="leave it out, or give the .onnx file that the plan was built of",
        )
    return (model.backend,)


def check_device(name: str, model: Model) -> None:
    """Raises :class:`Unavailable` for an engine that needs a GPU where there is none; but a
    plan says itself all that it lacks.
    """
    if name in NEED_GPU and model.backend is None and find_device() is None:
        raise Unavailable(NO_GPU, "nvidia-smi shows what there is; leave out --backend")


def load(request: Request) -> Backend:
    """Raises :class:`Unavailable` where this machine lacks what it takes."""
    name = request.engine
    module, engine = ENGINES[name]
    try:
        loader = getattr(importlib.import_module(f"{__name__}.{module}"), engine)
    except Unavailable as reason:
        raise Unavailable(str(reason), INSTALL_CUDA if name in NEED_GPU else INSTALL) from None
    backend: Backend = loader(request)
    return backend


def load_other(request: Request, width: int, height: int, overlap: bool) -> Backend:
    return load(replace(request, width=width, height=height, overlap=overlap))


def available_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
