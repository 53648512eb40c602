from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.export.app import app, parse_size
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime import DeblurError
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import open_model
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
        (["--precision", "fp64"], "fp32, fp16"),
        (["--skip", "add"], "clamp, average, none"),
        (["--statistics", "batch"], "image, tracked"),
        (["-o", "no/such/folder/model.onnx"], "mkdir -p"),
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


def test_a_missing_checkpoint_and_a_foreign_file_exit_with_2(
    tmp_path: Path, negative: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["onnx", str(tmp_path / "missing.safetensors")]) == 2
    text = tmp_path / "notes.onnx"
    text.write_text("not a model")
    assert run(app, ["info", str(text)]) == 2
    assert "deblur-export onnx" in capsys.readouterr().err
    assert run(app, ["info", str(negative)]) == 0


@pytest.mark.parametrize("command", ["onnx", "info"])
def test_every_command_helps_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, [command, "--help"]) == 0
    assert f"Example: deblur-export {command}" in capsys.readouterr().out


def test_info_needs_neither_torch_nor_onnx_and_onnx_names_the_extra(
    edge_fp32: Exported, tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'safetensors'): sys.modules[name] = None\n"
        "import deblurgan.export\n"
        "from deblurgan.export.app import app, run\n"
        "sys.exit(run(app))\n"
    )

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    info = start("info", str(edge_fp32[1].path))
    assert (info.returncode, info.stderr) == (0, "")
    assert "edge" in info.stdout
    lacking = start("onnx", str(tmp_path / "best.safetensors"))
    assert lacking.returncode == 2
    assert 'pip install ".[export]" in the checkout' in lacking.stderr


@given(st.integers(1, 99999), st.integers(1, 99999))
def test_sizes_are_read_as_written(width: int, height: int) -> None:
    assert parse_size(f"{width}x{height}") == (width, height)


@given(st.text())
def test_anything_else_is_no_size(text: str) -> None:
    try:
        width, height = parse_size(text)
    except DeblurError:
        return
    assert text.lower() == f"{width}x{height}"


@pytest.mark.parametrize("content", [None, "", "{}", '{"mean": 3}', "[]"])
def test_quality_that_is_none_is_refused(
    content: str | None, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    if content is not None:
        figures.write_text(content)
    assert run(app, ["onnx", str(saved), "--quality", str(figures)]) == 2
    assert "expected figures that deblur-bench wrote" in capsys.readouterr().err
