from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deblurgan.export.app import app
from deblurgan.runtime.console import run
from deblurgan.train.checkpoint import Checkpoint, save_checkpoint


def test_what_the_exports_warn_of_is_said(
    edge: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, Any] = {}

    def climb(*_: object, tell: Any, **options: Any) -> SimpleNamespace:
        tell("exporting [x]")  # no markup: names of folders may look like it
        asked.update(options)
        return SimpleNamespace(warnings=("only 2 calibration pictures",))

    monkeypatch.setattr("deblurgan.export.ladder.climb", climb)
    save_checkpoint(tmp_path / "best.safetensors", edge.generator, {})
    words = ["ladder", str(tmp_path / "best.safetensors"), "--pairs", "mine", "-o", "report"]
    words += ["--method", "percentile"]
    assert run(app, [*words, "--size", "64x48", "--pictures", "3", "--show", "mine"]) == 0
    said = capsys.readouterr()
    assert "report/ladder.html" in said.out
    assert "only 2 calibration pictures" in said.err
    assert (asked["measuring"].size, asked["measuring"].pictures) == ((64, 48), 3)
    assert (asked["show"], asked["method"]) == ("mine", "percentile")


def test_a_method_that_does_not_exist_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ladder", str(tmp_path / "best.safetensors"), "--pairs", "mine", "-o", "report"]
    assert run(app, [*words, "--method", "median"]) == 2
    error = capsys.readouterr().err
    assert "--method" in error
    assert "median" in error
    assert "percentile" in error
