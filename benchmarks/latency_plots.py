"""Pictures of latencies: by frame size and precision, and against pixels, frames and threads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from deblurgan.benchmarks.drawing import new_figure
from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.paper import PAPER_TIME
from deblurgan.runtime.errors import DeblurError

PRECISION_COLOURS = {"fp32": "tab:blue", "fp16": "tab:green", "bf16": "tab:olive",
                     "int8": "tab:orange", "int8-fp16": "tab:red"}  # fmt: skip
MARKERS = "osD^vP*Xhp<>"


def draw_latency(rows: Sequence[Row]) -> Figure:
    """Milliseconds by frame size, a line for every model, engine and precision, for
    one frame at a time on the most threads; bars reach from the median to p90, and noisy rows
    are hollow. Raises ``DeblurError`` where no row has figures.
    """
    measured = one_at_a_time(rows)
    most = max(row.threads for row in measured)
    lines: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in measured:
        if row.threads == most:
            lines[row.model, row.engine, row.precision].append(row)
    figure = new_figure(8, 0.15 * len(lines) + 4.5)
    axes = figure.subplots()
    markers = assign_markers([(model, engine) for model, engine, _ in lines])
    for (model, engine, precision), line in lines.items():
        line.sort(key=pixels)
        x, y = [pixels(row) for row in line], [1000 * seconds(row) for row in line]
        above = [1000 * (p90(row) - seconds(row)) for row in line]
        colour, marker = PRECISION_COLOURS.get(precision, "grey"), markers[model, engine]
        dashes = "--" if engine.startswith("pytorch") else "-"
        label = f"{line[0].title}, {engine}"
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
    return figure


@dataclass(frozen=True)
class Axis:
    """What time is drawn against: the ``value`` of a row; ``ideal`` is how many times the time
    grows with so many times the value. Rows of one line have ``fixed`` in common; where there
    are several the greatest is drawn.
    """

    name: str
    title: str
    value: Callable[[Row], int]
    ideal: Callable[[float], float]
    fixed: Callable[[Row], tuple[int, ...]]


def draw_scaling(rows: Sequence[Row]) -> Figure:
    """Time against pixels, frames at once and threads, of these what was measured at several,
    each next to its ideal, through each line's first point. Raises ``DeblurError`` where no
    row has figures.
    """
    with_figures = [row for row in rows if row.frame is not None and not row.stream]
    require_figures(with_figures)
    axes_ = (
        Axis("pixels a frame", "ideal: as many times the time as pixels", pixels,
             lambda growth: growth, lambda row: (-row.batch, row.threads)),
        Axis("frames at once", "ideal: as many times the time as frames", lambda row: row.batch,
             lambda growth: growth, lambda row: (row.width, row.height, row.threads)),
        Axis("threads", "ideal: half the time on twice the threads", lambda row: row.threads,
             lambda growth: 1 / growth, lambda row: (row.width, row.height, -row.batch)),
    )  # fmt: skip
    several = [axis for axis in axes_ if lines_along(axis, with_figures)]
    shown = several or axes_[:1]
    figure = new_figure(4.4 * len(shown) + 0.8, 5.2)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    markers = assign_markers([(row.model, row.engine) for row in with_figures])
    for panel, axis in zip(panels, shown, strict=True):
        draw_panel(panel, axis, lines_along(axis, with_figures), markers)
    panels[0].set_ylabel("milliseconds a call")
    if shown[0] is axes_[0]:
        label_sizes(panels[0], with_figures)
    labels: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            labels.setdefault(label, handle)
    if labels:
        figure.legend(labels.values(), labels.keys(), loc="outside lower center",
                      ncols=len(shown), fontsize=8)  # fmt: skip
    return figure


Line = tuple[str, str, str]  # model, engine, precision


def lines_along(axis: Axis, rows: Sequence[Row]) -> dict[Line, dict[int, Row]]:
    """Rows by their value, of all lines with at least two. Of the settings that are held
    fixed, those with the most points in a line and then in all, then the largest frames, the
    smallest batch and the most threads.
    """
    groups: dict[tuple[int, ...], dict[Line, dict[int, Row]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows:
        groups[axis.fixed(row)][row.model, row.engine, row.precision][axis.value(row)] = row

    def worth(item: tuple[tuple[int, ...], dict[Line, dict[int, Row]]]) -> tuple[Any, ...]:
        counts = [len(points) for points in item[1].values()]
        return max(counts), sum(counts), item[0]

    _, lines = max(groups.items(), key=worth)
    return {line: points for line, points in lines.items() if len(points) > 1}


def draw_panel(
    panel: Any,
    axis: Axis,
    lines: dict[Line, dict[int, Row]],
    markers: dict[tuple[str, str], str],
) -> None:
    drawn: set[int] = set()
    for (model, engine, precision), points in lines.items():
        x = sorted(points)
        y = [1000 * seconds(points[value]) for value in x]
        colour = PRECISION_COLOURS.get(precision, "grey")
        panel.plot(x, y, marker=markers[model, engine], color=colour,
                   linestyle="--" if engine.startswith("pytorch") else "-",
                   label=f"{points[x[0]].title}, {engine}")  # fmt: skip
        panel.plot(x, [y[0] * axis.ideal(value / x[0]) for value in x], color="black",
                   linewidth=0.8, linestyle=":", label="ideal")  # fmt: skip
        drawn.update(x)
    panel.set(xscale="log", yscale="log", xlabel=axis.name, title=axis.title)
    finish(panel)
    if not drawn:
        panel.text(0.5, 0.5, "nothing was measured at several of them", ha="center",
                   transform=panel.transAxes)  # fmt: skip
    set_ticks(panel, {value: str(value) for value in drawn})


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
