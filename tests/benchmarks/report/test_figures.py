"""Results come back as they were written, and damaged ones are one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.report.figures import FIGURES, all_rows, read_all
from deblurgan.benchmarks.report.page import draw_page
from deblurgan.benchmarks.result_file import LARGEST
from deblurgan.runtime.errors import DeblurError


def test_a_folder_is_read_by_kinds(results: Path) -> None:
    readings = read_all([results])
    assert [read.name for read in readings.quality] == ["pairs", "photos", "sharp"]
    assert {read.result.kind for read in readings.shown} == set(FIGURES)
    assert [result.kind for result in readings.others] == ["training"]
    rows = all_rows(readings.latency)
    written = json.loads((results / "latency-720p.json").read_text())["figures"]["rows"]
    assert all(isinstance(row, Row) for row in rows)
    assert [row.frame and row.frame.p50 for row in rows] == [
        row["frame"] and row["frame"]["p50"] for row in written
    ]
    assert readings.video[0].figures.temporal is not None
    assert readings.video[0].figures.temporal.output == 5.5


def test_what_is_infinite_comes_back_so(results: Path) -> None:
    (read,) = read_all([results / "sharp.json"]).quality
    assert read.figures.models[0].mean.psnr_before == math.inf
    assert read.figures.models[0].mean.gain is None


def test_unknown_keys_may_come(results: Path) -> None:
    file = results / "latency-720p.json"
    content = json.loads(file.read_text())
    content["new"] = content["figures"]["new"] = content["figures"]["rows"][0]["new"] = 1
    file.write_text(json.dumps(content))
    assert len(read_all([file]).latency) == 1


@pytest.mark.parametrize("name", ["latency-720p", "pairs", "detection", "video", "gate"])
def test_every_piece_that_is_missing_or_wrong_is_told_or_read(name: str, results: Path) -> None:
    file = results / f"{name}.json"
    whole = file.read_text()

    def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else ()
        inner = enumerate(value[:2]) if isinstance(value, list) else inner
        return [p for key, item in inner for p in ((*at, key), *places(item, (*at, key)))]

    said = []
    for place in places(json.loads(whole)):
        for wrong in (None, [], "nonsense", {"a": 1}):
            content = json.loads(whole)
            target = content
            for key in place[:-1]:
                target = target[key]
            if place == ("kind",) and isinstance(wrong, str):
                continue  # of a kind that is not shown
            target[place[-1]] = wrong
            file.write_text(json.dumps(content))
            try:
                readings = read_all([file])
                if name not in ("latency-720p", "pairs"):  # whose plots take their time
                    draw_page(readings, "a page")
            except DeblurError as error:
                said.append(str(error))
    assert len(said) > 40
    assert all(file.name in line and "\n" not in line for line in said)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"schema": 2}', b"[" * 100_000])
def test_a_file_that_is_no_result_is_one_line(content: bytes, results: Path) -> None:
    file = results / "broken.json"
    file.write_bytes(content)
    with pytest.raises(DeblurError, match=r"broken\.json: expected a result") as error:
        read_all([file])
    assert "\n" not in str(error.value)
    said: list[str] = []
    assert len(read_all([results], said.append).shown) == 7
    assert len(said) == 1
    assert "broken.json" in said[0]


def test_what_is_not_there_or_too_large_is_told(results: Path, tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match="no such file"):
        read_all([tmp_path / "missing.json"])
    with (results / "large.json").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(DeblurError, match="of another kind"):
        read_all([results / "large.json"])


def test_nothing_to_show_is_told(results: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", results / "training.json"):
        with pytest.raises(DeblurError, match="--json"):
            read_all([path])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda figures: figures["rows"][0]["frame"].update(p50=0), "took no time"),
        (lambda figures: figures["rows"][0]["frame"].update(p50=float("nan")), "NaN"),
    ],
)
def test_a_time_that_is_none_is_told(change: Any, said: str, results: Path) -> None:
    file = results / "latency-720p.json"
    content = json.loads(file.read_text())
    change(content["figures"])
    file.write_text(json.dumps(content))
    with pytest.raises(DeblurError, match=said):
        read_all([file])


def test_pictures_at_all_lengths_count_once(results: Path) -> None:
    file = results / "photos.json"
    content = json.loads(file.read_text())
    assert read_all([file]).quality[0].figures.title.endswith("with eval-v1, 2 pictures")
    content["figures"]["all_lengths"] = True
    file.write_text(json.dumps(content))
    assert read_all([file]).quality[0].figures.title.endswith("with eval-v1, 1 picture")
    for model in content["figures"]["models"]:  # as the option alone was once written down
        model["by_length"] = []
    file.write_text(json.dumps(content))
    assert read_all([file]).quality[0].figures.title.endswith("with eval-v1, 2 pictures")


@pytest.mark.parametrize(
    ("name", "place", "wrong"),
    [
        ("latency-720p", ("rows", 0, "frame", "p50"), "1e999"),
        ("latency-720p", ("peaks", 0, "rate"), "0.0"),
        ("photos", ("models", 0, "by_length", 0, "gain_error"), "-0.1"),
    ],
)
def test_numbers_that_cannot_be_drawn_are_told(
    name: str, place: tuple[Any, ...], wrong: str, results: Path
) -> None:
    file = results / f"{name}.json"
    content = json.loads(file.read_text())
    target = content["figures"]
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = "WRONG"
    file.write_text(json.dumps(content).replace('"WRONG"', wrong))
    with pytest.raises(DeblurError, match=name):
        read_all([file])
