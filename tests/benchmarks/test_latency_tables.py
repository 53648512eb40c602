"""Rows told: the table, CSV, the action's JSON, and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from deblurgan.benchmarks import latency
from deblurgan.benchmarks.commands import latency as command
from deblurgan.benchmarks.drawing import to_png
from deblurgan.benchmarks.earlier import is_free_or_drawn
from deblurgan.benchmarks.latency_plots import draw_latency, draw_scaling
from deblurgan.benchmarks.latency_rows import Row, percentiles
from deblurgan.benchmarks.latency_tables import (
    CSV_COLUMNS,
    compare_with_published,
    latency_table,
    remarks,
    to_action,
    to_csv,
)
from deblurgan.benchmarks.peak import Peak
from deblurgan.benchmarks.roofline import draw_roofline
from deblurgan.runtime.errors import DeblurError


def row(name: str = "edge", seconds: float = 0.1, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "name": f"{name} fp32", "model": name, "engine": "openvino", "description": "OpenVINO",
        "precision": "fp32", "device": "cpu", "width": 64, "height": 48, "batch": 1, "threads": 2,
        "stream": False, "verdict": "valid", "multiply_adds": 10**9, "bytes_moved": 10**7,
        "frame": percentiles([[seconds] * 10]), "frames_a_second": 1 / seconds,
        "peak_memory": 64 << 20, "share_of_peak": 0.5,
    }  # fmt: skip
    return Row(**{**values, **changes})


REFUSED = row(
    "bad", verdict="refused", reason="why", frame=None, frames_a_second=None, share_of_peak=None
)
ROWS = [
    row(),
    row(seconds=0.4, width=128, height=96),
    row(seconds=0.18, threads=1),
    row(seconds=0.3, batch=4),
    row("paper", 2.0, engine="pytorch eager", verdict="noisy", reason="its quartiles"),
    REFUSED,
]
PEAKS = [Peak("product", "fp32", "cpu", 2, 50e9, 9, "PyTorch"),
         Peak("copy", "bytes", "cpu", 2, 9e9, 9, "PyTorch")]  # fmt: skip


def test_the_table_has_every_row_and_the_papers() -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(latency_table(ROWS))
    lines = [line for line in text.getvalue().splitlines() if line.strip()]
    assert sum("64x48" in line or "128x96" in line for line in lines) == len(ROWS)
    assert lines[-1].split() == ["DeblurGAN", "published", "?", "1", "850", "1.18", "?", "?"]
    marks = [line.split()[0] for line in lines]
    assert (marks.count("~"), marks.count("x")) == (1, 1)
    said = "\n".join(remarks(ROWS))
    assert "refused: bad fp32: why" in said
    assert "resolution and precision not stated" in said


def test_no_cell_is_cut_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "output", Console(width=40, soft_wrap=True))
    command.show(latency.Latencies(ROWS, PEAKS[:1]), None)
    shown = capsys.readouterr().out
    assert "pytorch eager" in shown
    assert "engine only" in shown


def test_the_comparison_with_the_paper_says_what_it_does_not_know() -> None:
    said = compare_with_published(row())
    for words in ("0.1 s a frame, 2 G operations, 50% of", "does not state", "1,394 G operations"):
        assert words in said


def test_csv_has_all_rows_and_nothing_where_nothing_is() -> None:
    read = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert list(read[0]) == list(CSV_COLUMNS)
    assert len(read) == len(ROWS)
    assert (read[0]["p50_seconds"], read[0]["runs"]) == ("0.1", "10")
    assert (read[-1]["p50_seconds"], read[-1]["verdict"]) == ("", "refused")


def test_the_action_reads_a_list_of_values_without_the_refused() -> None:
    entries = json.loads(to_action(ROWS))
    assert len(entries) == len(ROWS) - 1
    assert all(set(e) == {"name", "unit", "value", "range", "extra"} for e in entries)
    assert (entries[0]["unit"], entries[0]["value"]) == ("ms", 100.0)
    assert entries[0]["range"].startswith("± ")
    assert "noisy" in entries[-1]["extra"]


@pytest.mark.parametrize(
    "draw",
    [lambda: draw_latency(ROWS), lambda: draw_scaling(ROWS), lambda: draw_roofline(ROWS, PEAKS),
     lambda: draw_scaling(ROWS[:1])],
    ids=["latency", "scaling", "roofline", "one"],
)  # fmt: skip
def test_pictures_are_drawn_with_ink(draw: Any) -> None:
    picture = cv2.imdecode(np.frombuffer(to_png(draw()), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.std() > 5


def test_nothing_to_draw_is_told() -> None:
    for draw in (draw_latency, draw_scaling):
        with pytest.raises(DeblurError, match="a row with figures"):
            draw([REFUSED])
    with pytest.raises(DeblurError, match="0 products, 1 copies"):
        draw_roofline(ROWS, PEAKS[1:])


@pytest.mark.parametrize(
    ("name", "made", "other"),
    [
        ("a.csv", to_csv, "name,model\nmine,edge\n"),
        ("a.json", to_action, '[\n  {\n    "name": "mine",\n    "value": 1\n  }\n]\n'),
    ],
)
def test_tables_are_told_from_those_of_others(
    name: str, made: Callable[[list[Row]], str], other: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    for rows in ([], ROWS):
        path.write_text(made(rows))
        assert is_free_or_drawn(path)
    path.write_text(other)
    assert not is_free_or_drawn(path)
