"""``ladder.html``: the report and its pictures, arranged for the template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deblurgan.export.ladder.report import Crop, LadderReport, Run, Rung, Speed
from deblurgan.export.ladder.scores import AMPLIFIED, CROP_SIDE, Scores, ShownCrop, ShownPair
from deblurgan.export.page import (
    ENGINES,
    Comparison,
    compare,
    draw_bars,
    picture_uri,
    render_page,
)

TEMPLATE = Path(__file__).with_name("ladder.html")


@dataclass(frozen=True)
class Row:
    """A rung on an engine, as the tables have it."""

    precision: str
    engine: str
    run: Run


@dataclass(frozen=True)
class Cell:
    caption: str
    uri: str


@dataclass(frozen=True)
class CropRow:
    crop: Crop
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Slider:
    folder: str
    picture: str
    comparison: Comparison


def draw_page(report: LadderReport, scores: Scores) -> str:
    """The page, self-contained."""
    rows = [Row(rung.precision, ENGINES[run.engine], run) for rung, run in all_runs(report)]
    fastest = min((row for row in rows if row.run.speed is not None), key=p50_of, default=None)
    return render_page(
        TEMPLATE,
        report=report,
        rows=rows,
        fastest=fastest,
        bars=draw_bars(rates(report, rows)),
        slider=draw_slider(scores.shown),
        crops=[draw_crop(shown, report) for shown in scores.crops],
        amplified=AMPLIFIED,
        crop_side=CROP_SIDE,
        compared_engine=ENGINES[report.worst.engine] if report.worst else "",
    )


def all_runs(report: LadderReport) -> Iterator[tuple[Rung, Run]]:
    for rung in report.rungs:
        for run in rung.runs:
            yield rung, run


def speed_of(row: Row) -> Speed:
    assert row.run.speed is not None
    return row.run.speed


def p50_of(row: Row) -> float:
    return speed_of(row).latency.p50


def rates(report: LadderReport, rows: list[Row]) -> list[tuple[str, str, float, bool]]:
    """PyTorch's first."""
    timing = report.timing
    timed = [(row.precision, row.engine, 1 / p50_of(row), True) for row in rows if row.run.speed]
    mine = "the paper’s generator" if timing.is_paper else "this generator"
    timed.insert(0, ("fp32", f"PyTorch, {mine}", 1 / timing.pytorch.p50, False))
    if not timing.is_paper:
        timed.insert(0, ("fp32", "PyTorch, the paper’s generator", 1 / timing.paper.p50, False))
    return timed


def draw_slider(shown: ShownPair | None) -> Slider | None:
    if shown is None:
        return None
    comparison = compare(shown.blurred, shown.deblurred)
    return Slider(shown.folder, shown.picture, comparison)


def draw_crop(shown: ShownCrop, report: LadderReport) -> CropRow:
    assert report.worst is not None
    pictures = {
        "blurred": shown.blurred,
        report.worst.base: shown.base,
        report.worst.compared: shown.compared,
        "sharp": shown.sharp,
        f"difference × {AMPLIFIED}": shown.difference,
    }
    cells = (Cell(caption, picture_uri(pixels, "detail")) for caption, pixels in pictures.items())
    return CropRow(shown.crop, tuple(cells))
