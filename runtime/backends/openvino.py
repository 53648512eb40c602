"""OpenVINO on the CPU: the fastest engine there, in fp32 and in int8."""

from __future__ import annotations

import functools
import queue
import sys

import numpy as np

from deblurgan.runtime.backends import Request, Unavailable
from deblurgan.runtime.contract import Frames

# With it comes its converter, which reports each import to Intel over the network and does
# without where the reporter is missing.
_reporter = sys.modules.get("openvino_telemetry")
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
try:
    import openvino
except ImportError as error:
    raise Unavailable(f"not installed ({error})") from None
finally:
    if _reporter is None:
        del sys.modules["openvino_telemetry"]
    else:
        sys.modules["openvino_telemetry"] = _reporter


# Each frame in flight holds all its activations.
MOST_IN_FLIGHT = 8


class CPUEngine:
    memory = None

    def __init__(self, request: Request) -> None:
        self.model, threads = request.model, request.threads
        core = open_core()
        network = core.read_model(request.model.path)
        # A fixed size lets the engine plan its memory and fold the padding away.
        network.reshape([1, request.height, request.width, 3])
        # A frame a thread wastes least; for a single frame all threads must help.
        self.in_flight = min(threads, MOST_IN_FLIGHT) if request.overlap else 1
        self.compiled = core.compile_model(
            network,
            "CPU",
            {
                "NUM_STREAMS": str(self.in_flight),
                "INFERENCE_NUM_THREADS": threads,
                # Left alone it computes in bf16 where the processor has that.
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        self.idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(self.in_flight):
            self.idle.put(self.compiled.create_infer_request())
        # OpenVINO 2026.4 deadlocks when two threads make their first tensor at once.
        np.asarray(openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True).data)
        self.description = f"OpenVINO {openvino.__version__.split('-')[0]}, CPU, {threads} threads"

    def run(self, frames: Frames) -> Frames:
        request = self.idle.get()
        try:
            frames = np.ascontiguousarray(frames)
            request.set_input_tensor(openvino.Tensor(frames, shared_memory=True))
            request.infer()
            return request.get_output_tensor().data.copy()
        finally:
            self.idle.put(request)

    def close(self) -> None:
        del self.idle, self.compiled


@functools.cache
def open_core() -> openvino.Core:
    """One for the life of the process. Each Core of OpenVINO 2026.4 gives the thread a stack
    for signals and takes it away at its end; two that do not end in reverse order leave one
    that is no longer there, and the next Ctrl-C ends the process with a segmentation fault.
    """
    return openvino.Core()
