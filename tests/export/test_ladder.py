"""The ladder: built, measured and written as a whole, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from deblurgan.export import ladder
from deblurgan.export.ladder import Measuring, climb
from deblurgan.export.ladder.folders import to_frame
from deblurgan.export.ladder.report import LadderReport
from deblurgan.export.search import QuantisationRequest
from deblurgan.runtime import DeblurError
from deblurgan.runtime.console import Interrupted
from deblurgan.runtime.contract import Frames, open_model
from deblurgan.train.checkpoint import Checkpoint
from deblurgan.train.evaluation import EVAL_V1, evaluation_pairs, restore
from deblurgan.train.layouts import find_source
from deblurgan.train.metrics import psnr, ssim

TINY = Measuring(size=(48, 32), seconds=0.01, rounds=2, pictures=3, with_pytorch=2, crops=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sharp photographs of different sizes, each high enough for eval-v1's kernels."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    y, x = np.mgrid[:96, :128]
    for index, width in enumerate((128, 96)):
        sharp = np.stack([(x * 3 + y) % 256, (x * y // 9) % 256, 255 - x], -1)[:, :width]
        cv2.imwrite(str(folder / f"{index}.png"), sharp.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def climbed(
    edge: Checkpoint, pairs: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LadderReport, Path, list[str]]:
    """A report of fp32 and int8 on two folders, its folder, and what was told."""
    folder, told = tmp_path_factory.mktemp("ladder") / "new" / "report", list[str]()
    report = climb(
        edge, [pairs, f"sharp:{photos}"], None, folder, title="A <tiny> edge",
        note="hardly trained", licence="CC0-1.0", precisions=("fp32", "int8"), method="min-max",
        show=pairs, measuring=TINY, tell=told.append,
    )  # fmt: skip
    return report, folder, told


def test_the_folder_holds_what_the_report_names(
    climbed: tuple[LadderReport, Path, list[str]],
) -> None:
    report, folder, told = climbed
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["ladder.json", "ladder.html", *(rung.file for rung in report.rungs)]
    )
    assert [rung.precision for rung in report.rungs] == ["fp32", "int8"]
    for rung in report.rungs:
        content = (folder / rung.file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (rung.bytes, rung.sha256)
        card = open_model(folder / rung.file).card
        assert (card.precision, card.licence) == (rung.precision, "CC0-1.0")
        assert card.quantisation == rung.quantisation
    assert any("int8" in line for line in told)
    page = (folder / "ladder.html").read_text()
    assert "A &lt;tiny&gt; edge" in page
    assert "hardly trained" in page
    assert str(folder.parent) not in page + (folder / "ladder.json").read_text()


def test_the_json_is_the_report_again(climbed: tuple[LadderReport, Path, list[str]]) -> None:
    report, folder, _ = climbed
    values = json.loads((folder / "ladder.json").read_text())
    assert values == json.loads(report.to_json())
    assert values.keys() == {field.name for field in dataclasses.fields(report)}
    assert values["schema"] == "deblurgan-ladder-1"
    assert values["timing"]["width"] == 48
    assert values["machine"]["cores"] >= 1


def test_figures_are_those_of_the_files(
    climbed: tuple[LadderReport, Path, list[str]],
    edge: Checkpoint,
    pairs: Path,
    run_file: Callable[[Path, Frames], Frames],
) -> None:
    """Reckoned again, with ONNX Runtime by itself and PyTorch by the trainer's way."""
    report, folder, _ = climbed
    taken = list(evaluation_pairs(find_source(str(pairs), "test"), limit=3))
    first = report.folders[0]
    assert (first.name, first.pictures, first.of, first.compared) == ("pairs", 3, 10, 2)
    assert report.folders[0].psnr == pytest.approx(
        np.mean([psnr(p.blurred, p.sharp) for p in taken])
    )
    for rung, near in zip(report.rungs, (1e-4, 0.02), strict=True):
        made = [
            torch.from_numpy(run_file(folder / rung.file, to_frame(p.blurred))[0]).permute(2, 0, 1)
            for p in taken
        ]
        run = next(run for run in rung.runs if run.engine == "onnxruntime")
        quality = run.quality[0]
        expected = np.mean([psnr(m, p.sharp) for m, p in zip(made, taken, strict=True)])
        assert quality.psnr == pytest.approx(expected, abs=near)
        expected = np.mean([ssim(m, p.sharp) for m, p in zip(made, taken, strict=True)])
        assert quality.ssim == pytest.approx(expected, abs=near)
        base = report.rungs[0].runs[0].quality[0]
        assert quality.psnr_drop == pytest.approx(base.psnr - quality.psnr)
        largest = max(
            int((m.int() - restore(edge.generator, p.blurred).int()).abs().max())
            for m, p in [*zip(made, taken, strict=True)][:2]
        )
        assert abs(run.fidelity.largest - largest) <= 1
        assert run.fidelity.pictures == 4  # two of each folder


