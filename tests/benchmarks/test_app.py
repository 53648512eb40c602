"""``deblur-bench`` as a user calls it."""

from __future__ import annotations

import importlib.util
import json
import shutil
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
    document = json.loads(figures.read_text(), parse_constant=refuse_constant)
    assert (document["figures"]["kind"], document["figures"]["folder"]) == (kind, folder.name)
    (result,) = document["figures"]["models"]
    assert (result["model"], result["precision"]) == ("negative", "fp32")
    assert [row["name"] for row in result["pictures"]] == ["0.png", "1.png"]
    assert [row["length"] for row in result["pictures"]] == lengths
    for figure in ("psnr_before", "psnr_after", "ssim_after", "cw_ssim_after", "gain"):
        mean = sum(row[figure] for row in result["pictures"]) / 2
        assert result["mean"][figure] == pytest.approx(mean)
    assert f"{result['mean']['psnr_after']:.2f}" in out
    assert [row["length"] for row in result["by_length"]] == [n for n in lengths if n]
    # Blur of our own is in no paper's table.
    assert ("GoPro's test set" in out) == (kind == "pairs")
    assert ("no ranking follows" in out) == (kind == "pairs")


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


def test_quality_draws_the_worst_crops_and_the_curve(
    pairs: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    worst, curve = tmp_path / "worst.png", tmp_path / "curve.png"
    words = ["--photos", pairs / "sharp", "--limit", 1, "--all-lengths", "--no-cw-ssim"]
    words += ["--model", negative, "--worst", worst, "--crops", 2, "--curve", curve]
    assert deblur_bench("quality", *words) == 0
    assert "mean of 4" in capsys.readouterr().out
    assert cv2.imread(str(worst)).shape[0] < cv2.imread(str(worst)).shape[1]  # two rows of three
    assert cv2.imread(str(curve)) is not None


def test_models_are_compared_by_their_names(
    pairs: Path, write_negative: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")
    one, other = (write_negative(tmp_path / f"{name}.onnx") for name in ("one", "other"))
    words = ["--pairs", pairs, "--no-cw-ssim", "--json", tmp_path / "figures.json"]
    assert deblur_bench("quality", "--model", one, "--model", other, *words) == 0
    out = capsys.readouterr().out
    first_word = [line.split()[0] for line in out.splitlines() if line.strip()]
    means = first_word[first_word.index("mean") + 1 :]
    assert means[:2] == ["one", "other"]
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    first, second = figures["models"]
    assert (first["model"], second["model"]) == ("one", "other")
    assert first["pictures"] == second["pictures"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--worst", "worst.jpg"], "expected a name that ends in .png"),
        (["--curve", "missing/curve.png"], "expected a folder to write in"),
        (["--curve", "curve.png"], "--curve: expected pictures whose blur has a known length"),
    ],
)
def test_pictures_that_cannot_be_drawn_are_told_before_the_work(
    words: list[str], complaint: str, pairs: Path, negative: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")
    target = tmp_path / words[1]
    assert deblur_bench("quality", "--pairs", pairs, "--model", negative, words[0], target) == 2
    assert complaint in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--all-lengths"], "--all-lengths: expected --photos, which are blurred for it"),
        (["--json", "."], "expected the name of a file, found a folder"),
        (["--json", "model"], "expected a new name, or that of an earlier result, found a file"),
        (["--worst", "a.png", "--curve", "a.png"], "expected a name of its own for each output"),
        (["--crops", "3"], "--crops: expected a picture to draw them to"),
    ],
)
def test_what_cannot_be_measured_or_written_is_told_before_the_work(
    words: list[str], complaint: str, pairs: Path, negative: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    Path("model").write_bytes(negative.read_bytes())
    monkeypatch.setattr("deblurgan.benchmarks.pictures.find_source", None)
    assert deblur_bench("quality", "--pairs", pairs, "--model", negative, *words) == 2
    assert complaint in capsys.readouterr().err


def test_what_is_measured_is_not_drawn_over(
    pairs: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    photo, link = pairs / "sharp" / "0.png", tmp_path / "linked" / "0.png"
    link.parent.mkdir()
    link.symlink_to(photo)
    before = photo.read_bytes()
    for folder, target in ((photo.parent, photo), (link.parent, link), (link.parent, photo)):
        words = ["quality", "--photos", folder, "--model", negative, "--worst", target]
        assert deblur_bench(*words) == 2
        assert "expected another name than those of the pictures" in capsys.readouterr().err
    assert photo.read_bytes() == before
    assert link.is_symlink()


def test_what_was_drawn_beside_the_pictures_is_drawn_anew(
    pairs: Path, negative: Path, tmp_path: Path
) -> None:
    pytest.importorskip("skimage")
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    words = ["--no-cw-ssim", "--model", negative, "--worst", folder / "worst.png"]
    for _ in range(2):
        assert deblur_bench("quality", "--pairs", folder, *words) == 0


def test_an_earlier_result_is_replaced(pairs: Path, negative: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    path = tmp_path / "figures"
    words = ["quality", "--pairs", pairs, "--no-cw-ssim", "--model", negative, "--json", path]
    assert deblur_bench(*words) == deblur_bench(*words) == 0


@pytest.mark.parametrize("option", ["--worst", "--curve", "--json"])
def test_what_is_somebody_elses_stays(
    option: str, pairs: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    target = tmp_path / ("mine.json" if option == "--json" else "holiday.png")
    target.write_bytes(b'{"mine": 1}')
    words = ["--photos", pairs / "sharp", "--model", negative, option, target]
    assert deblur_bench("quality", *words) == 2
    assert f"{target}: expected a new name, or that of" in capsys.readouterr().err
    assert target.read_bytes() == b'{"mine": 1}'


@pytest.mark.parametrize("option", ["--json", "--worst"])
def test_a_folder_without_permission_is_told_before_the_work(
    option: str, pairs: Path, negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")
    monkeypatch.setattr("deblurgan.runtime.whole_file.os.access", lambda path, mode: False)
    monkeypatch.setattr(quality_command, "open_models", None)
    words = ["--pairs", pairs, "--model", negative, option, tmp_path / "a.png"]
    assert deblur_bench("quality", *words) == 2
    err = capsys.readouterr().err
    assert "a.png: expected a folder to write in, found no permission" in err
    assert f"choose another folder than {tmp_path}\n" in err


def test_gamma_is_of_gopro_alone(
    pairs: Path, negative: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    for kind, folder in (("photos", pairs / "sharp"), ("pairs", pairs)):
        assert deblur_bench("quality", f"--{kind}", folder, "--model", negative, "--gamma") == 2
        assert "--gamma: expected GOPRO_Large" in capsys.readouterr().err


def test_figures_that_cannot_be_written_are_shown(
    pairs: Path, negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")

    def no_room(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deblurgan.runtime.whole_file.os.fsync", no_room)
    words = ["--no-cw-ssim", "--model", negative, "--json", tmp_path / "a.json"]
    assert deblur_bench("quality", "--pairs", pairs, *words) == 2
    out, err = capsys.readouterr()
    assert "no space left" in err
    assert "mean of 2" in out


def test_a_name_in_brackets_is_shown_whole(
    pairs: Path, write_negative: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")
    names = ("mine[v1]", "mine[v2]")
    paths = [write_negative(tmp_path / f"{name}.onnx") for name in names]
    models = [word for path in paths for word in ("--model", path)]
    assert deblur_bench("quality", "--pairs", pairs, "--no-cw-ssim", *models) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)


def test_detection_counts_and_draws_what_a_detector_finds(
    blue_detector: Callable[..., Path], blue_cells: Callable[..., NDArray[np.uint8]],
    negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")
    # The blurred picture has lost one of two, and its negative is all blue but for the other.
    for kind, cells in (("blur", [(1, 1)]), ("sharp", [(1, 1), (5, 6)])):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "a.png"), blue_cells(*cells)[:, :, ::-1])
    detector = blue_detector(tmp_path / "blue.onnx")
    words = ["--pairs", tmp_path, "--detector", detector, "--model", negative]
    words += ["--json", tmp_path / "figures.json", "--pictures", tmp_path / "boxes"]
    assert deblur_bench("detection", *words) == 0
    out = capsys.readouterr().out
    assert "2 references in 1 pictures" in out
    assert "negative: F1 over the blurred pictures' is of too few pictures" in out
    document = json.loads((tmp_path / "figures.json").read_text(), parse_constant=refuse_constant)
    figures = document["figures"]
    assert (document["kind"], figures["references"]) == ("detection", 2)
    counts = {"right": 1, "wrong": 0, "missed": 1}
    assert figures["totals"] == {
        "blurred": {**counts, "precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3)},
        "negative": {
            **counts, "wrong": 62, "precision": 1 / 63, "recall": 0.5, "f1": pytest.approx(2 / 65),
        },
        "sharp": {"right": 2, "wrong": 0, "missed": 0, "precision": 1, "recall": 1, "f1": 1},
    }  # fmt: skip
    assert figures["by_class"]["blurred"] == {"class 1": counts}
    assert figures["pictures"][0]["counts"]["blurred"] == counts
    assert (figures["detector"]["input"], figures["detector"]["score"]) == ([64, 64], 0.3)
    assert figures["by_score"][0]["score"] == 0.1
    assert figures["by_score"][0]["totals"]["sharp"]["right"] == 2
    assert [path.name for path in (tmp_path / "boxes").iterdir()] == ["0001-a.png"]
    assert deblur_bench("detection", *words) == 0
    (tmp_path / "boxes" / "0001-a.png").write_bytes(b"a photograph")
    assert deblur_bench("detection", *words) == 2
    assert (tmp_path / "boxes" / "0001-a.png").read_bytes() == b"a photograph"


def test_detection_of_photos_says_where_there_is_nothing_to_find(
    blue_detector: Callable[..., Path], negative: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("skimage")
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((64, 64, 3), np.uint8))
    words = ["--photos", tmp_path / "photos", "--model", negative, "--json", tmp_path / "f.json"]
    assert deblur_bench("detection", "--detector", blue_detector(tmp_path / "b.onnx"), *words) == 2
    err = capsys.readouterr().err
    assert "found nothing in 1 of them" in err
    assert not (tmp_path / "f.json").exists()
    assert deblur_bench("detection", "--detector", negative, *words) == 2
    assert "YOLOX's layout" in capsys.readouterr().err
    assert deblur_bench("detection", "--detector", negative, "--model", negative) == 2
    assert "expected one of --pairs and --photos, found 0" in capsys.readouterr().err


def test_detection_wants_onnx_runtime(
    negative: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name)
    )
    assert deblur_bench("detection", "--detector", negative, "--pairs", "pairs") == 2
    assert 'no onnxruntime; pip install ".[cpu]"' in capsys.readouterr().err


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
    figures = json.loads((tmp_path / "speed.json").read_text())["figures"]
    assert figures.pop("engine") in out
    assert figures == {
        "model": "negative", "precision": "fp32",
        "engine_seconds": 0.25, "paper_seconds": 3.0, "ratio": 12.0,
    }  # fmt: skip


def test_video_tells_the_parts_and_the_whole(
    make_clip: Callable[..., Path], negative: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    clip, figures = make_clip(tmp_path / "in.mp4"), tmp_path / "video.json"
    words = ["--frames", "4", "--model", negative, "--json", figures]
    assert deblur_bench("video", clip, *words) == 0
    assert capsys.readouterr().out.startswith("4 frames in ")
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
