"""How much memory a model takes on an engine of the processor, found by running it.

What engines do with a graph cannot be read off it: they fuse, reuse and keep as they like. So
a process of its own runs the model on two small frames, and the difference of its peaks is
what a pixel takes. It costs a second for the shipped model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from deblurgan.runtime.backends import Backend, Request, open_backend
from deblurgan.runtime.contract import open_model
from deblurgan.runtime.tiling.memory import peak_memory

# Pixels a side; the model's stride divides them.
SIDES = (256, 512)
MOST_SECONDS = 120
# Above what the peaks of 512 pixels a side say, larger frames take up to a fifth more in
# ONNX Runtime, whose arena grows in powers of two.
MARGIN = 1.25


@dataclass(frozen=True)
class EngineMemory:
    """In bytes: ``fixed`` for weights and engine, ``per_pixel`` for a frame in work;
    ``in_flight`` frames at most are in work at a time.
    """

    fixed: int
    per_pixel: float
    in_flight: int

    def at(self, pixels: int, in_flight: int) -> int:
        """For this many frames (or tiles) of ``pixels`` at a time."""
        return self.fixed + round(MARGIN * self.per_pixel * pixels * in_flight)


# More than any model of this project takes: the paper's generator in ONNX Runtime.
HEAVIEST = EngineMemory(fixed=500_000_000, per_pixel=2800, in_flight=8)


def heaviest(request: Request) -> EngineMemory:
    """What no model takes more than, known without running it."""
    in_flight = min(request.threads, HEAVIEST.in_flight) if request.overlap else 1
    return replace(HEAVIEST, in_flight=in_flight)


def measure_engine(request: Request) -> EngineMemory:
    """What ``request``'s model takes on its engine, whatever the size of its frame.

    :func:`heaviest` where it cannot be found out.
    """
    arguments = [request.model.path, request.engine, request.threads, int(request.overlap)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=MOST_SECONDS,
            check=True,
        )
        return EngineMemory(**json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
        return heaviest(request)


def measure_here(path: Path, engine: str, threads: int, overlap: bool) -> EngineMemory:
    """The measurement itself; right only in a process that has done nothing else."""
    model = open_model(path)
    start = peak_memory()
    if start == 0:
        raise OSError("this system does not tell how much memory a process takes")

    def load(side: int, *, overlap: bool = False) -> Backend:
        return open_backend(model, side, side, name=engine, threads=threads, overlap=overlap)

    sides = [-(-side // model.card.stride) * model.card.stride for side in SIDES]
    peaks, random = [], np.random.default_rng(0)
    for side in sides:
        backend = load(side)
        for _ in range(2):
            backend.run(random.integers(0, 256, (1, side, side, 3), np.uint8))
        peaks.append(peak_memory())
        backend.close()
    backend = load(sides[0], overlap=overlap)
    in_flight = backend.in_flight
    backend.close()
    small, large = (side * side for side in sides)
    per_pixel = (peaks[1] - peaks[0]) / (large - small)
    return EngineMemory(max(0, round(peaks[0] - start - per_pixel * small)), per_pixel, in_flight)


if __name__ == "__main__":
    _, path, engine, threads, overlap = sys.argv
    print(json.dumps(asdict(measure_here(Path(path), engine, int(threads), overlap == "1"))))
