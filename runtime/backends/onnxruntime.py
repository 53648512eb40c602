"""ONNX Runtime: on the CPU wherever Python is, with CUDA where that works."""

from __future__ import annotations

from deblurgan.runtime.backends import Unavailable
from deblurgan.runtime.contract import INPUT, OUTPUT, Frames, Model

try:
    import onnxruntime
except ImportError as error:
    raise Unavailable(f"not installed ({error})") from None


class Engine:
    """A session on one execution provider; the subclasses say which."""

    provider: str
    device: str

    def __init__(self, model: Model, width: int, height: int, threads: int, overlap: bool) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if model.card.precision == "int8-fp16":
            # Optimised, its int8 kernels misread scales in half precision.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # The size is known now: with it shape arithmetic and padding fold away.
        for dimension, size in (("batch", 1), ("height", height), ("width", width)):
            options.add_free_dimension_override_by_name(dimension, size)
        self.session = onnxruntime.InferenceSession(
            str(model.path), options, providers=[self.provider]
        )
        self.in_flight = 1
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {self.device}"

    def run(self, frames: Frames) -> Frames:
        return self.session.run([OUTPUT], {INPUT: frames})[0]

    def close(self) -> None:
        del self.session


class CPUEngine(Engine):
    provider = "CPUExecutionProvider"

    def __init__(self, model: Model, width: int, height: int, threads: int, overlap: bool) -> None:
        self.device = f"CPU, {threads} threads"
        super().__init__(model, width, height, threads, overlap)


class CUDAEngine(Engine):
    provider = "CUDAExecutionProvider"
    device = "CUDA"

    def __init__(self, model: Model, width: int, height: int, threads: int, overlap: bool) -> None:
        if self.provider not in onnxruntime.get_available_providers():
            raise Unavailable("this ONNX Runtime was built without CUDA")
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        super().__init__(model, width, height, threads, overlap)
        # Without a GPU it falls back to the CPU in silence.
        if self.provider not in self.session.get_providers():
            raise Unavailable("no CUDA device that ONNX Runtime can use")
