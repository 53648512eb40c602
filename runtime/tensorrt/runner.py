"""Running a plan: frames in, deblurred frames out, one at a time on one stream."""

from __future__ import annotations

import atexit
import functools
import importlib
import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deblurgan.runtime.contract import INPUT, OUTPUT, Frames
from deblurgan.runtime.difference import TOLERANCES, Difference
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import compare_golden
from deblurgan.runtime.tensorrt.bindings import (
    Bindings,
    find_bindings,
    how_to_install_pycuda,
)
from deblurgan.runtime.tensorrt.device import name_board
from deblurgan.runtime.tensorrt.plan_card import PlanCard
from deblurgan.runtime.tensorrt.sidecar import mark_verified, open_plan, why_not_here


class WrongPicture(DeblurError):
    """A plan that makes another picture than the model it was built of."""


def verify(path: Path) -> Difference:
    """Run a plan's golden pair on this device and note in its sidecar that it passed.

    Raises :class:`WrongPicture` when the picture is another than the model's, and
    :class:`DeblurError` when the plan has no golden pair or does not run here, and where
    the sidecar cannot be written.
    """
    card = open_plan(path)
    if card.golden is None:
        raise DeblurError(
            path,
            expected="a plan with a golden pair to compare with",
            found=f"none: {card.golden_missing}",
            remedy=f"then build it again: {card.rebuild_command()}",
        )
    with PlanRunner(path) as runner:
        made = runner.run(card.golden.frame())
        device = runner.device
    difference = compare_golden(card.golden, made)
    tolerance = TOLERANCES[card.card.precision]
    if not difference.within(tolerance):
        raise WrongPicture(
            path,
            expected=f"the picture that {card.golden.engine} made of {card.onnx} (largest "
            f"difference {tolerance.largest}, mean {tolerance.mean} levels)",
            found=f"another, on {device} with {card.title}: {difference}",
            remedy=f"build it again here: {card.rebuild_command()}; if it stays, report it with "
            "these numbers, and run the .onnx file meanwhile",
        )
    mark_verified(card, device)
    return difference