def test_photographs_are_blurred_and_only_the_shown_pictures_are_in_the_page(
    climbed: tuple[LadderReport, Path, list[str]],
) -> None:
    report, folder, _ = climbed
    assert [f.blur for f in report.folders] == [None, EVAL_V1.name]
    assert report.worst is not None
    assert (report.worst.base, report.worst.compared) == ("fp32", "int8")
    assert [crop.folder for crop in report.worst.crops] == ["pairs"]
    assert (folder / "ladder.html").read_text().count("<img") == 2 + 5


def test_what_int8_was_made_of_is_said(climbed: tuple[LadderReport, Path, list[str]]) -> None:
    report, folder, _ = climbed
    assert report.calibrated == (
        "the 10 blurred pictures of pairs, which the rungs are measured on as well"
    )
    assert report.tuned == "the 10 pairs of pairs, which the rungs are measured on as well"
    story = report.rungs[1].quantisation
    assert len(story["layers"]) > 3
    page = (folder / "ladder.html").read_text()
    assert all(f"<code>{layer['name']}</code>" in page for layer in story["layers"])


def test_every_engine_is_timed_or_missing(
    climbed: tuple[LadderReport, Path, list[str]],
) -> None:
    report, _, _ = climbed
    for rung in report.rungs:
        for run in rung.runs:
            assert run.speed is not None
            assert 0 < run.speed.latency.p50 <= run.speed.latency.p90 <= run.speed.latency.p99
            assert run.speed.latency.frames >= TINY.rounds
            assert run.speed.times_paper > 0
    engines = {run.engine for rung in report.rungs for run in rung.runs}
    assert any("TensorRT" in reason for reason in report.missing) or "tensorrt" in engines


def test_a_second_report_does_not_replace_the_first_unasked(
    climbed: tuple[LadderReport, Path, list[str]], edge: Checkpoint, pairs: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in climbed[1].iterdir()}
    with pytest.raises(DeblurError, match="--overwrite"):
        climb(edge, [pairs], None, climbed[1])
    assert {path: path.stat().st_mtime_ns for path in climbed[1].iterdir()} == before


