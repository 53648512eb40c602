"""TensorRT and TensorRT for RTX: a plan for this GPU and this size, built once and kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from deblurgan.runtime.backends import Request, Unavailable
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import WrongPicture
from deblurgan.runtime.tensorrt.bindings import find_bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, check_targets
from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.tensorrt.plan_cache import cached_plan, is_cached
from deblurgan.runtime.tensorrt.plan_model import PlanModel
from deblurgan.runtime.tensorrt.profiles import choose_profile
from deblurgan.runtime.tensorrt.pycuda_driver import import_pycuda
from deblurgan.runtime.tensorrt.runner import PlanRunner, prove
from deblurgan.runtime.tensorrt.sidecar import mark_verified

# One comes up, one is computed, one goes down.
FRAMES_IN_FLIGHT = 3


class TensorRTEngine:
    """A plan that has made its golden pair's picture on this device. It is the file of a
    :class:`PlanModel`, or else built of an ONNX file, for this size and one frame at a time,
    and kept in the cache of plans.
    """

    flavour = "tensorrt"

    def __init__(self, request: Request) -> None:
        self.model = model = request.model
        warn = request.warn or (lambda _: None)
        is_built = isinstance(model, PlanModel)
        path = model.path if is_built else self.find_plan(request)
        self.in_flight = FRAMES_IN_FLIGHT if request.overlap else 1
        with ExitStack() as undo:
            self.runner = PlanRunner(path, self.in_flight, warn)
            undo.callback(self.runner.close)
            try:
                check_picture(self.runner, warn)
            except WrongPicture as error:
                raise error if is_built else tell_of_cache(error, model) from None
            # The first run of a size is slow: kernels are loaded, and compiled for RTX.
            self.run(np.zeros((1, request.height, request.width, 3), np.uint8))
            self.runner.keep_kernels()
            undo.pop_all()
        self.description, self.memory = self.runner.description, self.runner.memory

    def run(self, frames: Frames) -> Frames:
        return self.runner.run(frames)

    def close(self) -> None:
        self.runner.close()

    def find_plan(self, request: Request) -> Path:
        """In the cache, where it is built now if it is not there yet. Raises
        :class:`Unavailable` for what is missing to build and run it.
        """
        model = request.model
        is_rtx = self.flavour == "tensorrt_rtx"
        try:
            bindings = find_bindings(rtx=is_rtx)
            import_pycuda(self.flavour)
        except DeblurError as error:
            raise Unavailable(error.found, error.remedy) from None
        size = (request.width, request.height)
        options = BuildOptions(
            choose_profile(model, size=size),
            targets=choose_target(bindings.trt) if is_rtx else (),
            rtx=is_rtx,
        )
        if not request.may_build and not is_cached(model, options):
            raise Unavailable(
                f"no plan of {size[0]}x{size[1]} yet, and building one may take minutes",
                f"build one with: deblur-export trt {model.path} --size {size[0]}x{size[1]}",
            )
        return cached_plan(model, options, request.progress, warn=request.warn)


class RTXEngine(TensorRTEngine):
    flavour = "tensorrt_rtx"


def choose_target(trt: Any) -> tuple[str, ...]:
    """The architecture of this GPU alone: quicker to build than all, and Turing is not
    among those that RTX builds for when none is named.
    """
    device = find_device()
    if device is None:
        return ()
    try:
        check_targets(trt, (device.architecture,))
    except DeblurError as error:
        raise Unavailable(
            f"it knows {error.expected.removeprefix('some of ')}, and here is {device.description}",
            "leave out --backend, or name tensorrt or onnxruntime-cuda",
        ) from None
    return (device.architecture,)


def check_picture(runner: PlanRunner, warn: Callable[[str], None]) -> None:
    """Run the golden pair unless this device has done so; raises :class:`WrongPicture`."""
    card = runner.card
    if card.verified and card.verified_on == runner.device:
        return
    if card.golden is None:
        warn(f"{card.path}: not verified, for it has no golden pair ({card.golden_missing})")
        return
    prove(runner)
    with suppress(DeblurError):  # a folder that may only be read: the next time again
        mark_verified(card, runner.device)


def tell_of_cache(error: WrongPicture, model: Model) -> WrongPicture:
    return WrongPicture(
        model.path,
        expected=error.expected,
        found=error.found,
        remedy="build it again with: deblur-export plans clear, then the same command; if it "
        "stays, report it with these numbers, and use --backend onnxruntime-cuda meanwhile",
    )
