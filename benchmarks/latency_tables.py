"""Rows of latencies for people, for spreadsheets, and for github-action-benchmark."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from deblurgan.benchmarks.latency_rows import Percentiles, Row
from deblurgan.benchmarks.paper import NETWORK_720P, PAPER_TIME, NetworkSize, PublishedTime
from deblurgan.benchmarks.peak import Peak

MEGABYTE = 1 << 20
FULL_RUNS = 30
MARKS = {"valid": "", "noisy": "~", "refused": "x"}
CSV_COLUMNS = (
    "name", "model", "engine", "description", "precision", "device", "width", "height", "batch",
    "threads", "stream", "in_flight", "verdict", "reason", "runs", "p50_seconds", "p90_seconds",
    "p99_seconds", "spread", "engine_only_p50_seconds", "frames_a_second", "open_seconds",
    "peak_memory_bytes", "device_memory_bytes", "multiply_adds", "bytes_moved", "share_of_peak",
    "times_as_fast",
)  # fmt: skip


def latency_table(rows: Sequence[Row], published: PublishedTime = PAPER_TIME) -> Table:
    """A line a row, and last the published one. ``~`` marks a noisy row, ``x`` a refused one;
    :func:`remarks` says why.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("", "model", "engine", "size", "frames"):
        table.add_column(name, no_wrap=True)
    for name in ("threads", "p50 ms", "p90", "p99", "spread", "engine only", "frames/s", "MB",
                 "Gop", "of peak", "x paper"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        frame = row.frame
        table.add_row(
            MARKS[row.verdict],
            row.title,
            row.engine,
            f"{row.width}x{row.height}",
            f"{row.in_flight} in flight" if row.stream else str(row.batch),
            str(row.threads),
            *(milliseconds(frame, name) for name in ("p50", "p90", "p99")),
            "" if frame is None else f"{frame.spread:.1%}",
            milliseconds(row.engine_only, "p50"),
            number(row.frames_a_second, ".3g"),
            number(memory(row), ",.0f"),
            number(operations(row), ",.0f"),
            number(row.share_of_peak, ".0%"),
            number(row.times_as_fast, ".3g"),
        )
    table.add_section()
    size = "?" if published.size is None else "x".join(map(str, published.size))
    table.add_row(
        "", published.method, "published", size, "1", "", f"{published.seconds * 1000:,.0f}",
        "", "", "", "", f"{1 / published.seconds:.3g}", "", "?", "?", "",
    )  # fmt: skip
    return table


def remarks(rows: Sequence[Row], published: PublishedTime = PAPER_TIME) -> list[str]:
    """What the table has no room for, a line each."""
    said = [f"{row.verdict}: {row.name}: {row.reason}" for row in rows if row.reason]
    few = sum(1 for row in rows if row.frame is not None and row.frame.runs < FULL_RUNS)
    if few:
        said.append(f"{few} rows have fewer than {FULL_RUNS} runs: their p99 is near the slowest")
    return [*said, f"published: {published.label} ({published.source}; {published.note})"]


def peaks_table(peaks: Sequence[Peak]) -> Table:
    table = Table("most that this machine does", "device", "threads", "a second", "measured with")
    for peak in peaks:
        is_copy = peak.kind == "copy"
        table.add_row(
            "copy, read and written" if is_copy else f"matrix product, {peak.precision}",
            peak.device,
            str(peak.threads),
            f"{peak.rate / 1e9:,.1f} {'GB' if is_copy else 'Gop'}",
            peak.measured_with,
        )
    return table


def compare_with_published(
    row: Row, published: PublishedTime = PAPER_TIME, network: NetworkSize = NETWORK_720P
) -> str:
    """One sentence that says what the published time can be held against, and what not."""
    assert row.frame is not None
    said = (
        f"{row.title} on {row.engine}, {row.width}x{row.height}, {row.threads} "
        f"threads: {row.frame.p50:.3g} s a frame"
    )
    if row.multiply_adds is not None:
        said += f", {2 * row.multiply_adds / 1e9:,.0f} G operations"
    if row.share_of_peak is not None:
        said += f", {row.share_of_peak:.0%} of this machine's peak"
    return (
        f"{said}. The paper: {published.seconds} s on a {published.device}, of a picture whose "
        f"resolution and precision it does not state; were it {network.width}x{network.height}, "
        f"its network would need {2 * network.multiply_adds / 1e9:,.0f} G operations"
    )


def to_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        frame, engine = row.frame, row.engine_only
        measured = {
            "runs": frame and frame.runs,
            "p50_seconds": frame and frame.p50,
            "p90_seconds": frame and frame.p90,
            "p99_seconds": frame and frame.p99,
            "spread": frame and frame.spread,
            "engine_only_p50_seconds": engine and engine.p50,
            "peak_memory_bytes": row.peak_memory,
            "device_memory_bytes": row.device_memory,
        }
        others = {name: getattr(row, name) for name in CSV_COLUMNS if name not in measured}
        writer.writerow({**others, **measured})
    return text.getvalue()


def to_action(rows: Sequence[Row]) -> str:
    """What github-action-benchmark reads as ``customSmallerIsBetter``; refused rows have no
    value and are left out.
    """
    entries = []
    for row in rows:
        if row.frame is None:
            continue
        extra = [
            row.description,
            f"p90 {row.frame.p90 * 1000:.3f} ms, p99 {row.frame.p99 * 1000:.3f} ms",
            f"{row.frame.runs} runs",
            *([f"noisy: {row.reason}"] if row.verdict == "noisy" else []),
        ]
        entries.append(
            {
                "name": row.name,
                "unit": "ms",
                "value": round(row.frame.p50 * 1000, 4),
                "range": f"± {row.frame.iqr * 500:.4f}",
                "extra": "\n".join(extra),
            }
        )
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def milliseconds(times: Percentiles | None, name: str) -> str:
    if times is None:
        return ""
    value = 1000 * float(getattr(times, name))
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def memory(row: Row) -> float | None:
    """On the device where there is one."""
    value = row.device_memory or row.peak_memory
    return None if value is None else value / MEGABYTE


def operations(row: Row) -> float | None:
    return None if row.multiply_adds is None else 2 * row.multiply_adds / 1e9
