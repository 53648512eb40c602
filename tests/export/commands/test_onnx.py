from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deblurgan.export.app import app
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import open_model
from deblurgan.runtime.difference import Difference
from deblurgan.train.checkpoint import Checkpoint, save_checkpoint
from deblurgan.train.networks import ResNetGenerator

Exported = tuple[Checkpoint, ExportReport]


@pytest.fixture
def saved(edge: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, edge.generator, edge.training)
    return path


def test_onnx_writes_beside_the_checkpoint_and_info_reads_it(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "kodak24.json"
    figures.write_text('{"mean": {"name": "mean", "psnr_after": 27.123456, "length": null}}')
    words = ["--precision", "fp16", "--size", "64x48", "--licence", "CC0-1.0"]
    assert run(app, ["onnx", str(saved), *words, "--quality", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "largest difference" in said
    assert "PSNR" in said
    written = saved.with_name("best-fp16.onnx")
    assert sorted(saved.parent.iterdir()) == sorted([saved, written, figures])
    assert open_model(written).size == (64, 48)
    assert open_model(written).card.quality == {"kodak24": {"psnr_after": 27.1235}}

    assert run(app, ["info", str(written)]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["precision"].strip() == "fp16"
    assert lines["frames"].strip() == "64x48 and no other"
    assert "channels 8" in lines["generator"]
    assert "CC0-1.0" in lines["licence"]

    assert run(app, ["onnx", str(saved), "--precision", "fp16"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_onnx_says_what_it_recognised_in_a_released_checkpoint(
    make_resnet: Callable[..., ResNetGenerator],
    edge_fp32: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = tmp_path / "latest_net_G.pth"
    torch.save(make_resnet(norm="batch").state_dict(), released)
    given: list[Checkpoint] = []

    def export_nothing(checkpoint: Checkpoint, *_: object, **__: object) -> ExportReport:
        given.append(checkpoint)
        return edge_fp32[1]

    monkeypatch.setattr("deblurgan.export.onnx_export.export_onnx", export_nothing)
    arguments = ["onnx", str(released), "--skip", "average", "--statistics", "tracked"]
    assert run(app, arguments) == 0
    assert "recognised" in capsys.readouterr().out
    assert given[0].generator.settings.skip == "average"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "640"], "WIDTHxHEIGHT"),
        (["--size", "640x0"], "WIDTHxHEIGHT"),
        (["--size", "8x8"], "at least 16x16"),
        (["--size", "64x48", "--dynamic"], "either it or --size"),
        (["--precision", "fp64"], "fp32, fp16, int8, int8-fp16"),
        (["--precision", "int8"], "add --calibration FOLDER"),
        (["--precision", "int8", "--pairs", "mine"], "--calibration mine/blur"),
        (["--precision", "int8", "--calibration", "missing"], "missing"),
        (["--precision", "int8", "--calibration", "missing", "--method", "best"], "auto, min-max"),
        (["--calibration", "frames"], "leave it out, or add --precision int8"),
        (["--precision", "fp16", "--pairs", "frames"], "leave it out, or add --precision int8"),
        (["--method", "entropy"], "leave it out, or add --precision int8"),
        (["--max-drop", "0.01"], "leave it out, or add --precision int8"),
        (
            ["--precision", "int8", "--calibration", "x", "--max-drop", "0.01"],
            "leave it out, or add --pairs FOLDER",
        ),
        (["--skip", "add"], "clamp, average, none"),
        (["--statistics", "batch"], "image, tracked"),
        (["--skip", "none"], "--skip: expected a checkpoint of the original release"),
        (["--no-dropout"], "--no-dropout: expected a checkpoint of the original release"),
        (["--size", "20000x64"], "sides of at most 16384 pixels"),
        (["-o", "no such/folder/model.onnx"], "mkdir -p 'no such/folder'"),
        (["-o", "."], "a name that ends in .onnx"),
        (["-o", f"{'x' * 300}.onnx"], "a name, in UTF-8, that a file can have"),
        (["-o", "n\udce9.onnx"], "a name, in UTF-8, that a file can have"),
        (["--no-such-option"], "--no-such-option"),
    ],
    ids=str,
)
def test_bad_options_exit_with_2_and_say_what_is_expected(
    arguments: list[str], said: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["onnx", str(saved), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(saved.parent.iterdir()) == [saved]


def test_what_appears_during_the_export_is_not_replaced(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.onnx"

    def prove(*_: object) -> Difference:
        out.write_text("precious")
        return Difference(0, 0.0, 0.0, math.inf)

    monkeypatch.setattr("deblurgan.export.onnx_export.prove", prove)
    assert run(app, ["onnx", str(saved), "-o", str(out)]) == 2
    assert "found a file that exists" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == sorted([saved, out])


def test_a_link_that_leads_nowhere_stays(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "made.onnx"
    link.symlink_to(tmp_path / "nowhere.onnx")
    assert run(app, ["onnx", str(saved), "-o", str(link)]) == 2
    assert "found a file that exists" in capsys.readouterr().err
    assert link.is_symlink()


@pytest.mark.parametrize("source", [".", "/"])
def test_a_folder_is_no_checkpoint(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["onnx"], ["trt", "--size", "64x48", "-o", "made.plan"]):
        assert run(app, [*command, source]) == 2
        assert "failed" not in capsys.readouterr().err


def test_figures_under_one_name_are_refused(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name / "quality.json" for name in "ab"]
    for file in files:
        file.parent.mkdir()
        file.write_text('{"mean": {"psnr_after": 27.5, "psnr_before": Infinity}}')
    words = [word for file in files for word in ("--quality", str(file))]
    assert run(app, ["onnx", str(saved), *words]) == 2
    assert "files whose names differ" in capsys.readouterr().err
    out = tmp_path / "made.onnx"
    assert run(app, ["onnx", str(saved), "-o", str(out), "--quality", str(files[0])]) == 0
    assert open_model(out).card.quality == {"quality": {"psnr_after": 27.5}}


TWO_OF_FP32 = json.dumps({"figures": {"models": [{"precision": "fp32", "mean": {}}] * 2}})


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_figures_of_several_models_are_those_of_its_precision(
    precision: str, saved: Path, tmp_path: Path
) -> None:
    from deblurgan.benchmarks.result_file import write_result

    models = [
        {"model": f"edge-{each}", "precision": each, "mean": {"name": "mean", "gain": gain}}
        for each, gain in (("fp32", 1.25), ("fp16", 1.5))
    ]
    write_result(tmp_path / "both.json", "quality", {"models": models})
    write_result(tmp_path / "one.json", "quality", {"models": models[:1]})
    out = tmp_path / "made.onnx"
    words = ["--quality", str(tmp_path / "both.json"), "--quality", str(tmp_path / "one.json")]
    assert run(app, ["onnx", str(saved), "-o", str(out), "--precision", precision, *words]) == 0
    gain = 1.25 if precision == "fp32" else 1.5
    assert open_model(out).card.quality == {"both": {"gain": gain}, "one": {"gain": 1.25}}


@pytest.mark.parametrize(
    "content", [None, "", "{}", '{"mean": 3}', '{"mean": {"a": NaN}}', "[]", TWO_OF_FP32]
)
def test_quality_that_is_none_is_refused(
    content: str | None, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    if content is not None:
        figures.write_text(content)
    assert run(app, ["onnx", str(saved), "--quality", str(figures)]) == 2
    assert "expected figures that deblur-bench wrote, of one fp32 model" in capsys.readouterr().err


def test_int8_says_what_the_search_found(
    saved: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--precision", "int8", "--calibration", str(pairs / "blur"), "--pairs", str(pairs)]
    assert run(app, ["onnx", str(saved), *words, "--max-drop", "0.5", "--method", "min-max"]) == 0
    said = capsys.readouterr()
    assert re.search(
        r"int8 +\d+ of \d+ layers, ranges by min-max; -?0\.\d{3} dB and -?0\.\d{4} SSIM "
        r"below fp32 on 10 pairs",
        said.out,
    )
    assert "10 calibration pictures" in said.err
