"""How far two pictures that should be the same are apart, and how far they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deblurgan.runtime.contract import Frames


@dataclass(frozen=True)
class Tolerance:
    """How far a picture may be from the reference, in levels of 255."""

    largest: int
    mean: float

    def __str__(self) -> str:
        return f"largest difference {self.largest}, mean {self.mean} levels"


# Between engines that run the same graph; int8 engines may round the other way
# at every layer, and one level there is many here.
TOLERANCES = {
    "fp32": Tolerance(largest=1, mean=0.01),
    "fp16": Tolerance(largest=3, mean=0.25),
    "int8": Tolerance(largest=24, mean=1.0),
    "int8-fp16": Tolerance(largest=24, mean=1.0),
}


@dataclass(frozen=True)
class Difference:
    """Between two sets of pictures: ``largest`` and ``mean`` in levels of 255,
    ``differing`` the share of values that differ, ``psnr`` in dB (infinite
    where nothing does).
    """

    largest: int
    mean: float
    differing: float
    psnr: float

    def __str__(self) -> str:
        return (
            f"largest {self.largest}, mean {self.mean:.4f} levels "
            f"({self.differing:.2%} differ), PSNR {self.psnr:.1f} dB"
        )

    def within(self, tolerance: Tolerance) -> bool:
        return self.largest <= tolerance.largest and self.mean <= tolerance.mean


def measure_difference(pairs: list[tuple[Frames, Frames]]) -> Difference:
    """Over all values of all pairs of uint8 pictures."""
    errors = np.concatenate([(a.astype(np.int16) - b).ravel() for a, b in pairs])
    absolute = np.abs(errors)
    mse = float(np.mean(np.square(absolute, dtype=np.float64)))
    return Difference(
        largest=int(absolute.max()),
        mean=float(absolute.mean()),
        differing=float(np.count_nonzero(absolute)) / absolute.size,
        psnr=10 * math.log10(255**2 / mse) if mse else math.inf,
    )
