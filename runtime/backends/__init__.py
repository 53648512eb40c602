"""Backends: a contract file and a frame size in, deblurred frames out.

The difference between them is load, run and close; everything else about
frames is the same for all. ``open_backend`` picks the best that works here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError

AUTO = "auto"
# Best first: the module here, and its class.
ENGINES = {
    "onnxruntime-cuda": ("onnxruntime", "CUDAEngine"),
    "openvino": ("openvino", "CPUEngine"),
    "onnxruntime": ("onnxruntime", "CPUEngine"),
}
NAMES = (AUTO, *ENGINES)


class Backend(Protocol):
    """A model loaded for one frame size. ``run`` may be called from
    ``in_flight`` threads at a time, and is fastest when it is.
    """

    @property
    def description(self) -> str:
        """The engine with its version, and what it runs on."""

    @property
    def in_flight(self) -> int:
        """From how many threads :meth:`run` may be called at a time."""

    def run(self, frames: Frames) -> Frames:
        """Deblur one frame, uint8 ``[1, height, width, 3]``, RGB."""

    def close(self) -> None:
        """Give back memory and device; the backend cannot be used afterwards."""


class Unavailable(Exception):
    """A backend cannot run on this machine; the message says why."""


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
    overlap: bool


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
    fit: Fit | None = None,
) -> Backend:
    """Load ``model`` for frames of ``width`` x ``height`` pixels.

    ``threads`` bounds the processor threads of a CPU engine (default: those
    that this process may use). With ``overlap`` several frames are worked on at
    a time: more of them a second, each one later. ``fit`` may load the engine for tiles of
    the frame (:mod:`deblurgan.runtime.fitting`); without it a frame stays whole. Raises
    :class:`DeblurError` when the named backend, or with ``auto`` every backend, is missing here.
    """
    model.check_frame(width, height)
    if name not in NAMES:
        raise DeblurError(
            "--backend",
            expected=f"one of {', '.join(NAMES)}",
            found=name,
            remedy="leave it out for the best that works here",
        )
    reasons, most = [], available_threads()
    for candidate in ENGINES if name == AUTO else (name,):
        module, engine = ENGINES[candidate]
        try:
            build = getattr(importlib.import_module(f"{__name__}.{module}"), engine)
            request = Request(candidate, model, width, height, min(threads or most, most), overlap)
            backend = load_engine(build, request, fit)
        except DoesNotFit:
            raise
        except Unavailable as reason:
            reasons.append(f"{candidate}: {reason}")
            continue
        except Exception as error:
            if name != AUTO:
                raise
            # What one engine cannot load, the next one may.
            reasons.append(f"{candidate}: {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        return backend
    raise DeblurError(
        "backend",
        expected="an engine that runs here" if name == AUTO else f"{name} to run here",
        found="; ".join(reasons),
        remedy='install one with: pip install ".[cpu]" in the checkout'
        + (" (NVIDIA: [gpu] instead)" if "cuda" in name or name == AUTO else ""),
    )


def load_engine(build: Callable[..., Backend], request: Request, fit: Fit | None) -> Backend:
    def load(width: int, height: int, overlap: bool) -> Backend:
        return build(request.model, width, height, request.threads, overlap)

    if fit is not None:
        return fit(request, load)
    return load(request.width, request.height, request.overlap)


def available_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
