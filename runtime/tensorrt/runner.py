"""Running a plan: frames in, deblurred frames out, several in flight.

While one frame is computed, the one before it goes down and the one after it comes up:
a stream each for upload, compute and download, and events that keep the order.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deblurgan.runtime.contract import INPUT, OUTPUT, Frames, Model
from deblurgan.runtime.difference import TOLERANCES, Difference
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import WrongPicture, compare_golden
from deblurgan.runtime.tensorrt.bindings import Bindings, find_bindings
from deblurgan.runtime.tensorrt.device import name_board
from deblurgan.runtime.tensorrt.kernel_cache import (
    KernelKey,
    kernels_path,
    read_kernels,
    write_kernels,
)
from deblurgan.runtime.tensorrt.plan_card import PlanCard
from deblurgan.runtime.tensorrt.plan_model import open_plan_model
from deblurgan.runtime.tensorrt.pycuda_driver import import_pycuda, retain_context
from deblurgan.runtime.tensorrt.sidecar import mark_verified, open_plan, why_not_here
from deblurgan.runtime.tensorrt.slots import Slot, Slots


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
        difference = prove(runner)
        device = runner.device
    mark_verified(card, device)
    return difference


def prove(runner: PlanRunner) -> Difference:
    """Run the golden pair of a plan that has one; raises :class:`WrongPicture`."""
    card = runner.card
    assert card.golden is not None
    difference = compare_golden(card.golden, runner.run(card.golden.frame()))
    tolerance = TOLERANCES[card.card.precision]
    if not difference.within(tolerance):
        raise WrongPicture(
            card.path,
            expected=f"the picture that {card.golden.engine} made of {card.onnx} ({tolerance})",
            found=f"another, on {runner.device} with {card.title}: {difference}",
            remedy=f"build it again here: {card.rebuild_command()}; if it stays, report it with "
            "these numbers, and run the .onnx file meanwhile",
        )
    return difference


class PlanRunner:
    """A plan loaded on the first GPU; all of its memory is taken here, once.

    Shares the device's primary context with PyTorch and other TensorRT, and may
    be called from any thread; ``in_flight`` frames are worked on at a time. Kernels that
    TensorRT for RTX compiled earlier are read from beside the plan; ``warn`` is told when
    that cannot be. Raises :class:`DeblurError` for a plan that does not
    run here, with all the reasons, and where the GPU has not enough memory.
    """

    runtime: Any
    engine: Any
    config: Any
    kernels: Any
    execution: Any
    upload: Any
    compute: Any
    download: Any
    slots: Slots

    def __init__(
        self, path: Path, in_flight: int = 1, warn: Callable[[str], None] | None = None
    ) -> None:
        self.in_flight = in_flight
        self.warn = warn or (lambda _: None)
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
        self.cuda = import_pycuda(self.card.flavour)
        # One execution context is told of one frame at a time.
        self.lock = threading.Lock()
        self.shape: tuple[int, ...] = ()
        self.kernels_read = b""
        # Undone in reverse order, also when the next step of loading fails.
        self.taken = ExitStack()
        with self.failures_told():
            self.context = retain_context(self.cuda)
            self.device: str = name_board() or self.cuda.Device(0).name()
            with self.device_current(), ExitStack() as undo:
                undo.callback(self.taken.close)
                self.load()
                self.take_slots()
                undo.pop_all()

    @property
    def model(self) -> Model:
        return open_plan_model(self.card.path)

    @property
    def description(self) -> str:
        return f"{self.bindings.title}, {self.device}"

    @property
    def memory(self) -> int:
        """Bytes on the device: the plan, which is mostly weights, the activations and all
        frames in flight, before and after.
        """
        frames = 2 * self.in_flight * math.prod(self.card.profile.max.dimensions)
        return self.card.plan_size + self.activations + frames

    def run(self, frames: Frames) -> Frames:
        """Deblur uint8 RGB ``[batch, height, width, 3]`` of a size that the plan takes.

        Raises :class:`DeblurError` for other frames.
        """
        check_frames(self.card, frames)
        count = frames.size
        with self.failures_told(), self.device_current(), self.slots.one() as slot:
            np.copyto(slot.given.host[:count].reshape(frames.shape), frames)
            try:
                with self.lock:
                    self.enqueue(slot, frames.shape)
                slot.downloaded.synchronize()
            except BaseException:
                self.drain()
                raise
            return np.array(slot.made.host[:count]).reshape(frames.shape)

    def keep_kernels(self) -> None:
        """Write what TensorRT for RTX has compiled so far beside the plan."""
        if not hasattr(self, "kernels"):
            return
        with self.lock, self.device_current():
            serialized = self.kernels.serialize()
            kernels = b"" if serialized is None else bytes(serialized)
            del serialized
        if kernels and kernels != self.kernels_read:
            write_kernels(kernels_path(self.card.path), self.kernels_key, kernels)
            self.kernels_read = kernels

    def close(self) -> None:
        """Give its memory back, once the frames in flight are done; a second time it does
        nothing.
        """
        self.slots.close()
        with self.lock, self.device_current():
            self.taken.close()

    def enqueue(self, slot: Slot, shape: tuple[int, ...]) -> None:
        """Tell the streams what to do with a slot's frame. Its memory is read and written
        until ``downloaded``, and nobody else has it before that.
        """
        cuda, count = self.cuda, math.prod(shape)
        if shape != self.shape:
            # Frames of the shape before may still be computed in this context.
            self.compute.synchronize()
            self.shape = ()
            self.must(self.execution.set_input_shape(INPUT, shape), "takes no such frame")
            self.shape = shape
        cuda.memcpy_htod_async(slot.given.device, slot.given.host[:count], self.upload)
        slot.uploaded.record(self.upload)
        self.compute.wait_for_event(slot.uploaded)
        self.bind(slot)
        self.must(self.execution.execute_async_v3(self.compute.handle), "does not run")
        slot.computed.record(self.compute)
        self.download.wait_for_event(slot.computed)
        cuda.memcpy_dtoh_async(slot.made.host[:count], slot.made.device, self.download)
        slot.downloaded.record(self.download)

    def bind(self, slot: Slot) -> None:
        for name, buffer in ((INPUT, slot.given), (OUTPUT, slot.made)):
            bound = self.execution.set_tensor_address(name, int(buffer.device))
            self.must(bound, f"has no {name}")

    def drain(self) -> None:
        """After a failure: what was begun with a slot ends before another frame gets it."""
        for stream in (self.upload, self.compute, self.download):
            with suppress(self.cuda.Error):
                stream.synchronize()

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
        self.activations: int = self.engine.device_memory_size_v2
        self.keep("execution", self.must(self.create_execution(trt), "finds no place on the GPU"))

    def create_execution(self, trt: Any) -> Any:
        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return self.engine.create_execution_context()
        self.keep("config", self.engine.create_runtime_config())
        # By default RTX swaps kernels in the background: the same frame gives two pictures.
        self.config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        # It outlives the context that compiles into it.
        self.keep("kernels", self.config.create_runtime_cache())
        kernels = read_kernels(kernels_path(self.card.path), self.kernels_key, self.warn)
        if kernels and self.kernels.deserialize(kernels):
            self.kernels_read = kernels
        self.config.set_runtime_cache(self.kernels)
        return self.engine.create_execution_context(self.config)

    @property
    def kernels_key(self) -> KernelKey:
        return KernelKey(self.card.plan_sha256, self.bindings.version, self.device)

    def take_slots(self) -> None:
        """The streams, and memory for the largest frames of the profile."""
        for name in ("upload", "compute", "download"):
            self.keep(name, self.cuda.Stream())
        size = math.prod(self.card.profile.max.dimensions)
        slots = [Slot(self.cuda, size, self.taken) for _ in range(self.in_flight)]
        self.bind(slots[0])  # a plan without these names is none of ours
        self.slots = Slots(slots)

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
