"""``deblur-bench report`` in the terminal: a page, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the benchmarks want PyTorch")
pytest.importorskip("skimage", reason="the benchmarks want scikit-image")
pytest.importorskip("jinja2")

from deblurgan.benchmarks.app import app
from deblurgan.benchmarks.result_file import write_result
from deblurgan.benchmarks.video import VideoJob, as_figures
from deblurgan.runtime.console import run


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "video.json"
    write_result(
        path,
        "video",
        as_figures(VideoJob("edge-int8", "int8", "OpenVINO", 9, 1, 6, 1, 4, 0.96, 1, 2, None)),
    )
    return path


def test_a_page_with_a_picture_before_and_after(
    result: Path, negative: Path, tmp_path: Path, capsys: Any
) -> None:
    picture, page = tmp_path / "blurred.png", tmp_path / "report.html"
    cv2.imwrite(str(picture), np.full((40, 60, 3), 40, np.uint8))
    command = ["report", str(result), "-o", str(page), "--picture", str(picture)]
    assert run(app, [*command, "--model", str(negative), "--title", "Mine"]) == 0
    html = page.read_text()
    assert "<title>Mine</title>" in html
    assert "blurred.png, deblurred by negative" in html
    assert "1 result\n" in capsys.readouterr().out
    assert run(app, command) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.json", "-o", "report.html"], "no such file"),
        (["video.json", "-o", "report.pdf"], ".html"),
        (["video.json", "-o", "nowhere/report.html"], "nowhere"),
        (["video.json", "-o", "report.html", "--picture", "missing.png"], "missing.png"),
        (["video.json", "-o", "report.html", "--picture", "video.json"], "video.json"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    said: str,
    result: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(app, ["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [result.name]


@pytest.mark.parametrize("how", ["itself", "link", "in a folder", "picture"])
def test_no_input_is_written_over(
    how: str, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, words = tmp_path / "page.html", [result]
    if how == "itself":
        result = result.rename(page)
        words = [page]
    elif how == "picture":
        page.write_bytes(b"a picture")
        words = [result, "--picture", page]
    else:
        page.symlink_to(result)
        words = [tmp_path] if how == "in a folder" else [result]
    before = page.read_bytes()
    assert run(app, ["report", *map(str, words), "-o", str(page), "-y"]) == 2
    assert "page.html: expected another file than the input" in capsys.readouterr().err
    assert page.read_bytes() == before


def test_a_page_in_the_folder_of_its_results_is_made_anew(result: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run(app, ["report", str(tmp_path), "-o", str(tmp_path / "page.html"), "-y"]) == 0


def test_results_without_a_place_are_named(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, page = tmp_path / "other.json", tmp_path / "page.html"
    write_result(other, "training", {})
    assert run(app, ["report", str(other), "-o", str(page)]) == 2
    assert "found only of training" in capsys.readouterr().err
    assert run(app, ["report", str(tmp_path), "-o", str(page)]) == 0
    assert f"{other}: a result of training has no place on a page" in capsys.readouterr().err
