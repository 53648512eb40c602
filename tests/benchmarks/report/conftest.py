"""Results as the commands write them, with figures made up."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the benchmarks want PyTorch")
pytest.importorskip("skimage", reason="the benchmarks want scikit-image")
pytest.importorskip("matplotlib")
pytest.importorskip("pydantic")

from deblurgan.benchmarks.baseline import Subject, to_figures
from deblurgan.benchmarks.gate import Process
from deblurgan.benchmarks.latency_rows import Row, percentiles
from deblurgan.benchmarks.peak import Peak
from deblurgan.benchmarks.quality import ModelQuality, Score
from deblurgan.benchmarks.result_file import write_result
from deblurgan.benchmarks.video import VideoJob, as_figures
from deblurgan.runtime.flicker import TemporalError

EVIL = '<script src="http://evil.example/x.js">alert(1)</script>&"\'{{ 7 * 7 }}'


def make_row(model: str, seconds: float, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "name": model, "model": model, "engine": "openvino", "description": "OpenVINO",
        "precision": "fp32", "device": "cpu", "width": 1280, "height": 720, "batch": 1,
        "threads": 2, "stream": False, "verdict": "valid", "multiply_adds": 10**10,
        "bytes_moved": 10**8, "frame": percentiles([[seconds] * 12, [seconds * 1.02] * 12]),
        "frames_a_second": 1 / seconds, "peak_memory": 200 << 20, "share_of_peak": 0.5,
        "times_as_fast": 15 / seconds,
    }  # fmt: skip
    return Row(**{**values, **changes})


def make_scores(gain: float) -> tuple[Score, ...]:
    return tuple(
        Score(EVIL, "full", px, 30 - px / 4, 30 - px / 4 + gain, 0.5, 0.6, 0.8, 0.9, 1.0, 0.5)
        for px in (8.0, 16.0)
    )


def quality_figures(kind: str, folder: str, *models: ModelQuality) -> dict[str, Any]:
    return {
        "kind": kind,
        "folder": folder,
        "layout": "pairs",
        "blur": None if kind == "pairs" else "eval-v1",
        "all_lengths": False,
        "size": "full",
        "models": [
            {
                "model": model.model,
                "precision": model.precision,
                "engine": model.engine,
                "pictures": [{**asdict(score), "gain": score.gain} for score in model.scores],
                "mean": {**asdict(model.mean), "gain": model.mean.gain},
                "by_length": [asdict(row) for row in model.by_length],
            }
            for model in models
        ],
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with one of each kind."""
    folder = tmp_path / "results"
    folder.mkdir()
    rows = [
        make_row("edge", 0.4),
        make_row("edge", 0.1, width=640, height=360),
        make_row("edge-int8", 0.09, precision="int8", verdict="noisy", reason="its quartiles"),
        make_row("paper", 15.0, engine="pytorch eager", times_as_fast=1.0),
        make_row("bad", 1.0, verdict="refused", reason=EVIL, frame=None, times_as_fast=None,
                 frames_a_second=None, share_of_peak=None),
    ]  # fmt: skip
    peaks = [Peak("product", "fp32", "cpu", 2, 50e9, 9, "PyTorch"),
             Peak("product", "int8", "cpu", 2, 200e9, 9, "PyTorch"),
             Peak("copy", "bytes", "cpu", 2, 9e9, 9, "PyTorch")]  # fmt: skip
    latency = {"rows": [asdict(row) for row in rows], "peaks": [asdict(peak) for peak in peaks],
               "missing": ["GPU: none"], "published": {}, "video": None}  # fmt: skip
    models = [
        ModelQuality(name, precision, "OpenVINO 1", make_scores(gain))
        for name, precision, gain in (("edge", "fp32", 1.25), ("edge-int8", "int8", 1.125))
    ]
    equal = (Score("same", "full", None, float("inf"), 45.5, 1.0, 0.99, None, None, 0.0, 0.1),)
    shares = {"right": 3, "wrong": 1, "missed": 0, "precision": 0.75, "recall": 1.0, "f1": 0.857}
    detection = {
        "kind": "pairs", "folder": EVIL, "blur": None, "references": 3, "pictures": [],
        "detector": {"file": "yolox.onnx", "score": 0.3}, "f1_gain": {"edge": [-0.01, 0.2]},
        "totals": {"blurred": shares, "edge": shares, "sharp": {**shares, "precision": None}},
    }  # fmt: skip
    temporal = TemporalError(5.25, 5.5, 3.0, 3.3, 10)
    subject = Subject(EVIL, "fp32", "openvino", "320x180", 1, "engine")
    compared = {"change": 1.013, "low": 0.99, "high": 1.04, "spread": 0.01, "outcome": "pass",
                "most": 0.05}  # fmt: skip
    gate = {"comparison": compared, **to_figures(subject, "0" * 64, [Process((1.0,), (1.0,))])}

    def write(name: str, kind: str, figures: dict[str, Any]) -> None:
        write_result(folder / f"{name}.json", kind, figures)

    write("latency-720p", "latency", latency)
    write("pairs", "quality", quality_figures("pairs", "gopro", *models))
    write("photos", "quality", quality_figures("photos", EVIL, models[0]))
    unchanged = ModelQuality("edge", "fp32", "OpenVINO 1", equal)
    write("sharp", "quality", quality_figures("sharp", "kodak", unchanged))
    write("detection", "detection", detection)
    write(
        "video",
        "video",
        as_figures(VideoJob("edge-int8", "int8", "OpenVINO", 9, 1, 6, 1, 4, 0.96, 1, 2, temporal)),
    )
    write("gate", "gate", gate)
    write("training", "training", {"ratio": 1.0})
    return folder
