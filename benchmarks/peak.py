"""What this machine can do at most, measured beside the rows: matrix products and a copy.

A rate that a data sheet promises is no measure for a shared or a warm machine. These are the
fastest of all runs in the same rounds as the rows, with as many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deblurgan.benchmarks.workload import CUDA, Workload

# Which product a row is held against. A processor computes fp16 files in fp32.
PRODUCTS = {
    "cpu": {"fp32": "fp32", "fp16": "fp32", "bf16": "bf16", "int8": "int8", "int8-fp16": "int8"},
    "cuda": {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8", "int8-fp16": "int8"},
}


@dataclass(frozen=True)
class Peak:
    """``rate`` is in operations a second for a ``product``, where a multiplication and an
    addition are two, and in bytes read and written a second for a ``copy``.
    """

    kind: str
    precision: str
    device: str
    threads: int
    rate: float
    runs: int
    measured_with: str


def choose_peaks(devices: Sequence[str], threads: Sequence[int]) -> list[Workload]:
    """Products in fp32 and in what the device computes faster, and a copy. Threads are of no
    matter to a GPU.
    """
    chosen = []
    for device in devices:
        precisions = ("fp32", "fp16", "bf16", "int8") if device == CUDA else ("fp32", "int8")
        for count in dict.fromkeys(threads if device != CUDA else threads[:1]):
            for precision in precisions:
                chosen.append(Workload("product", engine=precision, threads=count, device=device))
            chosen.append(Workload("copy", threads=count, device=device))
    return chosen


def drop_slow_int8(peaks: Sequence[Peak]) -> tuple[list[Peak], list[str]]:
    """Where the int8 product is no faster than fp32's, its library has no instructions for it
    here, and it is the peak of nothing; and why, a sentence each.
    """
    fp32 = {(p.device, p.threads): p.rate for p in peaks if p.precision == "fp32"}
    kept, dropped = [], []
    for peak in peaks:
        other = fp32.get((peak.device, peak.threads), 0.0)
        if peak.precision == "int8" and peak.rate <= other:
            dropped.append(
                f"int8 peak with {peak.threads} threads: {peak.measured_with} multiplies int8 "
                f"no faster than fp32 here; int8 rows have no share of peak"
            )
        else:
            kept.append(peak)
    return kept, dropped


def find_product(peaks: Sequence[Peak], precision: str, device: str, threads: int) -> Peak | None:
    wanted = PRODUCTS[device].get(precision)
    for peak in peaks:
        fits = device == CUDA or peak.threads == threads
        if peak.kind == "product" and peak.precision == wanted and peak.device == device and fits:
            return peak
    return None


def share_of_peak(operations: float, seconds: float, peak: Peak) -> float:
    """1 is a network that multiplies as fast as a large matrix product does."""
    return operations / seconds / peak.rate
