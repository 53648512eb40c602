"""``deblur-bench`` as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from deblurgan.benchmarks import app as bench
from deblurgan.benchmarks import speed
from deblurgan.benchmarks.commands import quality as quality_command
from deblurgan.runtime import console


def deblur_bench(*words: object) -> int:
    return console.run(bench.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def pairs(photo: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs; the sharp pictures alone serve as photographs."""
    folder = tmp_path_factory.mktemp("pairs")
    for kind, picture in (("blur", cv2.blur(photo, (5, 5))), ("sharp", photo)):
        (folder / kind).mkdir()
        for index in range(2):
            path = folder / kind / f"{index}.png"
            cv2.imwrite(str(path), np.roll(picture, 20 * index, 1)[:, :, ::-1])
    return folder


def refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


@pytest.mark.parametrize("count", [0, 2, 3])
def test_quality_wants_exactly_one_folder(
    count: int, pairs: Path, negative: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    words = ["--pairs", pairs, "--photos", pairs / "sharp", "--sharp", pairs / "sharp"]
    # Something is given even where no folder is, or the help would be shown.
    assert deblur_bench("quality", "--model", negative, *words[: 2 * count]) == 2
    err = capsys.readouterr().err
    assert f"expected one of --pairs, --photos and --sharp, found {count};" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("kind", "lengths"), [("pairs", [None, None]), ("photos", [8.0, 16.0])])
def test_quality_prints_a_table_and_writes_its_figures(
    kind: str,
    lengths: list[float | None],
    pairs: Path,
    negative: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr(
        quality_command, "output", Console(width=200)
    )  # in 80 columns, cells are wrapped
    folder, figures = pairs if kind == "pairs" else pairs / "sharp", tmp_path / "figures.json"
    words = ["--model", negative, "--json", figures]
    assert deblur_bench("quality", f"--{kind}", folder, *words) == 0
    out = capsys.readouterr().out
    for word in ("PSNR", "SSIM", "0.png", "1.png", "mean of 2"):
        assert word in out
    result = json.loads(figures.read_text(), parse_constant=refuse_constant)["figures"]
    assert [row["name"] for row in result["pictures"]] == ["0.png", "1.png"]
    assert [row["length"] for row in result["pictures"]] == lengths
    for figure in ("psnr_before", "psnr_after", "ssim_before", "ssim_after"):
        mean = sum(row[figure] for row in result["pictures"]) / 2
        assert result["mean"][figure] == pytest.approx(mean)
    assert f"{result['mean']['psnr_after']:.2f}" in out


def test_the_figures_of_sharp_photos_are_json_too(
    pairs: Path, negative: Path, tmp_path: Path
) -> None:
    pytest.importorskip("skimage")
    words = ["--model", negative, "--json", tmp_path / "figures.json"]
    assert deblur_bench("quality", "--sharp", pairs / "sharp", *words) == 0
    json.loads((tmp_path / "figures.json").read_text(), parse_constant=refuse_constant)


def test_a_folder_without_pictures_and_a_model_that_is_none_are_told(
    pairs: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    assert deblur_bench("quality", "--photos", tmp_path, "--model", negative) == 2
    assert deblur_bench("quality", "--photos", pairs / "sharp", "--model", "missing.onnx") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("size", ["64x", "64", "x64", "64x64x3", "axb", "8x64", "64x-64", "0x0"])
def test_a_size_that_is_none_is_told(
    size: str, negative: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deblur_bench("speed", "--size", size, "--model", negative) == 2
    err = capsys.readouterr().err
    assert size in err
    assert err.count("\n") == 1


def test_speed_says_how_many_times_as_fast_the_engine_is(
    negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def compare(backend: Any, width: int, height: int) -> speed.Speed:
        assert (width, height) == (64, 48)
        return speed.Speed(0.25, 3.0, 12.0)

    monkeypatch.setattr(speed, "compare_with_paper", compare)
    words = ["--size", "64x48", "--model", negative, "--json", tmp_path / "speed.json"]
    assert deblur_bench("speed", *words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "64x48: negative on" in out
    assert "12.0 times as fast" in out
    figures = {"engine_seconds": 0.25, "paper_seconds": 3.0, "ratio": 12.0}
    assert json.loads((tmp_path / "speed.json").read_text())["figures"] == figures


def test_video_tells_the_parts_and_the_whole(
    make_clip: Callable[..., Path], negative: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    clip, figures = make_clip(tmp_path / "in.mp4"), tmp_path / "video.json"
    words = ["--frames", "4", "--model", negative, "--json", figures]
    assert deblur_bench("video", clip, *words) == 0
    assert capsys.readouterr().out.startswith("4 frames: decode")
    result = json.loads(figures.read_text())["figures"]
    parts = result["decode"] + result["engine"] + result["encode"]
    assert result["ratio"] == pytest.approx(result["wall"] * result["cores"] / parts)


def test_a_clip_that_is_none_is_told(
    negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for name in ("missing.mp4", "broken.mp4"):
        assert deblur_bench("video", tmp_path / name, "--model", negative) == 2
        assert f"{name}: expected a video" in capsys.readouterr().err
    assert deblur_bench("video", tmp_path / "missing.mp4", "--frames", "0") == 2


def test_a_json_file_that_cannot_be_written_is_told(
    pairs: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    words = ["--model", negative, "--json", tmp_path / "missing" / "figures.json"]
    assert deblur_bench("quality", "--photos", pairs / "sharp", *words) == 2
    assert "figures.json" in capsys.readouterr().err
