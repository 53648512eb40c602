"""Which rows there are to measure: every model on every backend, and PyTorch beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deblurgan.benchmarks.network_cost import NetworkCost, count_described, count_model
from deblurgan.benchmarks.worker_process import Opened
from deblurgan.benchmarks.workload import CPU, CUDA, PAPER, Workload
from deblurgan.runtime.backends import AUTO, NEED_GPU
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt.device import find_device

if TYPE_CHECKING:
    from deblurgan.export.frames import Precision
    from deblurgan.train.checkpoint import Checkpoint

PEERS = ("eager", "channels-last", "compiled", "bf16", "fp16", "compiled-fp16", "cuda-graph")
ON_CPU = ("eager", "channels-last", "compiled", "bf16")
ON_CUDA = ("eager", "channels-last", "compiled", "fp16", "compiled-fp16", "cuda-graph")


@dataclass(frozen=True)
class Choice:
    """``models`` and ``backends`` by name, ``generators`` for PyTorch: ``paper`` or checkpoints."""

    models: Sequence[str]
    backends: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    batches: Sequence[int]
    threads: Sequence[int]
    generators: Sequence[str]
    peers: Sequence[str]
    stream: bool


def choose_workloads(choice: Choice, device: str) -> list[Workload]:
    """In the order of the table: by size, frames and threads, engines before PyTorch."""
    chosen: list[Workload] = []
    for (width, height), batch, threads in itertools.product(
        choice.sizes, choice.batches, choice.threads
    ):
        for model, backend in itertools.product(choice.models, choice.backends):
            one = Workload("engine", model, backend, width, height, batch, threads)
            chosen.append(one)
            if choice.stream and batch == 1:
                chosen.append(
                    Workload("engine", model, backend, width, height, 1, threads, stream=True)
                )
        for generator, peer in itertools.product(choice.generators, choice.peers):
            chosen.append(
                Workload("pytorch", generator, peer, width, height, batch, threads, device=device)
            )
    return list(dict.fromkeys(chosen))


def choose_device(backends: Sequence[str]) -> str:
    """Where PyTorch runs beside these backends: on the GPU where one of them does."""
    on_gpu = any(name in NEED_GPU or name == AUTO for name in backends)
    return CUDA if on_gpu and find_device() is not None else CPU


def choose_peers(asked: Sequence[str], device: str) -> Sequence[str]:
    return asked or (ON_CUDA if device == CUDA else ON_CPU)


def load_generators(names: Sequence[str]) -> dict[str, Checkpoint]:
    """Checkpoints by file, and the paper's generator, untrained, by ``paper``. Raises
    ``DeblurError`` for what is none.
    """
    from deblurgan.train.checkpoint import Checkpoint, load_checkpoint
    from deblurgan.train.networks import ResNetGenerator

    return {
        name: Checkpoint(ResNetGenerator().eval(), {})
        if name == PAPER
        else load_checkpoint(Path(name))
        for name in names
    }


def export_models(
    checkpoints: dict[str, Checkpoint], precisions: Sequence[str], folder: Path
) -> list[str]:
    """Every checkpoint in every precision; int8 is calibrated on the two pictures of the
    package, which is enough for speed.
    """
    from deblurgan.export.onnx_export import export_onnx
    from deblurgan.export.proof import PICTURES
    from deblurgan.export.search import QuantisationRequest

    request = QuantisationRequest(calibration=PICTURES, method="min-max")
    made = []
    for name, checkpoint in checkpoints.items():
        for precision in precisions:
            path = folder / f"{Path(name).stem}-{precision}.onnx"
            quantisation = request if precision.startswith("int8") else None
            export_onnx(checkpoint, path, cast("Precision", precision), quantisation=quantisation)
            made.append(str(path))
    return made


class Costs:
    """Multiply-adds and bytes moved of a call, counted once for every network and size."""

    def __init__(self, checkpoints: dict[str, Checkpoint]) -> None:
        self.checkpoints = checkpoints
        self.counted: dict[tuple[str, str, int, int], NetworkCost | None] = {}

    def __call__(self, workload: Workload, opened: Opened) -> tuple[int, int] | None:
        key = (workload.kind, workload.model, workload.width, workload.height)
        if key not in self.counted:
            self.counted[key] = self.count(workload)
        cost, frames = self.counted[key], workload.batch
        if cost is None:
            return None
        return frames * cost.multiply_adds, cost.bytes_moved(opened.precision, frames)

    def count(self, workload: Workload) -> NetworkCost | None:
        width, height = workload.width, workload.height
        if workload.kind == "engine":
            return count_model(find_model(workload.model), width, height)
        from deblurgan.train.networks import describe_generator

        generator = self.checkpoints[workload.model].generator
        return count_described(describe_generator(generator), width, height)
