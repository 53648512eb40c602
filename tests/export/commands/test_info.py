from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deblurgan.export.app import app
from deblurgan.export.commands.info import card_rows, model_rows
from deblurgan.export.commands.rows import echo_rows
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import ModelCard, open_model
from deblurgan.train.checkpoint import Checkpoint

Exported = tuple[Checkpoint, ExportReport]


def test_a_missing_file_and_a_foreign_one_exit_with_2(
    tmp_path: Path, negative: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.onnx"
    text.write_text("not a model")
    assert run(app, ["info", str(text)]) == 2
    assert "deblur-export onnx" in capsys.readouterr().err
    assert run(app, ["info", str(tmp_path / "none.plan")]) == 2
    assert "expected a TensorRT plan, found no such file" in capsys.readouterr().err
    assert run(app, ["info", str(negative)]) == 0


def test_a_model_says_whether_an_engine_here_takes_it(
    edge_fp32: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(edge_fp32[1].path)
    assert dict(model_rows(model))["runs here"].startswith("yes, on ")
    monkeypatch.setattr("deblurgan.runtime.backends.ENGINES", {})
    assert dict(model_rows(model))["runs here"].startswith("no: ")


def test_a_file_cannot_write_rows_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    echo_rows([("licence", "MIT\x1b]0;owned\x07\nprecision  int8"), ("note", "\ud800")])
    said = capsys.readouterr().out
    assert said == "licence  MIT\\x1b]0;owned\\x07 precision int8\nnote     \\ud800\n"


def test_int8_says_which_layers_stayed_out_and_why(card: ModelCard) -> None:
    layers = [
        {"name": "head.1", "kind": "Conv", "int8": True, "reason": "within", "cost_db": 0.001},
        {"name": "tail.0", "kind": "Conv", "int8": False, "reason": "put back", "cost_db": 0.25},
    ]
    quantised = replace(
        card,
        quantisation={"method": "entropy", "layers": layers, "drop": {"psnr": 0.09, "ssim": 0.001}},
    )
    rows = dict(card_rows(quantised))
    assert rows["int8"] == "1 of 2 layers, ranges by entropy"
    assert rows["  tail.0"] == "not int8: put back (costs 0.250 dB)"
    assert rows["  drop"] == "psnr 0.09, ssim 0.001"
    assert "  head.1" not in rows
    assert "int8" not in dict(card_rows(card))
