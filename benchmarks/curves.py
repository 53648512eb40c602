"""Curves of training runs: what they were trained for, and what held-out pairs gained."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from deblurgan.benchmarks.drawing import new_figure
from deblurgan.benchmarks.labels import tell_apart
from deblurgan.runtime.errors import DeblurError

LOSSES = ("content", "pixel")  # of those a run has, the first is drawn
WINDOW = 50  # points that a loss is averaged over

Points = list[tuple[float, float]]


def draw_curves(runs: list[Path]) -> Figure:
    """The runs' loss, next to where it began, and the gain in PSNR over the blurred input, by
    pictures.

    Raises ``DeblurError`` for a folder without a run's log.
    """
    figure = new_figure(10, 4.2)
    loss_axes, gain_axes = figure.subplots(1, 2)
    losses: list[tuple[str, Points]] = []
    for run, name in zip(runs, names_of(runs), strict=True):
        rows = read_log(run / "log.csv")
        loss = next((name for name in LOSSES if column(rows, name)), "generator")
        losses.append((f"{name}: {loss} loss", smooth(column(rows, loss))))
        gain_axes.plot(*zip(*column(rows, "gain_db"), strict=True), marker=".", label=name)
    # In dB (loss.distance=psnr), or of a game, it is less than nothing.
    are_shares = all(y > 0 for _, points in losses for _, y in points)
    for label, points in losses:
        first = points[0][1] if points else 1.0
        values = [y / first if are_shares else y - first for _, y in points]
        loss_axes.plot([x for x, _ in points], values, label=label)
    title = "loss, of its first value" if are_shares else "loss, less its first value"
    loss_axes.set(title=title, xlabel="pictures")
    gain_axes.set(title="gain on held-out pairs, dB of PSNR", xlabel="pictures")
    gain_axes.axhline(0, color="grey", linewidth=0.8)
    for axes in (loss_axes, gain_axes):
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def names_of(runs: list[Path]) -> list[str]:
    """The folders' names, and where that is not enough the parents' before them. A legend
    leaves out what begins with an underscore.
    """
    paths = [Path(os.path.abspath(run)) for run in runs]
    longer = [f"{path.parent.name}/{path.name}".lstrip("_") for path in paths]
    return tell_apart([path.name.lstrip("_") for path in paths], longer)


def read_log(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as log:
            rows = list(csv.DictReader(log))
        for name in (*LOSSES, "generator", "gain_db"):
            column(rows, name)
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        found = "one that cannot be read"
        if isinstance(error, OSError):
            found = (error.strerror or str(error)).lower()
        raise DeblurError(
            path,
            expected="the log of a run of deblur-train",
            found=found,
            remedy="name the folder that was its --output",
        ) from None
    if not rows or "gain_db" not in rows[0] or not column(rows, "gain_db"):
        raise DeblurError(
            path,
            expected="the log of a run that has validated at least once",
            found=f"{len(rows)} rows without gain_db",
            remedy="let it train for longer, or lower training.validate_every",
        )
    return rows


def column(rows: list[dict[str, str]], name: str) -> Points:
    """Pictures and value, of the rows that have the value."""
    return [(float(row["samples"]), float(row[name])) for row in rows if row.get(name)]


def smooth(points: Points) -> Points:
    """Means of ``WINDOW`` points one after the other, or of a twentieth of all."""
    size = max(1, min(WINDOW, len(points) // 20))
    groups = [points[i : i + size] for i in range(0, len(points) - size + 1, size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
