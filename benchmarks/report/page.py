"""``report.html``: the results, arranged for the template."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from deblurgan.benchmarks import paper
from deblurgan.benchmarks.drawing import to_svg
from deblurgan.benchmarks.latency_plots import draw_latency, draw_scaling, seconds
from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.latency_tables import compare_with_published, memory, operations
from deblurgan.benchmarks.quality_curve import draw_quality_curve
from deblurgan.benchmarks.report.figures import (
    LatencyFigures,
    QualityFigures,
    Read,
    Readings,
    VideoFigures,
    all_rows,
)
from deblurgan.benchmarks.report.pareto import draw_pareto, our_points, published_points
from deblurgan.benchmarks.roofline import draw_roofline
from deblurgan.export.page import ENGINES, Bar, Comparison, draw_bars, plot_uri, render_page
from deblurgan.runtime.errors import DeblurError

TEMPLATE = Path(__file__).with_name("report.html")
# The size that the results of others are of.
USUAL = (1280, 720)


@dataclass(frozen=True)
class Plot:
    uri: str
    description: str


@dataclass(frozen=True)
class Line:
    """A row as the tables have it."""

    row: Row
    engine: str
    frames: str
    megabytes: float | None
    operations: float | None


@dataclass(frozen=True)
class LatencySection:
    read: Read[LatencyFigures]
    size: str
    threads: int
    bars: list[Bar]
    lines: list[Line]
    plots: list[Plot]
    has_pytorch: bool
    against_the_paper: str


@dataclass(frozen=True)
class QualitySection:
    read: Read[QualityFigures]
    curve: Plot | None


@dataclass(frozen=True)
class Shown:
    """What a model made of a picture: both under the slider, and their names."""

    pictures: Comparison
    picture: str
    model: str


def draw_page(readings: Readings, title: str, note: str = "", shown: Shown | None = None) -> str:
    """The page, self-contained."""
    rows = all_rows(readings.latency)
    timed = [row for row in usual_rows(rows) if not row.engine.startswith("pytorch")]
    return render_page(
        TEMPLATE,
        title=title,
        note=note,
        readings=readings,
        shown=shown,
        # One that was timed next to the paper's network, if any was.
        fastest=min(timed, key=lambda row: (row.times_as_fast is None, seconds(row)), default=None),
        latency=[latency_section(read) for read in readings.latency],
        quality=[quality_section(read) for read in readings.quality],
        pareto=draw_front(readings),
        videos=list_videos(readings),
        paper=paper,
        published=[row for row in paper.QUALITY if row.data == paper.GOPRO],
        engine_name=engine_name,
    )


def latency_section(read: Read[LatencyFigures]) -> LatencySection:
    rows, peaks = read.figures.rows, read.figures.peaks
    chosen = usual_rows(rows)
    called = [row for row in rows if row.frame is not None and not row.stream]
    plots = []
    if len({row.width * row.height for row in called if row.batch == 1}) > 1:
        plots.append(plot(draw_latency(rows), "Milliseconds a frame by frame size"))
    if len({(row.width * row.height, row.batch, row.threads) for row in called}) > 1:
        plots.append(plot(draw_scaling(rows), "Time against pixels, frames at once and threads"))
    described = "Operations a second against operations a byte, under what the machine can do"
    with suppress(DeblurError):  # no peak was measured
        plots.append(plot(draw_roofline(rows, peaks), described))
    engines = [row for row in chosen if not row.engine.startswith("pytorch")]
    return LatencySection(
        read,
        f"{chosen[0].width}×{chosen[0].height}" if chosen else "",
        chosen[0].threads if chosen else 0,
        draw_bars(rates(chosen)),
        [line(row) for row in rows],
        plots,
        any(row.engine.startswith("pytorch") for row in rows),
        compare_with_published(min(engines, key=seconds)) if engines else "",
    )


def quality_section(read: Read[QualityFigures]) -> QualitySection:
    figures = read.figures
    curve = None
    if len(figures.models[0].by_length) > 1:
        same = "the same" if figures.all_lengths else "other"
        title = f"{figures.title}: {same} pictures at each length"
        curve = plot(draw_quality_curve(figures.models, title), "PSNR and gain by length of blur")
    return QualitySection(read, curve)


def usual_rows(rows: Sequence[Row]) -> list[Row]:
    """Of one frame at a time on the most threads, at the usual size or else the largest."""
    single = [row for row in rows if row.frame is not None and row.batch == 1 and not row.stream]
    sizes = {(row.width, row.height) for row in single}
    if not sizes:
        return []
    size = USUAL if USUAL in sizes else max(sizes)
    of_size = [row for row in single if (row.width, row.height) == size]
    most = max(row.threads for row in of_size)
    return [row for row in of_size if row.threads == most]


def rates(rows: Sequence[Row]) -> list[tuple[str, str, float, bool]]:
    """The slowest first."""
    return [
        (row.title, engine_name(row.engine), 1 / seconds(row), not row.engine.startswith("pytorch"))
        for row in sorted(rows, key=seconds, reverse=True)
    ]


def draw_front(readings: Readings) -> Plot | None:
    """Quality against latency, on real pairs where there are any, and of one machine."""
    judged = [read.figures for read in readings.quality if read.figures.kind != "sharp"]
    judged.sort(key=lambda figures: figures.kind != "pairs")
    timed = [usual_rows(read.figures.rows) for read in readings.latency]
    timed_on = sorted(
        zip(timed, readings.latency, strict=True),
        key=lambda pair: {(row.width, row.height) for row in pair[0]} != {USUAL},
    )
    for figures, (rows, read) in itertools.product(judged, timed_on):
        points = our_points(figures, rows)
        if points:
            drawn = draw_pareto([*points, *published_points()])
            size = f"{rows[0].width}×{rows[0].height}"
            of = f"{size} on {read.environment.processor}"
            return plot(drawn, f"{figures.title}; seconds of a frame of {of}")
    return None


def list_videos(readings: Readings) -> list[tuple[str, VideoFigures]]:
    """By their results' names: those of latency may have one too."""
    beside = [(read.name, read.figures.video) for read in readings.latency if read.figures.video]
    return [*((read.name, read.figures) for read in readings.video), *beside]


def line(row: Row) -> Line:
    frames = f"{row.in_flight} in flight" if row.stream else str(row.batch)
    return Line(row, engine_name(row.engine), frames, memory(row), operations(row))


def engine_name(engine: str) -> str:
    return ENGINES.get(engine, engine.replace("pytorch", "PyTorch"))


def plot(figure: Figure, description: str) -> Plot:
    return Plot(plot_uri(to_svg(figure)), description)
