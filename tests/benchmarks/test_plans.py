from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deblurgan.benchmarks import plans
from deblurgan.benchmarks.app import app
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt.device import Device


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
    tested = plans.run_gpu_tests(tmp_path)
    assert (tested.passed, "1 failed, 1 passed, 1 deselected" in tested.said) == (False, True)
    (tmp_path / "tests" / "test_some.py").write_text(
        "import pytest\n@pytest.mark.gpu\ndef test_gpu(): pass\n"
    )
    assert plans.run_gpu_tests(tmp_path).passed
    assert not plans.run_gpu_tests(tmp_path / "tests").passed  # no checkout


def test_what_fails_does_not_lose_the_rest_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = Device("GeForce", "GeForce", "8.9", 128, False, 1 << 34, "570.1", "12.8")

    def measure(model: Model, *_: object) -> plans.PlanRun:
        if model.path == negative:
            raise DeblurError("plan", expected="one", found="none", remedy="none")
        return plans.PlanRun(model.path.name, "fp32", "RTX", 1, 0, 0, True, 3, 0.001, 0.002, 0.003)

    monkeypatch.setattr(plans, "require_gpu", lambda: device)
    monkeypatch.setattr(plans, "measure_plan", measure)
    result = tmp_path / "gpu.json"
    assert run(app, ["gpu", str(negative), "edge", "--json", str(result)]) == 1
    written = json.loads(result.read_text())
    assert [plan["model"] for plan in written["plans"]] == ["edge.onnx"]
    assert list(written["failed"]) == ["negative.onnx"]
    assert "edge.onnx" in capsys.readouterr().out
    assert run(app, ["gpu", "edge"]) == 0


def test_a_checkpoint_is_taken_in_every_precision(tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("deblurgan.train.checkpoint")
    networks = pytest.importorskip("deblurgan.train.networks")
    pytest.importorskip("onnxruntime")
    generator = networks.EdgeGenerator(networks.EdgeSettings(channels=4, blocks=0, deep_blocks=1))
    checkpoint.save_checkpoint(tmp_path / "tiny.safetensors", generator, {})
    models = plans.export_all(tmp_path / "tiny.safetensors", tmp_path)
    assert [model.card.precision for model in models] == ["fp32", "fp16", "int8", "int8-fp16"]


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
