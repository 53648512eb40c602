"""The command line as a test calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deblurgan.runtime import console
from deblurgan.runtime.app import app


@pytest.fixture(scope="session")
def deblur() -> Callable[..., int]:
    """Runs ``deblur-video`` with these words, on the engine that loads soonest."""

    def run(*words: object) -> int:
        return console.run(app, [*map(str, words), "--backend", "onnxruntime"])

    return run


@pytest.fixture
def refused(deblur: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a run with these words ends with; the folder is as it was."""

    def run(folder: Path, *words: object, code: int = 2) -> str:
        before = sorted(folder.rglob("*"))
        capsys.readouterr()
        assert deblur(*words) == code
        said = capsys.readouterr().err.strip()
        assert len(said.splitlines()) == 1, said
        assert "failed: " not in said
        assert sorted(folder.rglob("*")) == before
        return said

    return run
