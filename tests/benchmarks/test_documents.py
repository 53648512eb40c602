"""Tables of documents are made anew from results, and nothing else of them changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the benchmarks want PyTorch")
pytest.importorskip("skimage", reason="the benchmarks want scikit-image")
pytest.importorskip("jinja2")

from deblurgan.benchmarks.documents import TABLES, app, fill, markdown
from deblurgan.benchmarks.result_file import write_result
from deblurgan.benchmarks.video import VideoJob, as_figures
from deblurgan.runtime.console import run
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.flicker import TemporalError

MARKED = "before\n\n<!-- table {} -->\nold\n<!-- end -->\n\nafter\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    for name, frames, temporal in (
        ("fast", 20, TemporalError(5.2, 5.4, 3, 3, 9)),
        ("slow", 2, None),
    ):
        job = VideoJob(frames, 1, 6, 1, 4, 0.96, 1.002, 2, temporal)
        write_result(folder / f"{name}.json", "video", as_figures(job))
    return folder


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(MARKED.format("video slow fast"))
    return path


def test_only_what_is_marked_is_made_anew(document: Path, results: Path) -> None:
    text = fill(document, results)
    lines = text.splitlines()
    assert text.startswith("before\n\n<!-- table video slow fast -->\n| result |")
    assert text.endswith("|\n<!-- end -->\n\nafter\n")
    assert [line.split(" | ")[:2] for line in lines if line.startswith(("| slow", "| fast"))] == [
        ["| slow", "0.500"],
        ["| fast", "5.00"],
    ]
    assert "| 5.20 | 5.40 | 1.04× |" in text
    document.write_text(text)
    assert fill(document, results) == text


def test_the_command_writes_it(document: Path, results: Path) -> None:
    wanted = fill(document, results)
    assert run(app, ["--results", str(results), str(document)]) == 0
    assert document.read_text() == wanted


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("speeed fast", "speeed"),
        ("video missing", r"missing\.json.*no such file"),
        ("ladder missing", r"ladder\.json.*no such file"),
    ],
)
def test_what_is_wrong_is_one_line(mark: str, said: str, document: Path, results: Path) -> None:
    document.write_text(MARKED.format(mark))
    with pytest.raises(DeblurError, match=said) as error:
        fill(document, results)
    assert "\n" not in str(error.value)


def test_a_ladder_is_read_from_its_folder(document: Path, results: Path) -> None:
    (results / "edge").mkdir()
    speed = {"latency": {}, "times_pytorch": 4.09, "times_paper": 132.0}
    quality: list[dict[str, Any]] = [{"folder": "gopro", "psnr_drop": -0.0012}]
    runs = [{"speed": None, "quality": []}, {"speed": speed, "quality": quality}]
    rungs = [{"precision": "int8", "bytes": 1_890_000, "runs": runs}]
    ladder = {"title": "edge", "folders": [{"name": "gopro"}], "rungs": rungs}
    (results / "edge" / "ladder.json").write_text(json.dumps(ladder))
    document.write_text(MARKED.format("ladder edge"))
    assert "| edge | int8 | 1.9 | 4.09 | +0.001 |" in fill(document, results)


def test_every_row_has_as_many_cells_as_the_head() -> None:
    assert markdown(iter([("a", "b"), ("1", "2")])) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert {"speed", "quality", "lengths", "detection", "video", "ladder"} == set(TABLES)
