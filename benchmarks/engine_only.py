"""An engine without the host's part: the frame lies where the engine reads it, and what it
makes stays where the engine writes it.

``Backend.run`` is host to host. On a processor the two differ by the copy of the output. On
a GPU they differ by the copy into page-locked memory, the way up, the way down, and the copy
out of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import INPUT, OUTPUT, Frames


def without_the_host(backend: Backend, frame: Frames) -> Callable[[], object] | None:
    """Runs the engine on ``frame`` and waits for it; None for a backend that is none of ours."""
    engine: Any = backend
    if hasattr(engine, "compiled"):
        return openvino_call(engine.compiled, frame)
    if hasattr(engine, "session"):
        return onnxruntime_call(engine.session, frame, getattr(engine, "device", "cpu"))
    if hasattr(engine, "runner"):
        return tensorrt_call(engine.runner, frame)
    return None


def openvino_call(compiled: Any, frame: Frames) -> Callable[[], object]:
    openvino = importlib.import_module("openvino")
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(frame, shared_memory=True))

    def call() -> object:
        return request.infer(share_outputs=True)

    return call


def onnxruntime_call(session: Any, frame: Frames, device: str) -> Callable[[], object]:
    onnxruntime = importlib.import_module("onnxruntime")
    value = onnxruntime.OrtValue
    given = value.ortvalue_from_numpy(frame, device, 0)
    made = value.ortvalue_from_shape_and_type(list(frame.shape), np.uint8, device, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT, given)
    binding.bind_ortvalue_output(OUTPUT, made)

    def call() -> object:
        return session.run_with_iobinding(binding)

    # Bindings do not keep alive what is bound to them.
    call.keep = (given, made)  # type: ignore[attr-defined]
    return call


def tensorrt_call(runner: Any, frame: Frames) -> Callable[[], object]:
    """On the stream that computes; the backend's own first run has set the frame's shape."""
    runner.run(frame)

    def call() -> None:
        with runner.device_current(), runner.slots.one() as slot, runner.lock:
            runner.bind(slot)
            runner.must(runner.execution.execute_async_v3(runner.compute.handle), "does not run")
            runner.compute.synchronize()

    return call
