"""The command line as a whole: help, and what it needs installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deblurgan.export.app import app
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime.console import run
from deblurgan.train.checkpoint import Checkpoint

Exported = tuple[Checkpoint, ExportReport]


@pytest.mark.parametrize(
    "command", ["onnx", "trt", "info", "ladder", "triton", "plans list", "plans clear"]
)
def test_every_command_helps_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, [*command.split(), "--help"]) == 0
    assert f"Example: deblur-export {command}" in capsys.readouterr().out


def test_info_and_plans_need_neither_torch_nor_onnx_and_onnx_names_the_extra(
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
    assert start("plans", "list").returncode == 0
    lacking = start("onnx", str(tmp_path / "best.safetensors"))
    assert lacking.returncode == 2
    assert 'pip install ".[export]" in the checkout' in lacking.stderr
