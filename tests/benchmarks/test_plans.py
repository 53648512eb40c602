from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deblurgan.benchmarks import plans
from deblurgan.benchmarks.app import app
from deblurgan.benchmarks.stream import run_overlapping
from deblurgan.runtime.backends import NoEngine
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import Frames, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import make_golden
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt.device import find_device


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


@pytest.mark.slow
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


def test_another_picture_than_the_golden_pairs_is_refused(negative: Path) -> None:
    pytest.importorskip("onnxruntime")
    golden = make_golden(open_model(negative), 64, 48)
    other = replace(golden, output=golden.output ^ 4)
    with pytest.raises(DeblurError, match=r"picture on onnxruntime .*mean .* levels"):
        plans.measure_engine(open_model(negative), "onnxruntime", other, 2)


def test_every_frame_is_run_by_as_many_threads_as_the_engine_takes() -> None:
    together, seen = threading.Barrier(3, timeout=10), []

    def run(frame: Frames) -> Frames:
        together.wait()
        seen.append(frame)
        return frame

    engine: Any = SimpleNamespace(in_flight=3, run=run)
    run_overlapping(engine, [np.zeros((1, 2, 2, 3), np.uint8)] * 6)
    assert len(seen) == 6


@pytest.mark.gpu
def test_the_shipped_model_becomes_a_plan_that_makes_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_device() is None:
        pytest.skip("no GPU")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = find_model().best_for("tensorrt")
    try:
        found = plans.measure_engine(model, "tensorrt", make_golden(model, 640, 360), runs=20)
    except NoEngine as error:
        pytest.skip(error.found)
    assert found.repeats_equal
    assert found.p50 <= found.p99
    assert found.in_flight > 1
    assert found.memory
