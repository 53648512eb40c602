from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deblurgan.benchmarks import plans
from deblurgan.benchmarks.app import app
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.model_store import find_model


def test_without_a_gpu_it_says_so_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plans, "find_device", lambda: None)
    assert run(app, ["gpu", "--json", str(tmp_path / "gpu.json")]) == 2
    assert "expected an NVIDIA GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_tests_are_run_and_their_last_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.gpu\n"
        "def test_gpu(): pass\n"
        "@pytest.mark.gpu\n"
        "def test_bad(): assert 0\n"
        "def test_other(): pass\n"
    )
    assert "1 failed, 1 passed, 1 deselected" in plans.run_gpu_tests(tmp_path)


def test_repeats_that_differ_are_found() -> None:
    frame = np.zeros((1, 2, 2, 3), np.uint8)
    made: list[Frames] = []

    def drifts(given: Frames) -> Frames:
        made.append(given)
        return given + (len(made) == 5)

    assert plans.repeats_are_equal(lambda given: given + 1, frame)
    assert not plans.repeats_are_equal(drifts, frame)


def test_every_run_is_timed() -> None:
    frame = np.zeros((1, 2, 2, 3), np.uint8)
    times = plans.time_runs(lambda given: given, frame, 7)
    assert len(times) == 7
    assert min(times) >= 0


@pytest.mark.gpu
def test_the_shipped_model_becomes_a_plan_that_makes_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = plans.measure_plan(find_model(), 640, 360, runs=20)
    assert found.repeats_equal
    assert found.p50 <= found.p99
