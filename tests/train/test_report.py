"""What ``deblur-train evaluate`` measures, and what it leaves."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from deblurgan.runtime import whole_file
from deblurgan.runtime.errors import DeblurError
from deblurgan.train import report as module
from deblurgan.train.checkpoint import save_checkpoint, weights_sha256
from deblurgan.train.evaluation import Report, Score, evaluate, evaluation_pairs
from deblurgan.train.layouts import find_source
from deblurgan.train.networks import EdgeGenerator
from deblurgan.train.report import evaluate_checkpoint, report_table, write_report


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_edge: EdgeGenerator) -> Path:
    path = tmp_path / "edge.safetensors"
    with torch.no_grad():  # an untrained one gives back what it gets
        for parameter in tiny_edge.parameters():
            parameter.add_(0.01)
    save_checkpoint(path, tiny_edge, {})
    return path


def refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=refuse_constant)


def test_a_checkpoint_is_measured_and_the_files_say_what_was(
    checkpoint: Path, tiny_edge: EdgeGenerator, photos: Path, tmp_path: Path
) -> None:
    out, steps = tmp_path / "runs" / "figures", []
    report = evaluate_checkpoint(
        checkpoint,
        str(photos),
        out,
        sizes=("full", "half"),
        limit=3,
        worst=2,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(n, 6) for n in range(1, 7)]
    pairs = list(evaluation_pairs(find_source(str(photos), "test"), limit=3))
    expected = evaluate(tiny_edge.eval(), pairs, sizes=("full", "half"))
    assert report.scores == expected.scores
    assert sorted(path.name for path in out.iterdir()) == [
        "full.json", "half.json", "scores.csv", "worst.png",
    ]  # fmt: skip
    for size in ("full", "half"):
        document = read_json(out / f"{size}.json")
        assert document["weights_sha256"] == weights_sha256(tiny_edge)
        assert (document["data"], document["blur"]) == (str(photos), "eval-v1")
        assert document["mean"]["psnr_after"] == report.mean(size).psnr_after  # type: ignore[arg-type]
        assert [row["name"] for row in document["pictures"]] == ["00.png", "03.png", "06.png"]
    rows = list(csv.DictReader((out / "scores.csv").open(newline="")))
    assert [(row["name"], row["size"]) for row in rows[:2]] == [
        ("00.png", "full"),
        ("00.png", "half"),
    ]
    for row, score in zip(rows, report.scores, strict=True):
        assert float(row["cw_ssim_after"]) == score.cw_ssim_after
        assert float(row["gain"]) == score.gain
    assert cv2.imread(str(out / "worst.png")).shape[0] > 2 * 96


def test_files_of_an_earlier_call_do_not_stay_beside_the_new_ones(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    evaluate_checkpoint(checkpoint, str(photos), tmp_path, sizes=("full", "half"), limit=1)
    assert (tmp_path / "worst.png").exists()
    checkpoint = checkpoint.rename(tmp_path / checkpoint.name)
    evaluate_checkpoint(checkpoint, str(photos), tmp_path, limit=1, worst=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        checkpoint.name, "full.json", "scores.csv",
    }  # fmt: skip


def test_pictures_that_were_trained_on_are_said(
    tiny_edge: EdgeGenerator, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [path.name for path in sorted(photos.iterdir())]
    for data, said in ((names[1:3], True), (["other.png"], False), ("2 pictures", False)):
        save_checkpoint(tmp_path / "best.safetensors", tiny_edge, {"data": data})
        evaluate_checkpoint(tmp_path / "best.safetensors", str(photos), limit=1)
        told = " ".join(capsys.readouterr().err.split())
        line = f"trained on pictures of 2 of these {len(names)} names: if they are the same"
        assert (line in told) == said


def test_pairs_are_measured_as_they_are_and_nothing_is_written_unasked(
    checkpoint: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    report = evaluate_checkpoint(checkpoint, str(pairs), limit=2)
    assert [score.length for score in report.scores] == [None, None]
    assert sorted(tmp_path.rglob("*")) == before


def test_the_means_go_into_a_model_file(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    """``deblur-export onnx --quality`` reads them."""
    export = pytest.importorskip("deblurgan.export.commands.onnx")
    report = evaluate_checkpoint(checkpoint, str(photos), tmp_path / "out", limit=1)
    mean = export.read_mean(tmp_path / "out" / "full.json", "fp32")
    assert mean["psnr_after"] == pytest.approx(report.mean().psnr_after, abs=1e-4)


def test_a_picture_too_small_is_told_before_any_is_deblurred(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "evaluate", None)
    (tmp_path / "photos").mkdir()
    for name, side in (("a.png", 64), ("b.png", 20)):
        cv2.imwrite(str(tmp_path / "photos" / name), np.zeros((side, 64, 3), np.uint8))
    with pytest.raises(DeblurError, match=r"b\.png: expected at least 33x33"):
        evaluate_checkpoint(checkpoint, str(tmp_path / "photos"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_half_size_wants_pictures_twice_as_large(checkpoint: Path, tmp_path: Path) -> None:
    for kind in ("blur", "sharp"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        picture = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "data" / kind / "a.png"), picture)
    data = str(tmp_path / "data")
    assert len(evaluate_checkpoint(checkpoint, data).scores) == 1
    with pytest.raises(DeblurError, match=r"at least 32x32 pixels, found 24x24"):
        evaluate_checkpoint(checkpoint, data, sizes=("full", "half"))


def test_bad_input_is_told_and_leaves_no_folder(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for given in (
        (tmp_path / "missing.safetensors", str(photos), tmp_path / "out"),
        (checkpoint, str(tmp_path / "empty"), tmp_path / "out"),
        (checkpoint, str(tmp_path / "missing"), tmp_path / "out"),
        (checkpoint, str(photos), tmp_path / "file"),
        (checkpoint, str(photos), tmp_path / "file" / "out"),
    ):
        with pytest.raises(DeblurError):
            evaluate_checkpoint(*given)
    assert not (tmp_path / "out").exists()


def score(name: str, size: Any = "full", after: float = 25.0, cw: float | None = 0.9) -> Score:
    return Score(name, size, 8.0, 20.0, after, 0.5, 0.75, cw, cw)


def test_infinite_figures_are_null_in_json(tmp_path: Path) -> None:
    report = Report((score("a", after=math.inf), score("b")))
    write_report(report, tmp_path, {})
    document = read_json(tmp_path / "full.json")
    assert [row["psnr_after"] for row in document["pictures"]] == [None, 25.0]
    assert document["mean"]["psnr_after"] is None
    assert document["mean"]["psnr_before"] == 20.0
    assert "inf" in (tmp_path / "scores.csv").read_text()


def test_a_full_disk_leaves_the_earlier_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(Report((score("first"),)), tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def no_room(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", no_room)
    with pytest.raises(DeblurError, match="no space left"):
        write_report(Report((score("second"),)), tmp_path, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_gamma_is_of_gopro_alone(checkpoint: Path, photos: Path) -> None:
    with pytest.raises(DeblurError, match="expected GOPRO_Large, which has a blur_gamma"):
        evaluate_checkpoint(checkpoint, str(photos), limit=1, gamma=True)


def test_files_of_others_are_not_replaced(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("worst.png", "full.json"):
        (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(DeblurError, match=r"found another's full.json, worst.png"):
        evaluate_checkpoint(checkpoint, str(photos), tmp_path, limit=1)
    assert (tmp_path / "worst.png").read_text() == '{"mine": 1}'


def test_figures_are_heard_before_they_are_written(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(number: int) -> None:
        raise OSError(28, "No space left on device")

    heard: list[Report] = []
    monkeypatch.setattr(whole_file.os, "fsync", no_room)
    with pytest.raises(DeblurError, match="no space left"):
        evaluate_checkpoint(checkpoint, str(photos), tmp_path, limit=1, hear=heard.append)
    assert len(heard) == 1


def test_names_that_are_no_utf8_are_written(tmp_path: Path) -> None:
    write_report(Report((score("caf\udce9.png"),)), tmp_path, {})
    assert "caf?.png" in (tmp_path / "scores.csv").read_text()


def test_names_are_shown_as_they_are() -> None:
    assert "a [bold]x.png" in drawn(Report((score("a [bold]x.png"),)))


def drawn(report: Report) -> str:
    text = io.StringIO()
    Console(width=160, file=text).print(report_table(report))
    return text.getvalue()


def test_the_table_has_every_picture_and_the_means() -> None:
    text = drawn(Report((score("a"), score("a", "half"), score("b", after=18.5, cw=None))))
    lines = [line.split() for line in text.splitlines()]
    assert [word for word in ("a", "b") if any(word in line for line in lines)] == ["a", "b"]
    assert "+5.00" in text
    assert "-1.50" in text
    assert text.count("mean of") == 2


def test_a_long_table_has_the_means_alone() -> None:
    many = Report(tuple(score(f"picture{n}") for n in range(module.LISTED + 1)))
    text = drawn(many)
    assert "picture" not in text.replace("picture ", "")
    assert f"mean of {module.LISTED + 1}" in text
