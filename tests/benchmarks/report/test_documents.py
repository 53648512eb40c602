"""Tables of documents are made anew from results, and nothing else of them changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the benchmarks want PyTorch")
pytest.importorskip("skimage", reason="the benchmarks want scikit-image")
pytest.importorskip("jinja2")

from deblurgan.benchmarks.report.documents import TABLES, app, fill
from deblurgan.benchmarks.result_file import write_result
from deblurgan.benchmarks.video import VideoJob, as_figures
from deblurgan.runtime.console import run
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.flicker import TemporalError

MARKED = "before\n\n<!-- table {} -->\nold\n<!-- end -->\n\nafter\n"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, frames, temporal in (
        ("fast", 20, TemporalError(5.2, 5.4, 3, 3, 9)),
        ("slow", 2, None),
    ):
        job = VideoJob(
            "edge-int8", "int8", "OpenVINO", frames, 1, 6, 1, 4, 0.96, 1.002, 2, temporal
        )
        write_result(folder / f"{name}.json", "video", as_figures(job))
    return folder


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(MARKED.format("video slow fast"))
    return path


def test_only_what_is_marked_is_made_anew(document: Path, videos: Path) -> None:
    text = fill(document, videos)
    lines = text.splitlines()
    assert text.startswith("before\n\n<!-- table video slow fast -->\n| result |")
    assert text.endswith("|\n<!-- end -->\n\nafter\n")
    assert [line.split(" | ")[:2] for line in lines if line.startswith(("| slow", "| fast"))] == [
        ["| slow", "0.500"],
        ["| fast", "5.00"],
    ]
    assert "| 5.20 | 5.40 | 1.04× |" in text
    document.write_text(text)
    assert fill(document, videos) == text


def test_the_command_writes_it(document: Path, videos: Path) -> None:
    wanted = fill(document, videos)
    assert run(app, ["--results", str(videos), str(document)]) == 0
    assert document.read_text() == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MARKED.format("speeed fast"), "speeed"),
        (MARKED.format("video missing"), r"missing\.json.*no such file"),
        (MARKED.format("ladder missing"), r"ladder\.json.*no such file"),
        (MARKED.format("speed fast"), r"fast\.json.*of video, not of latency"),
        (MARKED.format("video"), "1 marks, 0 of them whole"),
        ("<!-- table video fast -->\nmine\n" + MARKED.format("video slow"), "2 marks, 1 of them"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    text: str, said: str, document: Path, videos: Path, capsys: Any
) -> None:
    document.write_text(text)
    with pytest.raises(DeblurError, match=said) as error:
        fill(document, videos)
    assert "\n" not in str(error.value)
    whole = document.with_name("whole.md")
    whole.write_text(MARKED.format("video fast"))
    assert run(app, ["--results", str(videos), str(whole), str(document)]) == 2
    assert whole.read_text() == MARKED.format("video fast")
    assert document.read_text() == text


def test_a_document_that_is_not_there_is_told(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match="no such file"):
        fill(tmp_path / "missing.md", videos)


def test_a_ladder_is_read_from_its_folder(document: Path, videos: Path) -> None:
    (videos / "edge").mkdir()
    speed = {"latency": {}, "times_pytorch": 4.09, "times_paper": 132.0}
    quality: list[dict[str, Any]] = [{"folder": "gopro", "psnr_drop": -0.0012}]
    runs = [{"speed": None, "quality": []}, {"speed": speed, "quality": quality}]
    rungs = [{"precision": "int8", "bytes": 1_890_000, "runs": runs}]
    ladder = {"title": "edge", "folders": [{"name": "gopro"}], "rungs": rungs}
    (videos / "edge" / "ladder.json").write_text(json.dumps(ladder))
    document.write_text(MARKED.format("ladder edge"))
    assert "| edge | int8 | 1.9 | 4.09 | +0.001 |" in fill(document, videos)


def test_every_row_has_as_many_cells_as_the_head(results: Path) -> None:
    documents = {
        "speed": "latency-720p", "quality": "pairs photos sharp", "lengths": "photos pairs",
        "detection": "detection", "video": "video",
    }  # fmt: skip
    assert {*documents, "ladder"} == set(TABLES)
    for name, sources in documents.items():
        path = results / f"{name}.md"
        path.write_text(MARKED.format(f"{name} {sources}"))
        lines = [line for line in fill(path, results).splitlines() if line.startswith("|")]
        assert len(lines) > 2
        # What is in a cell may hold a bar of its own; ours do not.
        assert len({line.count(" | ") for line in lines}) == 1, name


def test_what_is_noisy_is_marked(results: Path) -> None:
    path = results / "speed.md"
    path.write_text(MARKED.format("speed latency-720p"))
    assert "| edge-int8 | OpenVINO | 0.0909 ~ |" in fill(path, results)
