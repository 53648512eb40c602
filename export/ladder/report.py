"""What a ladder measured, and the file that keeps it: ``ladder.json``.

The JSON is :class:`LadderReport`, field by field; ``schema`` names its version, and
changes whenever a reader of an earlier one would misread it. PSNR is in dB, times in
seconds, sizes in bytes, differences between pictures in levels of 255. A figure that
is null is infinite: the PSNR of two equal pictures, the drop between two of those.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from deblurgan.export.ladder.machine import Machine

SCHEMA = "deblurgan-ladder-1"


@dataclass(frozen=True)
class Latency:
    """Seconds from a frame to its deblurred one, percentiles over ``frames`` of them."""

    frames: int
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Speed:
    """A latency, and how many times as fast that is as PyTorch with the same
    generator and with the paper's: medians of the rounds' own ratios.
    """

    latency: Latency
    times_pytorch: float
    times_paper: float


@dataclass(frozen=True)
class Fidelity:
    """How far pictures are from PyTorch's (eager, fp32), over ``pictures`` of them;
    ``differing`` is the share of values that differ at all.
    """

    pictures: int
    largest: int
    mean: float
    differing: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Quality:
    """Means over a folder's pictures, against the sharp ones; the drops are below
    fp32's on the same pictures, positive where this is worse.
    """

    folder: str
    psnr: float
    ssim: float
    psnr_drop: float
    ssim_drop: float


@dataclass(frozen=True)
class Plan:
    """A TensorRT plan, built here and verified by its golden pair; ``seconds`` it took."""

    file: str
    bytes: int
    tensorrt: str
    gpu: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """A rung on an engine: how fast, or why it was not timed; and how good."""

    engine: str
    description: str
    plan: Plan | None
    speed: Speed | None
    untimed: str
    fidelity: Fidelity
    quality: tuple[Quality, ...]


@dataclass(frozen=True)
class Rung:
    """A model file. ``quantisation`` is its card's: method, layers, what they cost."""

    precision: str
    file: str
    bytes: int
    sha256: str
    quantisation: dict[str, Any]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Folder:
    """Pairs that rungs were measured on: ``pictures`` of the ``of`` that are there,
    ``compared`` of these with PyTorch too; ``blur`` names the synthetic one, if any.
    PSNR and SSIM are the blurred pictures' own.
    """

    name: str
    pictures: int
    of: int
    compared: int
    blur: str | None
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Crop:
    """Where two rungs differ most in a picture: a box of pixels, and its mean difference."""

    folder: str
    picture: str
    left: int
    top: int
    width: int
    height: int
    mean: float


@dataclass(frozen=True)
class Worst:
    """The crops in which rung ``compared`` is furthest from rung ``base``, both as
    ``engine`` ran them (fp32 as its own first engine did).
    """

    base: str
    compared: str
    engine: str
    crops: tuple[Crop, ...]


@dataclass(frozen=True)
class Timing:
    """All took turns on frames of one size, in ``rounds``; ``paper`` equals
    ``pytorch`` where the generator is the paper's own.
    """

    width: int
    height: int
    seconds: float
    rounds: int
    threads: int
    pytorch: Latency
    paper: Latency
    is_paper: bool


@dataclass(frozen=True)
class Subject:
    """The checkpoint that was exported."""

    name: str
    settings: dict[str, Any]
    parameters: int
    weights_sha256: str
    training: dict[str, Any]


@dataclass(frozen=True)
class LadderReport:
    """Everything in ``ladder.json``. ``missing`` says why engines and plans are not
    among the runs; ``calibrated`` and ``tuned`` say on what, empty where nothing was;
    ``warnings`` are those of the exports.
    """

    schema: str
    made: str
    title: str
    note: str
    subject: Subject
    machine: Machine
    timing: Timing
    folders: tuple[Folder, ...]
    calibrated: str
    tuned: str
    warnings: tuple[str, ...]
    rungs: tuple[Rung, ...]
    missing: tuple[str, ...]
    worst: Worst | None

    def to_json(self) -> str:
        return json.dumps(finite(asdict(self)), indent=1, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """As JSON has it, which knows no infinity."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
