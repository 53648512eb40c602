"""OpenVINO on the CPU: the fastest engine there, in fp32 and in int8."""

from __future__ import annotations

import functools
import platform
import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np

from deblurgan.runtime.backends import Request, Unavailable
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.difference import TOLERANCES
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import WrongPicture, compare_golden, read_golden

# With it comes its converter, which reports each import to Intel over the network and does
# without where the reporter is missing.
_missing = object()
_reporter: Any = sys.modules.get("openvino_telemetry", _missing)
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
try:
    import openvino
except ImportError as error:
    raise Unavailable(f"not installed ({error})") from None
finally:
    if _reporter is _missing:
        del sys.modules["openvino_telemetry"]
    else:
        sys.modules["openvino_telemetry"] = _reporter


# Each frame in flight holds all its activations.
MOST_IN_FLIGHT = 8
X86 = ("x86_64", "AMD64")


class CPUEngine:
    memory = None

    def __init__(self, request: Request) -> None:
        self.model, threads = request.model, request.threads
        # A frame a thread wastes least; for a single frame all threads must help.
        self.in_flight = min(threads, MOST_IN_FLIGHT) if request.overlap else 1
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version}, CPU, {threads} threads"
        if platform.machine() not in X86:
            check_picture(self.model, threads, f"OpenVINO {version}")
        self.compiled = compile_model(
            self.model, request.width, request.height, self.in_flight, threads
        )
        self.idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(self.in_flight):
            self.idle.put(self.compiled.create_infer_request())
        # OpenVINO 2026.4 deadlocks when two threads make their first tensor at once.
        np.asarray(openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True).data)

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


def compile_model(
    model: Model, width: int, height: int, in_flight: int, threads: int
) -> openvino.CompiledModel:
    core = open_core()
    network = core.read_model(model.path)
    # A fixed size lets the engine plan its memory and fold the padding away.
    network.reshape([1, height, width, 3])
    settings = {
        "NUM_STREAMS": str(in_flight),
        "INFERENCE_NUM_THREADS": threads,
        # Left alone it computes in bf16 where the processor has that.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return core.compile_model(network, "CPU", settings)


_seen: dict[Path, DeblurError | None] = {}  # what was wrong with the picture of a file


def check_picture(model: Model, threads: int, engine: str) -> None:
    """Run the golden pair that the file brings, once a process; raises :class:`WrongPicture`.

    On an emulated Arm processor with SME, in fp32 and in int8, OpenVINO 2026.4 makes a picture
    that is 15 levels off in the mean, and says nothing; on Apple's M4, which has SME, others
    saw int8 go wrong (openvino's issue 34673).
    """
    if model.path not in _seen:
        _seen[model.path] = find_fault(model, threads, engine)
    if (fault := _seen[model.path]) is not None:
        raise fault


def find_fault(model: Model, threads: int, engine: str) -> DeblurError | None:
    golden = read_golden(model)
    if golden is None:
        return None
    compiled = compile_model(model, golden.width, golden.height, 1, threads)
    difference = compare_golden(golden, compiled(golden.frame())[0])
    tolerance = TOLERANCES[model.card.precision]
    if difference.within(tolerance):
        return None
    return WrongPicture(
        model.path,
        expected=f"the picture that {golden.engine} made of it ({tolerance})",
        found=f"another, made by {engine} on this processor ({platform.machine()}): {difference}",
        remedy="use --backend onnxruntime, and report these numbers",
    )
