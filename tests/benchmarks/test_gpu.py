"""``deblur-bench gpu``, with the engines of the processor in place of the GPU's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblurgan.benchmarks import gpu, plans
from deblurgan.benchmarks.app import app
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.device import Device


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    pytest.importorskip("onnxruntime")
    device = Device("GeForce", "GeForce", "8.9", 128, False, 1 << 34, "570.1", "12.8")
    monkeypatch.setattr(plans, "require_gpu", lambda: device)
    monkeypatch.setattr(gpu, "NEED_GPU", ("tensorrt", "onnxruntime"))
    monkeypatch.setattr("deblurgan.runtime.backends.find_device", lambda: None)
    return device


def bench(*words: Any) -> int:
    return run(app, ["gpu", *map(str, words)])


@pytest.mark.usefixtures("device")
def test_models_and_a_video_are_measured_on_what_is_here(
    negative: Path, make_clip: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    clip, result = make_clip(tmp_path / "in.mp4"), tmp_path / "gpu.json"
    words = [negative, "--size", "64x48", "--runs", "5", "--clip", clip, "--json", result]
    assert bench(*words) == 0
    written = json.loads(result.read_text())["figures"]
    assert written["device"]["name"] == "GeForce"
    (engine,), (video,) = written["engines"], written["videos"]
    assert (engine["backend"], engine["largest"], engine["runs"]) == ("onnxruntime", 0, 5)
    assert engine["repeats_equal"]
    assert engine["frames_a_second"] > 0
    assert (video["clip"], video["backend"], video["frames"]) == ("in.mp4", "onnxruntime", 12)
    assert video["frames_a_second"] == pytest.approx(12 / video["seconds"])
    assert list(written["missing"]) == ["tensorrt"]
    assert written["failed"] == {}
    out = capsys.readouterr().out
    assert "GeForce (compute capability 8.9, 128 multiprocessors), 64x48" in out
    assert "missing: tensorrt: no NVIDIA GPU" in out


@pytest.mark.usefixtures("device")
def test_what_fails_does_not_lose_the_rest_and_ends_with_1(
    negative: Path, write_negative: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bad, result, measure = write_negative(tmp_path / "bad.onnx"), tmp_path / "a", gpu.measure_engine

    def fail(model: Model, *rest: Any) -> plans.EngineRun:
        if model.path == bad:
            raise RuntimeError("a CUDA error")
        return measure(model, *rest)

    monkeypatch.setattr(gpu, "measure_engine", fail)
    words = ["--size", "64x48", "--runs", "2", "--json", result]
    assert bench(bad, negative, *words) == 1
    written = json.loads(result.read_text())["figures"]
    assert [engine["model"] for engine in written["engines"]] == ["negative.onnx"]
    assert written["failed"]["bad.onnx on onnxruntime"] == "RuntimeError: a CUDA error"
    assert "a CUDA error" in capsys.readouterr().err


@pytest.mark.usefixtures("device")
def test_no_engine_at_all_is_no_success(negative: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "NEED_GPU", ("tensorrt",))
    assert bench(negative, "--size", "64x48") == 1


@pytest.mark.usefixtures("device")
def test_a_clip_that_is_not_there_is_told_first(tmp_path: Path) -> None:
    assert bench("--clip", tmp_path / "none.mp4") == 2


def test_a_video_job_that_fails_says_what_the_command_said(
    negative: Path, make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    model, clip = open_model(negative), make_clip(tmp_path / "in.mp4")
    monkeypatch.setattr(gpu, "DEBLUR_VIDEO", "raise SystemExit('a broken pipe')")
    with pytest.raises(DeblurError, match=r"12 deblurred frames, found a broken pipe"):
        gpu.measure_video(clip, model, "onnxruntime")
