"""ONNX Runtime: on the CPU wherever Python is, with CUDA where that works."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from deblurgan.runtime.backends import INSTALL_CUDA, Request, Unavailable
from deblurgan.runtime.backends.page_locked import page_locked
from deblurgan.runtime.contract import INPUT, OUTPUT, Frames
from deblurgan.runtime.tensorrt.device import LIBRARY
from deblurgan.runtime.tensorrt.device_memory import ask_free

try:
    import onnxruntime
except ImportError as error:
    raise Unavailable(f"not installed ({error})") from None

# One is copied while the other is computed; each one's run has activations of its own.
FRAMES_IN_FLIGHT = 2
FATAL = 4


def open_session(request: Request, provider: str, options: Mapping[str, str]) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = request.threads
    settings.log_severity_level = 3
    if request.model.card.precision == "int8-fp16":
        # Optimised, its int8 kernels misread scales in half precision.
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # The size is known now: with it shape arithmetic and padding fold away.
    for dimension, size in (("batch", 1), ("height", request.height), ("width", request.width)):
        settings.add_free_dimension_override_by_name(dimension, size)
    return onnxruntime.InferenceSession(
        str(request.model.path), settings, providers=[(provider, dict(options))]
    )


class CPUEngine:
    in_flight = 1
    memory = None

    def __init__(self, request: Request) -> None:
        self.model = request.model
        self.session = open_session(request, "CPUExecutionProvider", {})
        self.description = f"ONNX Runtime {onnxruntime.__version__}, CPU, {request.threads} threads"

    def run(self, frames: Frames) -> Frames:
        return self.session.run([OUTPUT], {INPUT: frames})[0]

    def close(self) -> None:
        del self.session


class CUDAEngine:
    """A few frames in flight, each with memory of its own on both sides, taken once.

    ``memory`` is by how much less of the device's is free once it is loaded: ONNX Runtime
    does not tell.
    """

    provider = "CUDAExecutionProvider"
    # Left alone it multiplies fp32 in TF32, which is not what the file was proven with.
    options: Mapping[str, str] = {"use_tf32": "0"}
    device = "cuda"

    def __init__(self, request: Request) -> None:
        if self.provider not in onnxruntime.get_available_providers():
            raise Unavailable("this ONNX Runtime was built without CUDA", INSTALL_CUDA)
        if self.device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        self.model = request.model
        self.in_flight = FRAMES_IN_FLIGHT if request.overlap else 1
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {self.device.upper()}"
        shape = (1, request.height, request.width, 3)
        with ExitStack() as taken:
            # Before the session, so that the context it shares is not counted as the model's.
            buffers = [HostBuffers(shape, taken) for _ in range(self.in_flight)]
            before = ask_free(LIBRARY)
            # cuDNN reports every plan that it passes over as an error; a true one is raised.
            onnxruntime.set_default_logger_severity(FATAL)
            self.session = open_session(request, self.provider, self.options)
            # Without a GPU it falls back to the CPU in silence.
            if self.provider not in self.session.get_providers():
                raise Unavailable("no CUDA device that ONNX Runtime can use", INSTALL_CUDA)
            self.idle: queue.SimpleQueue[BoundFrame] = queue.SimpleQueue()
            for host in buffers:
                frame = BoundFrame(self.session, host, self.device)
                # The first run chooses algorithms and takes the activations' memory.
                frame.run(np.zeros(shape, np.uint8))
                self.idle.put(frame)
            after = ask_free(LIBRARY)
            self.memory = None if before is None or after is None else max(before - after, 0)
            self.taken = taken.pop_all()

    def run(self, frames: Frames) -> Frames:
        frame = self.idle.get()
        try:
            return frame.run(frames)
        finally:
            self.idle.put(frame)

    def close(self) -> None:
        # What is bound goes before the memory that it is bound to.
        del self.idle, self.session
        self.taken.close()


class HostBuffers:
    """A frame before and after, where the GPU copies it from and to."""

    def __init__(self, shape: tuple[int, ...], taken: ExitStack) -> None:
        size = int(np.prod(shape))
        self.given = page_locked(size, taken).reshape(shape)
        self.made = page_locked(size, taken).reshape(shape)


class BoundFrame:
    """One frame in flight: its input on ``device``, bound to the session, and its output
    bound to where it belongs on the host.
    """

    def __init__(self, session: Any, host: HostBuffers, device: str) -> None:
        self.session, self.host = session, host
        self.given = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(host.given.shape), np.uint8, device, 0
        )
        self.binding = session.io_binding()
        # Not a copy: the value is this memory.
        made = onnxruntime.OrtValue.ortvalue_from_numpy(host.made, "cpu", 0)
        self.binding.bind_ortvalue_output(OUTPUT, made)

    def run(self, frames: Frames) -> Frames:
        np.copyto(self.host.given, frames)
        self.given.update_inplace(self.host.given)
        # Each time: a session that reads it elsewhere than on the device copies it here.
        self.binding.bind_ortvalue_input(INPUT, self.given)
        # Ends when the output is on the host.
        self.session.run_with_iobinding(self.binding)
        return self.host.made.copy()
