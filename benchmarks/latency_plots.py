"""Pictures of latencies: by frame size and precision, and against pixels, frames and threads."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.paper import PAPER_TIME
from deblurgan.runtime.errors import DeblurError

matplotlib.use("agg")

PRECISION_COLOURS = {"fp32": "tab:blue", "fp16": "tab:green", "bf16": "tab:olive",
                     "int8": "tab:orange", "int8-fp16": "tab:red"}  # fmt: skip
MARKERS = "osD^vP*Xhp<>"


def draw_latency(rows: Sequence[Row]) -> bytes:
    """A PNG of milliseconds by frame size, a line for every model, engine and precision, for
    one frame at a time on the most threads; bars reach from the median to p90, and noisy rows
    are hollow. Raises ``DeblurError`` where no row has figures.
    """
    measured = one_at_a_time(rows)
    most = max(row.threads for row in measured)
    lines: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in measured:
        if row.threads == most:
            lines[row.model, row.engine, row.precision].append(row)
    figure = Figure(figsize=(10, 0.25 * len(lines) + 5), layout="constrained")
    axes = figure.subplots()
    markers = assign_markers([(model, engine) for model, engine, _ in lines])
    for (model, engine, precision), line in lines.items():
        line.sort(key=pixels)
        x, y = [pixels(row) for row in line], [1000 * seconds(row) for row in line]
        above = [1000 * (p90(row) - seconds(row)) for row in line]
        colour, marker = PRECISION_COLOURS.get(precision, "grey"), markers[model, engine]
        dashes = "--" if engine.startswith("pytorch") else "-"
        label = f"{model} {precision}, {engine}"
        axes.errorbar(x, y, yerr=[[0.0] * len(x), above], color=colour, linestyle=dashes,
                      marker=marker, capsize=3, label=label)  # fmt: skip
        for row in line:
            if row.verdict == "noisy":
                axes.plot(pixels(row), 1000 * seconds(row), marker, color=colour,
                          markerfacecolor="white", zorder=3)  # fmt: skip
    axes.axhline(1000 * PAPER_TIME.seconds, color="grey", linestyle=":", label=PAPER_TIME.label)
    axes.set(xscale="log", yscale="log", ylabel="milliseconds a frame, host to host")
    axes.set_title(f"One frame at a time, {most} threads; hollow: noisy")
    label_sizes(axes, measured)
    finish(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2,
                  fontsize=8)  # fmt: skip
    return to_png(figure)


def draw_scaling(rows: Sequence[Row]) -> bytes:
    """A PNG of three pictures: time against pixels, against frames at once, and against
    threads, each next to its ideal, through each line's first point. Only lines of at least
    two points are drawn. Raises ``DeblurError`` where no row has figures.
    """
    with_figures = [row for row in rows if row.frame is not None and not row.stream]
    require_figures(with_figures)
    figure = Figure(figsize=(15, 6), layout="constrained")
    panels = figure.subplots(1, 3)
    draw_panel(panels[0], with_figures, pixels, "pixels a frame", lambda growth: growth,
               lambda row: (-row.batch, row.threads))  # fmt: skip
    draw_panel(panels[1], with_figures, lambda row: row.batch, "frames at once",
               lambda growth: growth,
               lambda row: (row.width, row.height, row.threads))  # fmt: skip
    draw_panel(panels[2], with_figures, lambda row: row.threads, "threads",
               lambda growth: 1 / growth,
               lambda row: (row.width, row.height, -row.batch))  # fmt: skip
    label_sizes(panels[0], with_figures)
    panels[0].set(title="ideal: as many times the time as pixels", ylabel="milliseconds a call")
    panels[1].set(title="ideal: as many times the time as frames")
    panels[2].set(title="ideal: half the time on twice the threads")
    labels: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            labels.setdefault(label, handle)
    if labels:
        figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=3,
                      fontsize=8)  # fmt: skip
    return to_png(figure)


def draw_panel(
    axes: Any,
    rows: Sequence[Row],
    along: Callable[[Row], int],
    what: str,
    ideal: Callable[[float], float],
    fixed: Callable[[Row], tuple[int, ...]],
) -> None:
    """Of the settings that are held fixed, those with the most points, then the largest
    frames, the smallest batch and the most threads.
    """
    groups: dict[tuple[int, ...], dict[tuple[str, str, str], dict[int, Row]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows:
        groups[fixed(row)][row.model, row.engine, row.precision][along(row)] = row
    _, lines = max(
        groups.items(), key=lambda item: (max(len(line) for line in item[1].values()), item[0])
    )
    order = assign_markers([(row.model, row.engine) for row in rows])
    drawn: set[int] = set()
    for (model, engine, precision), points in lines.items():
        if len(points) < 2:
            continue
        x = sorted(points)
        y = [1000 * seconds(points[value]) for value in x]
        colour = PRECISION_COLOURS.get(precision, "grey")
        axes.plot(x, y, marker=order[model, engine], color=colour,
                  linestyle="--" if engine.startswith("pytorch") else "-",
                  label=f"{model} {precision}, {engine}")  # fmt: skip
        axes.plot(x, [y[0] * ideal(value / x[0]) for value in x], color="black", linewidth=0.8,
                  linestyle=":", label="ideal")  # fmt: skip
        drawn.update(x)
    axes.set(xscale="log", yscale="log", xlabel=what)
    finish(axes)
    if not drawn:
        axes.text(0.5, 0.5, f"measured with one number of {what} only", ha="center",
                  transform=axes.transAxes)  # fmt: skip
    set_ticks(axes, {value: str(value) for value in drawn})


def one_at_a_time(rows: Sequence[Row]) -> list[Row]:
    chosen = [row for row in rows if row.frame is not None and row.batch == 1 and not row.stream]
    require_figures(chosen)
    return chosen


def require_figures(rows: Sequence[Row]) -> None:
    if not rows:
        raise DeblurError(
            "picture",
            expected="a row with figures to draw",
            found="none",
            remedy="see why the rows were refused; give more --seconds",
        )


def assign_markers(kinds: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    unique = list(dict.fromkeys(kinds))
    return {kind: MARKERS[index % len(MARKERS)] for index, kind in enumerate(unique)}


def label_sizes(axes: Any, rows: Sequence[Row]) -> None:
    set_ticks(axes, {pixels(row): f"{row.width}x{row.height}" for row in rows})


def set_ticks(axes: Any, labels: dict[int, str]) -> None:
    turned = max(map(len, labels.values()), default=0) > 5
    axes.set_xticks(
        list(labels),
        list(labels.values()),
        rotation=30 if turned else 0,
        ha="right" if turned else "center",
    )
    axes.set_xticks([], minor=True)


def write_number(value: float, _: int) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def finish(axes: Any) -> None:
    """Numbers as people write them, on an axis of powers."""
    axes.grid(alpha=0.3, which="both")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(write_number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def pixels(row: Row) -> int:
    return row.width * row.height


def seconds(row: Row) -> float:
    assert row.frame is not None
    return row.frame.p50


def p90(row: Row) -> float:
    assert row.frame is not None
    return row.frame.p90


def to_png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