class PlanRunner:
    """A plan loaded on the first GPU; all of its memory is taken here, once.

    Shares the device's primary context with PyTorch and other TensorRT, and may
    be called from any thread. Raises :class:`DeblurError` for a plan that does not
    run here, with all the reasons, and where the GPU has not enough memory.
    """

    in_flight = 1

    runtime: Any
    engine: Any
    execution: Any
    stream: Any

    def __init__(self, path: Path) -> None:
        self.card = open_plan(path)
        reasons = why_not_here(self.card)
        if reasons:
            raise DeblurError(
                path,
                expected="a plan that runs on this machine",
                found="; ".join(reasons),
                remedy=f"deblur-export info {path} says what it was built for",
            )
        self.bindings: Bindings = find_bindings(rtx=self.card.is_rtx)
        self.cuda = import_pycuda(self.card)
        self.lock = threading.Lock()
        self.shape: tuple[int, ...] = ()
        # Undone in reverse order, also when the next step of loading fails.
        self.taken = ExitStack()
        with self.failures_told():
            self.context = retain_context(self.cuda)
            self.device: str = name_board() or self.cuda.Device(0).name()
            with self.device_current(), ExitStack() as undo:
                undo.callback(self.taken.close)
                self.load()
                self.take_buffers()
                undo.pop_all()

    @property
    def description(self) -> str:
        return f"{self.bindings.title}, {self.device}"

    def run(self, frames: Frames) -> Frames:
        """Deblur uint8 RGB ``[batch, height, width, 3]`` of a size that the plan takes.

        Raises :class:`DeblurError` for other frames.
        """
        check_frames(self.card, frames)
        count = frames.size
        with self.lock, self.failures_told(), self.device_current():
            if frames.shape != self.shape:
                self.must(
                    self.execution.set_input_shape(INPUT, frames.shape), "takes no such frame"
                )
                self.shape = frames.shape
            self.given.host[:count] = frames.reshape(-1)
            self.cuda.memcpy_htod_async(self.given.device, self.given.host[:count], self.stream)
            self.must(self.execution.execute_async_v3(self.stream.handle), "does not run")
            self.cuda.memcpy_dtoh_async(self.made.host[:count], self.made.device, self.stream)
            self.stream.synchronize()
            return np.array(self.made.host[:count]).reshape(frames.shape)

    def close(self) -> None:
        """Give its memory back; a second time it does nothing."""
        with self.lock, self.device_current():
            self.taken.close()

    def load(self) -> None:
        """The runtime, the engine and the execution context; for RTX this compiles kernels."""
        trt, log = self.bindings.trt, self.bindings.log
        log.clear()
        self.keep("runtime", trt.Runtime(log.logger))
        if self.card.version_compatible:
            # Such a plan carries the runtime of its own version, which is code.
            self.runtime.engine_host_code_allowed = True
        plan = self.card.path.read_bytes()
        self.keep("engine", self.must(self.runtime.deserialize_cuda_engine(plan), "does not load"))
        self.keep("execution", self.must(self.create_execution(trt), "finds no place on the GPU"))

    def create_execution(self, trt: Any) -> Any:
        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return self.engine.create_execution_context()
        # By default RTX swaps kernels in the background: the same frame gives two pictures.
        config = self.engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return self.engine.create_execution_context(config)

    def take_buffers(self) -> None:
        """For the largest frames of the profile."""
        self.keep("stream", self.cuda.Stream())
        size = math.prod(self.card.profile.max.dimensions)
        self.given = Buffer(self.cuda, size, self.taken)
        self.made = Buffer(self.cuda, size, self.taken)
        for name, buffer in ((INPUT, self.given), (OUTPUT, self.made)):
            bound = self.execution.set_tensor_address(name, int(buffer.device))
            self.must(bound, f"has no {name}")

    def keep(self, name: str, thing: Any) -> None:
        """As an attribute until its turn: what TensorRT made goes with the last reference."""
        setattr(self, name, thing)
        self.taken.callback(delattr, self, name)

    def must(self, result: Any, otherwise: str) -> Any:
        """TensorRT returns None or False, and says why to its log."""
        if not result:
            said = self.bindings.log.errors()
            raise DeblurError(
                self.card.path,
                expected=f"{self.bindings.title} to run it",
                found=f"it {otherwise} ({'; '.join(said) or 'no reason given'})",
                remedy=f"build it again here: {self.card.rebuild_command()}",
            )
        return result

    @contextmanager
    def device_current(self) -> Iterator[None]:
        self.context.push()
        try:
            yield
        finally:
            self.context.pop()

    @contextmanager
    def failures_told(self) -> Iterator[None]:
        """What CUDA refuses, as an error with a remedy."""
        try:
            yield
        except self.cuda.MemoryError as error:
            raise DeblurError(
                self.card.path,
                expected="enough memory on the GPU",
                found=str(error),
                remedy="end what else uses it (nvidia-smi lists that), or build the plan for "
                f"smaller frames: {self.card.rebuild_command(sizes='--max WIDTHxHEIGHT')}",
            ) from None
        except self.cuda.Error as error:
            raise DeblurError(
                self.card.path,
                expected="a GPU that works",
                found=str(error),
                remedy="nvidia-smi shows its state; where it shows none, restart the machine",
            ) from None

    def __enter__(self) -> PlanRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Buffer:
    """Bytes on the device, and as many beside the processor, pinned: copies need no detour."""

    def __init__(self, cuda: Any, size: int, taken: ExitStack) -> None:
        self.host = cuda.pagelocked_empty(size, np.uint8)
        taken.callback(self.host.base.free)
        self.device = cuda.mem_alloc(size)
        taken.callback(self.device.free)


def check_frames(card: PlanCard, frames: Frames) -> None:
    shape, smallest, largest = frames.shape, card.profile.min, card.profile.max
    right = frames.dtype == np.uint8 and frames.ndim == 4 and shape[3] == 3
    if not right or not card.profile.contains(*shape[:3]):
        takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        raise DeblurError(
            "frames",
            expected=f"uint8 RGB [batch, height, width, 3], {takes} (batch x width x height)",
            found=f"{frames.dtype} {list(shape)}",
            remedy="build a plan that takes them: "
            + card.rebuild_command(sizes="--min WIDTHxHEIGHT --max WIDTHxHEIGHT"),
        )


def import_pycuda(card: PlanCard) -> Any:
    """``pycuda.driver``, or a :class:`DeblurError` that says what is missing."""
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        remedy = how_to_install_pycuda(card.flavour)
        if "libcuda" in str(error):
            remedy = "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install); in a "
            remedy += "container, start it with --gpus all"
        raise DeblurError(
            "pycuda", expected="pycuda and a driver for it", found=str(error), remedy=remedy
        ) from None


@functools.cache
def retain_context(cuda: Any) -> Any:
    """The first device's primary context, kept until the process ends: when pycuda lets
    go of one it leaves it current on the thread, where others would stumble over it.
    """
    cuda.init()
    atexit.register(retain_context.cache_clear)
    return cuda.Device(0).retain_primary_context()