def test_bad_pairs_and_folders_are_refused_before_anything_is_written(
    edge: Checkpoint, pairs: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    (tmp_path / "empty" / "blur").mkdir(parents=True)
    (tmp_path / "empty" / "sharp").mkdir()
    lonely = tmp_path / "lonely"
    for part in ("blur", "sharp"):
        (lonely / part).mkdir(parents=True)
        shutil.copy(pairs / part / "0.png", lonely / part)
    (tmp_path / "file").write_text("")
    for given, words, said in (
        ([], {}, "--pairs FOLDER|--pairs GOPRO"),
        ([tmp_path / "none"], {}, "expected a folder"),
        ([tmp_path / "empty"], {}, "expected pictures"),
        ([pairs], {"show": "others"}, "--show"),
        ([lonely], {}, "at least 2 pairs"),
        ([pairs], {"calibration": tmp_path / "empty" / "blur"}, "expected pictures"),
        ([pairs], {"tune": tmp_path / "empty"}, "expected pictures"),
        ([pairs], {"folder": tmp_path / "file" / "report"}, "place to make one"),
    ):
        options = {"calibration": None, "folder": report, **words}
        with pytest.raises(DeblurError, match=said):
            climb(edge, given, measuring=TINY, **options)  # type: ignore[arg-type]
        assert not report.exists()


def test_what_breaks_in_the_middle_leaves_nothing(
    edge: Checkpoint, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted

    monkeypatch.setattr(ladder, "export_onnx", stop)
    kept = tmp_path / "there-before"
    kept.mkdir()
    for folder in (tmp_path / "new", kept):
        with pytest.raises(Interrupted):
            climb(edge, [pairs], None, folder, precisions=["fp32"], measuring=TINY)
    assert list(tmp_path.iterdir()) == [kept]
    assert list(kept.iterdir()) == []


def test_infinite_figures_are_null_in_json(
    climbed: tuple[LadderReport, Path, list[str]],
) -> None:
    report = climbed[0]
    equal = dataclasses.replace(report.folders[0], psnr=math.inf)
    report = dataclasses.replace(report, folders=(equal, report.folders[1]))
    assert json.loads(report.to_json())["folders"][0]["psnr"] is None


def test_warnings_of_the_exports_are_kept_and_name_no_hidden_folder(
    climbed: tuple[LadderReport, Path, list[str]],
) -> None:
    report, folder, _ = climbed
    assert report.warnings[0].startswith("pairs gives 10 calibration pictures; ")
    assert ".part" not in " ".join(report.warnings)
    assert "pairs gives 10 calibration pictures; " in (folder / "ladder.html").read_text()


def test_warnings_name_what_the_report_names(tmp_path: Path) -> None:
    request = QuantisationRequest(Path("."))
    warnings = (". gives 2 calibration pictures; 0.5 dB", "int8 is 28.3 dB from fp32")
    given = ladder.name_source(warnings, request, tmp_path / "night", "unused")
    assert given == ("night gives 2 calibration pictures; 0.5 dB", warnings[1])
    made = ladder.name_source(warnings, request, None, "second/same")
    assert made[0].startswith("second/same gives 2")


def test_a_size_that_is_too_small_is_refused_before_any_export(
    edge: Checkpoint, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("exported")

    monkeypatch.setattr(ladder, "export_onnx", refuse)
    measuring = dataclasses.replace(TINY, size=(8, 8))
    with pytest.raises(DeblurError, match="--size: expected at least 16x16, found 8x8"):
        climb(edge, [pairs], None, tmp_path / "report", measuring=measuring)
    assert list(tmp_path.iterdir()) == []


def test_int8_is_exported_first_and_the_files_keep_their_order(
    edge: Checkpoint, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What int8 reads is read by its export, and is refused there before other work."""
    exported: list[tuple[str, object]] = []

    def export(_: Checkpoint, path: Path, precision: str, **words: Any) -> Any:
        exported.append((precision, words["choice"]))
        assert (words["quantisation"] is None) == (not precision.startswith("int8"))
        return SimpleNamespace(choice="chosen", warnings=("careful",))

    monkeypatch.setattr(ladder, "export_onnx", export)
    monkeypatch.setattr(ladder, "open_model", lambda path: path.name)
    request = QuantisationRequest(pairs)
    models, warnings = ladder.export_all(
        edge, tmp_path, "edge", ("fp32", "fp16", "int8", "int8-fp16"), request, "", lambda _: None
    )
    assert [precision for precision, _ in exported] == ["int8", "int8-fp16", "fp32", "fp16"]
    assert exported[:2] == [("int8", None), ("int8-fp16", "chosen")]
    names: list[Any] = ["edge.onnx", "edge-fp16.onnx", "edge-int8.onnx", "edge-int8-fp16.onnx"]
    assert models == names
    assert warnings == ("careful",)
