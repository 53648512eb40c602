"""What the page reads of the commands' results; further keys may stand beside these.

JSON has no infinity: a PSNR that is null is that of two equal pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from deblurgan.benchmarks.baseline import Subject
from deblurgan.benchmarks.environment import Environment
from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.peak import Peak
from deblurgan.benchmarks.quality import LengthScore
from deblurgan.benchmarks.result_file import Result, read_result, refusing_damage
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.flicker import TemporalError

T = TypeVar("T")

EXPECTED = "a result that deblur-bench wrote with --json"


def finite(value: Any) -> Any:
    return math.inf if value is None else value


Decibels = Annotated[float, BeforeValidator(finite)]


@dataclass(frozen=True)
class VideoFigures:
    """See :class:`~deblurgan.benchmarks.video.VideoJob`."""

    frames: int
    frames_a_second: float
    ratio: float
    engine_bound: float
    in_memory: float
    cores: int
    temporal: TemporalError | None


@dataclass(frozen=True)
class LatencyFigures:
    """See :class:`~deblurgan.benchmarks.latency.Latencies`."""

    rows: tuple[Row, ...]
    peaks: tuple[Peak, ...]
    missing: tuple[str, ...]
    video: VideoFigures | None = None

    def __post_init__(self) -> None:
        if any(row.frame is not None and row.frame.p50 <= 0 for row in self.rows):
            raise ValueError("a row that took no time")
        if any(peak.rate <= 0 for peak in self.peaks):
            raise ValueError("a peak of nothing a second")


@dataclass(frozen=True)
class ScoreFigures:
    """See :class:`~deblurgan.benchmarks.quality.Score`. ``gain`` is null where a figure is
    infinite.
    """

    name: str
    psnr_before: Decibels
    psnr_after: Decibels
    ssim_before: float
    ssim_after: float
    cw_ssim_before: float | None
    cw_ssim_after: float | None
    colour_shift: float
    gain: float | None


@dataclass(frozen=True)
class ModelFigures:
    """See :class:`~deblurgan.benchmarks.quality.ModelQuality`."""

    model: str
    precision: str
    engine: str
    pictures: tuple[ScoreFigures, ...]
    mean: ScoreFigures
    by_length: tuple[LengthScore, ...]

    def __post_init__(self) -> None:
        if any((row.gain_error or 0) < 0 for row in self.by_length):
            raise ValueError("an error below 0")


@dataclass(frozen=True)
class QualityFigures:
    """``kind`` is pairs, photos or sharp."""

    kind: str
    folder: str
    blur: str | None
    size: str
    all_lengths: bool
    models: Annotated[tuple[ModelFigures, ...], Field(min_length=1)]

    @property
    def title(self) -> str:
        what = f"{self.folder} with {self.blur}" if self.blur else self.folder
        first = self.models[0]
        # At all lengths each picture comes once with every one of them.
        count = len(first.pictures) // (len(first.by_length) or 1 if self.all_lengths else 1)
        noun = {"pairs": "pair", "sharp": "sharp picture"}.get(self.kind, "picture")
        plural = "" if count == 1 else "s"
        return f"{what}, {count} {noun}{plural}" + (", half size" if self.size == "half" else "")


@dataclass(frozen=True)
class Shares:
    """See :class:`~deblurgan.benchmarks.detection.Counts`."""

    right: int
    wrong: int
    missed: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Detector:
    file: str
    score: float


@dataclass(frozen=True)
class DetectionFigures:
    """See :class:`~deblurgan.benchmarks.detection.DetectionReport`."""

    folder: str
    blur: str | None
    detector: Detector
    references: int
    f1_gain: dict[str, tuple[float, float] | None]
    totals: dict[str, Shares]


@dataclass(frozen=True)
class Comparison:
    """See :class:`~deblurgan.benchmarks.gate.Comparison`."""

    change: float
    low: float
    high: float
    outcome: str
    most: float


@dataclass(frozen=True)
class GateFigures:
    subject: Subject
    comparison: Comparison


@dataclass(frozen=True)
class Read(Generic[T]):
    """A result's own figures, what they were measured with, and the result itself."""

    result: Result
    environment: Environment
    figures: T

    @property
    def name(self) -> str:
        return self.result.path.stem


@dataclass(frozen=True)
class Readings:
    """Of all files, by their kind, in the order of their names; ``others`` are of kinds that
    have no place on a page.
    """

    latency: tuple[Read[LatencyFigures], ...] = ()
    quality: tuple[Read[QualityFigures], ...] = ()
    detection: tuple[Read[DetectionFigures], ...] = ()
    video: tuple[Read[VideoFigures], ...] = ()
    gate: tuple[Read[GateFigures], ...] = ()
    others: tuple[Result, ...] = ()

    @property
    def shown(self) -> list[Read[Any]]:
        return [*self.latency, *self.quality, *self.detection, *self.video, *self.gate]


FIGURES: dict[str, Any] = {
    "latency": LatencyFigures,
    "quality": QualityFigures,
    "detection": DetectionFigures,
    "video": VideoFigures,
    "gate": GateFigures,
}


def read_all(paths: Sequence[Path], say: Callable[[str], None] = lambda _: None) -> Readings:
    """Files, and every ``.json`` of folders. ``say`` hears of a folder's files that are no
    results. Raises ``DeblurError`` for a file that is none, and where nothing is found.
    """
    results = []
    for path in paths:
        remedy = "measure it again: deblur-bench --help"
        if not path.is_dir():
            results.append(read_file(path, remedy))
            continue
        for file in sorted(path.glob("*.json")):
            try:
                results.append(read_file(file, remedy))
            except DeblurError as error:
                say(f"left out: {error}")
    read = [result for result in results if isinstance(result, Read)]
    others = tuple(result for result in results if isinstance(result, Result))
    if not read:
        kinds = ", ".join(sorted({result.kind for result in others}))
        raise DeblurError(
            ", ".join(map(str, paths)),
            expected=f"results of {', '.join(FIGURES)}",
            found=f"only of {kinds}" if kinds else "none",
            remedy="write one: deblur-bench latency --json latency.json",
        )
    return Readings(
        **{kind: tuple(r for r in read if r.result.kind == kind) for kind in FIGURES},
        others=others,
    )


def read_file(path: Path, remedy: str) -> Read[Any] | Result:
    """Raises ``DeblurError``."""
    with refusing_damage(path, EXPECTED, remedy):
        result = read_result(path)
        kind = FIGURES.get(result.kind)
        if kind is None:
            return result
        environment = validate(Environment, result.environment, "environment")
        return Read(result, environment, validate(kind, result.figures, "figures"))
    raise AssertionError("refused")


def validate(kind: type[T], values: dict[str, Any], what: str) -> T:
    """Raises ``ValueError``, whose message is a line."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{what}.{place}: {first['msg'].lower()}") from None


def all_rows(latencies: Iterable[Read[LatencyFigures]]) -> list[Row]:
    return [row for read in latencies for row in read.figures.rows]
