"""The roofline: what a machine could do with a network, and what it does.

A row may be as high as the matrix product of its precision, or, where it multiplies little
for the bytes that it moves, as the copy lets it. The bytes are an estimate
(:meth:`~deblurgan.benchmarks.network_cost.NetworkCost.bytes_moved`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from deblurgan.benchmarks.drawing import new_figure
from deblurgan.benchmarks.latency_plots import (
    PRECISION_COLOURS,
    assign_markers,
    finish,
    one_at_a_time,
    write_number,
)
from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.peak import Peak
from deblurgan.runtime.errors import DeblurError


def draw_roofline(rows: Sequence[Row], peaks: Sequence[Peak]) -> Figure:
    """Log to log: operations a byte, and operations a second, for one frame at a time
    on the most threads. Raises ``DeblurError`` where no row has figures or no peak was measured.
    """
    measured = [row for row in one_at_a_time(rows) if row.multiply_adds and row.bytes_moved]
    devices = {row.device for row in measured}
    device = "cuda" if "cuda" in devices else "cpu"
    most = max((row.threads for row in measured if row.device == device), default=0)
    roofs = [p for p in peaks if p.device == device and (device == "cuda" or p.threads == most)]
    copies = [peak.rate for peak in roofs if peak.kind == "copy"]
    products = [peak for peak in roofs if peak.kind == "product"]
    if not measured or not copies or not products:
        raise DeblurError(
            "--roofline",
            expected="a row whose operations are known, a matrix product and a copy",
            found=f"{len(measured)} rows, {len(products)} products, {len(copies)} copies",
            remedy="see what the rows and the peaks were refused for",
        )
    shown = [row for row in measured if row.device == device and row.threads == most]
    figure = new_figure(10, 0.12 * len({(r.model, r.engine) for r in shown}) + 6)
    axes = figure.subplots()
    at = [intensity(row) for row in shown]
    knees = [peak.rate / copies[0] for peak in products]
    x = np.geomspace(min([*at, *knees]) / 4, max([*at, *knees]) * 4, 300)
    for peak in products:
        axes.plot(x, np.minimum(peak.rate, copies[0] * x) / 1e9,
                  color=PRECISION_COLOURS.get(peak.precision, "grey"),
                  label=f"{peak.precision} product {peak.rate / 1e9:,.0f} Gop/s, "
                  f"copy {copies[0] / 1e9:,.0f} GB/s")  # fmt: skip
    markers = assign_markers([(row.model, row.engine) for row in shown])
    seen: set[str] = set()
    for row in sorted(shown, key=lambda row: row.width * row.height):
        assert row.frame is not None
        assert row.multiply_adds is not None
        label = f"{row.title}, {row.engine}"
        size = 4 + 2 * np.log2(max(row.width * row.height / 65536, 1))
        axes.plot(intensity(row), 2 * row.multiply_adds / row.frame.p50 / 1e9,
                  markers[row.model, row.engine], markersize=size, alpha=0.8,
                  color=PRECISION_COLOURS.get(row.precision, "grey"),
                  markerfacecolor="white" if row.verdict == "noisy" else None,
                  label="" if label in seen else label)  # fmt: skip
        seen.add(label)
    name = "GPU" if device == "cuda" else "processor"
    threads = "" if device == "cuda" else f", {most} threads"
    axes.set(xscale="log", yscale="log", xlabel="operations a byte (bytes estimated: weights, and "
             "what each convolution reads and writes)", ylabel="G operations a second",
             title=f"Roofline of this {name}{threads}, measured; larger: a larger frame, "
             "hollow: noisy")  # fmt: skip
    finish(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(write_number))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2,
                  fontsize=8)  # fmt: skip
    return figure


def intensity(row: Row) -> float:
    """Operations a byte."""
    assert row.multiply_adds is not None
    assert row.bytes_moved is not None
    return 2 * row.multiply_adds / row.bytes_moved
