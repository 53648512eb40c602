"""Which rung runs on which engine of this machine, and PyTorch as one engine more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deblurgan.export.frames import reference_module
from deblurgan.export.ladder.report import Plan
from deblurgan.runtime.backends import Backend, available_threads, open_backend
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.networks import Generator

# A CPU engine is fair to fp32 and int8 alone.
TIMED = {
    "openvino": ("fp32", "int8"),
    "onnxruntime": ("fp32", "int8"),
    "onnxruntime-cuda": ("fp32", "fp16"),
}
UNTIMED = {
    "fp16": "for GPUs: not timed here, a CPU computes it in fp32",
    "int8-fp16": "for TensorRT: not timed here, int8 is the one for CPUs",
}


@dataclass(frozen=True)
class Runner:
    """A precision on an engine. ``load`` opens it for frames of a width and height, one
    at a time, on all threads; ``untimed`` says why its time would mean nothing.
    """

    precision: str
    engine: str
    load: Callable[[int, int], Backend]
    untimed: str = ""
    plan: Plan | None = None


def find_runners(models: Sequence[Model]) -> tuple[list[Runner], list[str]]:
    """Every model on every engine that is fair to it, or else on the one that
    stands in for a GPU; and why engines are missing here, a sentence each.

    Raises ``DeblurError`` where no engine runs at all.
    """
    engines, missing = [], []
    for engine in TIMED:
        try:
            probe(models[0], engine)
            engines.append(engine)
        except DeblurError as error:
            missing.append(error.found)
    if not engines:
        raise DeblurError(
            "deblur-export ladder",
            expected="an engine that runs here",
            found="; ".join(missing),
            remedy='install one with: pip install ".[cpu]" in the checkout',
        )
    runners = []
    for model in models:
        precision = model.card.precision
        fair = [engine for engine in engines if precision in TIMED[engine]]
        runners += [Runner(precision, engine, opener(model, engine)) for engine in fair]
        if not fair:
            opened = opener(model, engines[0])
            runners.append(Runner(precision, engines[0], opened, UNTIMED[precision]))
    return runners, missing


def opener(model: Model, engine: str) -> Callable[[int, int], Backend]:
    def load(width: int, height: int) -> Backend:
        return open_backend(model, width, height, name=engine)

    return load


def probe(model: Model, engine: str) -> None:
    """Raises ``DeblurError`` where the engine does not run a small frame here."""
    width, height = model.size or (model.card.minimum_size,) * 2
    backend = open_backend(model, width, height, name=engine)
    try:
        backend.run(np.zeros((1, height, width, 3), np.uint8))
    finally:
        backend.close()


class Eager:
    """A generator in PyTorch, as one would run it: eager, fp32, dropout off."""

    in_flight = 1
    memory = None

    def __init__(self, generator: Generator) -> None:
        self.module: Callable[[torch.Tensor], torch.Tensor] = reference_module(generator)
        version = torch.__version__.partition("+")[0]
        self.description = f"PyTorch {version}, eager fp32, CPU, {available_threads()} threads"

    @torch.inference_mode()
    def run(self, frames: Frames) -> Frames:
        threads = torch.get_num_threads()
        torch.set_num_threads(available_threads())  # as many as the engines have
        try:
            made: Frames = self.module(torch.from_numpy(frames)).numpy()
            return made
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        del self.module
