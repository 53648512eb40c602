"""``deblur-bench latency`` as a user calls it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deblurgan.benchmarks import app as bench
from deblurgan.benchmarks.commands.latency import row_of_model
from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError


def deblur_bench(*words: object) -> int:
    return console.run(bench.app, [str(word) for word in words])


def test_the_command_writes_all_that_it_is_asked_for(
    make_clip: Callable[..., Path], negative: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from deblurgan.benchmarks import peak

    monkeypatch.setattr(peak, "choose_peaks", lambda devices, threads: [])
    files = {name: tmp_path / f"{name}.{ending}" for name, ending in (
        ("json", "json"), ("csv", "csv"), ("action", "json"), ("plot", "png"), ("scaling", "png"),
    )}  # fmt: skip
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    assert deblur_bench(
        "latency", "--model", negative, "--backend", "onnxruntime", "--size", "64x48", "--threads",
        1, "--no-peers", "--runs", 10, "--clip", make_clip(tmp_path / "in.mp4"), *words,
    ) == 0  # fmt: skip
    assert all(path.stat().st_size for path in files.values())
    result = json.loads(files["json"].read_text())
    assert (result["schema"], result["kind"]) == (1, "latency")
    (only,) = result["figures"]["rows"]
    assert only["name"] == "negative fp32 onnxruntime 64x48 batch 1 threads 1"
    assert only["frame"]["runs"] == only["engine_only"]["runs"] == 10
    assert result["figures"]["video"]["frames"] == 12
    assert result["figures"]["published"]["seconds"] == 0.85
    assert "published" in capsys.readouterr().out


@pytest.mark.slow
def test_a_checkpoint_is_run_in_pytorch_and_exported_in_every_precision_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    checkpoint = pytest.importorskip("deblurgan.train.checkpoint")
    networks = pytest.importorskip("deblurgan.train.networks")
    from deblurgan.benchmarks import peak

    monkeypatch.setattr(peak, "choose_peaks", lambda devices, threads: [])
    small = networks.EdgeGenerator(networks.EdgeSettings(channels=4, blocks=0, deep_blocks=1))
    checkpoint.save_checkpoint(tmp_path / "small.safetensors", small, {})
    assert deblur_bench(
        "latency", "--checkpoint", tmp_path / "small.safetensors", "--precision", "fp32",
        "--precision", "int8", "--backend", "openvino", "--size", "64x48", "--threads", 1,
        "--peer", "channels-last", "--runs", 10, "--no-stream", "--json", tmp_path / "rows.json",
    ) == 0  # fmt: skip
    rows = json.loads((tmp_path / "rows.json").read_text())["figures"]["rows"]
    assert [(row["model"], row["precision"], row["engine"]) for row in rows] == [
        ("small-fp32", "fp32", "openvino"),
        ("small-int8", "int8", "openvino"),
        ("paper", "fp32", "pytorch channels-last"),
        ("small", "fp32", "pytorch channels-last"),
    ]
    fp32, int8, paper, eager = rows
    assert fp32["multiply_adds"] == int8["multiply_adds"] == eager["multiply_adds"]
    assert int8["bytes_moved"] * 4 == fp32["bytes_moved"]
    assert paper["multiply_adds"] > 100 * eager["multiply_adds"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "abacus"], "--backend: expected one of auto"),
        (["--peer", "abacus"], "--peer: expected one of eager"),
        (["--precision", "int8"], "--precision: expected a --checkpoint"),
        (["--precision", "int3", "--checkpoint", "paper"], "--precision: expected one of fp32"),
        (["--threads", "4096"], "--threads: expected at most"),
        (["--plot", "missing/plot.png"], "no such folder"),
        (["--plot", "plot.jpg"], "ends in .png"),
        (["--model", "missing.onnx"], "no such file"),
        (["--checkpoint", "missing.safetensors"], "missing.safetensors"),
        (["--clip", "missing.mp4"], "missing.mp4: expected a video"),
        (["--no-peers", "--peer", "eager"], "--peer: expected PyTorch to be measured"),
        (["--no-peers", "--checkpoint", "paper"], "--checkpoint: expected PyTorch"),
        (["--batch", "2", "--plot", "plot.png"], "--plot: expected frames one at a time"),
        (["--json", "a.json", "--action", "a.json"], "a name of its own for each output"),
        (["--checkpoint", "a/g.pth", "--checkpoint", "b/g.pth"], "files whose names differ"),
        (["--checkpoint", "b/paper.pth"], "found paper and b/paper.pth"),
        (["--size", "big"], "--size: expected WIDTHxHEIGHT"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_options_are_told_before_anything_is_measured(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    assert deblur_bench("latency", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_clip_that_is_no_video_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "in.mp4").write_text("not a video")
    assert deblur_bench("latency", "--clip", tmp_path / "in.mp4") == 2
    assert "in.mp4: expected a video" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--plot", "a.png"), ("--roofline", "a.png"), ("--scaling", "a.png"),
        ("--csv", "a.csv"), ("--action", "a.json"), ("--json", "a.json"),
    ],
)  # fmt: skip
def test_a_file_that_deblur_bench_did_not_write_stays(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    (tmp_path / name).write_bytes(b"{} of somebody")
    # Were it not refused, the size would be, and not hours be measured.
    assert deblur_bench("latency", option, tmp_path / name, "--size", "big") == 2
    assert "expected a new name, or that of" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"{} of somebody"


def test_models_of_one_name_are_told(
    write_negative: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    paths = [write_negative(tmp_path / folder / "m.onnx") for folder in ("a", "b")]
    rows = [row_of_model(str(path)) for path in paths]
    assert rows[0] != rows[1]
    assert rows[0][1] == rows[1][1]
    words = [word for path in paths for word in ("--model", path)]
    assert deblur_bench("latency", "--no-peers", *words) == 2
    assert "--model: expected files whose names differ" in capsys.readouterr().err


def test_rows_are_not_lost_to_what_comes_after_them(
    negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    make_clip: Callable[..., Path], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from deblurgan.benchmarks import peak
    from deblurgan.benchmarks.commands import latency as command

    def fail(*_: object) -> None:
        raise DeblurError("clip", expected="a frame", found="none", remedy="try")

    monkeypatch.setattr(peak, "choose_peaks", lambda devices, threads: [])
    monkeypatch.setattr(command, "measure_video", fail)
    assert deblur_bench(
        "latency", "--model", negative, "--backend", "onnxruntime", "--size", "64x48", "--threads",
        1, "--no-peers", "--no-stream", "--runs", 10, "--clip", make_clip(tmp_path / "in.mp4"),
        "--json", tmp_path / "a.json", "--roofline", tmp_path / "roof.png",
        "--plot", tmp_path / "p.png",
    ) == 2  # fmt: skip
    assert json.loads((tmp_path / "a.json").read_text())["figures"]["video"] is None
    assert (tmp_path / "p.png").exists(), "a roof without peaks keeps no other picture away"
    out, err = capsys.readouterr()
    assert "negative" in out
    assert err.startswith("clip: expected a frame"), "the first failure is the one to tell"
    assert err.count("expected") == 1


def test_the_help_says_what_is_measured_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert deblur_bench("latency", "--help") == 0
    said = " ".join(re.sub("[│╭╰─╮╯]", " ", capsys.readouterr().out).split())
    for default in ("edge; none with", "auto.", "1280x720.", "1."):
        assert f"Default: {default}" in said
