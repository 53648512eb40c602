"""Quality against latency: which models no other is better than in both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from deblurgan.benchmarks.drawing import new_figure
from deblurgan.benchmarks.latency_plots import write_number
from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.paper import GOPRO, INPUT, QUALITY
from deblurgan.benchmarks.report.figures import QualityFigures


@dataclass(frozen=True)
class Point:
    """``seconds`` a frame and the ``gain`` in PSNR over the blurred pictures, in dB. Those that
    were ``published`` are of other pictures on another device.
    """

    label: str
    seconds: float
    gain: float
    published: bool = False


def published_points() -> list[Point]:
    """Of GoPro's test set, over what others measured of its blurred pictures; one that a
    second table repeats comes once.
    """
    points = {
        (row.seconds, row.psnr): Point(row.method, row.seconds, row.psnr - INPUT.lowest, True)
        for row in reversed(QUALITY)
        if row.data == GOPRO and row.seconds is not None
    }
    return list(points.values())


def our_points(quality: QualityFigures, rows: Sequence[Row]) -> list[Point]:
    """Every model with a gain, on the engine that is fastest with one frame at a time."""
    points = []
    for model in quality.models:
        timed = [
            row.frame.p50
            for row in rows
            if row.frame is not None
            and (row.model, row.precision) == (model.model, model.precision)
        ]
        if timed and model.mean.gain is not None:
            points.append(Point(model.model, min(timed), model.mean.gain))
    return points


def find_front(points: Iterable[Point]) -> list[Point]:
    """From the fastest on, those that gain more than all that are as fast or faster."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.seconds, -point.gain)):
        if not front or point.gain > front[-1].gain:
            front.append(point)
    return front


def draw_pareto(points: Sequence[Point]) -> Figure:
    figure = new_figure(8, 5)
    axes = figure.subplots()
    ours = [point for point in points if not point.published]
    front = find_front(ours)
    axes.step([p.seconds for p in front], [p.gain for p in front], "tab:blue", where="post",
              linewidth=1, alpha=0.6)  # fmt: skip
    for point in points:
        axes.plot(point.seconds, point.gain, "D" if point.published else "o",
                  color="grey" if point.published else "tab:blue",
                  markerfacecolor="white" if point.published else None)  # fmt: skip
        place = (6, -11) if is_under_another(point, points) else (6, 5)
        axes.annotate(point.label, (point.seconds, point.gain), place, fontsize=8,
                      textcoords="offset points")  # fmt: skip
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xscale="log", xlabel="seconds a frame", ylabel="PSNR over the blurred input, dB")
    low, high = (f(point.seconds for point in points) for f in (min, max))
    axes.set_xlim(low / 1.6, high * 12)  # room for the names
    axes.xaxis.set_major_formatter(FuncFormatter(write_number))
    axes.grid(alpha=0.3)
    return figure


def is_under_another(point: Point, points: Sequence[Point]) -> bool:
    """Whether its name has to stand below it, as another point's is above."""
    return any(
        other is not point
        and 0 <= other.gain - point.gain < 0.3
        and abs(math.log10(other.seconds / point.seconds)) < 0.8
        for other in points
    )
