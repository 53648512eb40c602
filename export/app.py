"""``deblur-export``: checkpoints to model files and plans, and what these say of themselves."""

from __future__ import annotations

from deblurgan.export.commands.info import info_command
from deblurgan.export.commands.ladder import ladder_command
from deblurgan.export.commands.onnx import onnx_command
from deblurgan.export.commands.plans import plans_app
from deblurgan.export.commands.triton import triton_command
from deblurgan.export.commands.trt import trt_command
from deblurgan.runtime.console import new_program, run

app = new_program(
    "Turns checkpoints into model files: one ONNX file with frames in and frames out, "
    "checked against PyTorch before it gets its name; and model files into TensorRT plans. "
    "Exit status: 0 done, 2 bad input, 1 a failure of ours."
)
app.command("onnx", no_args_is_help=True)(onnx_command)
app.command("trt", no_args_is_help=True)(trt_command)
app.command("info", no_args_is_help=True)(info_command)
app.command("ladder", no_args_is_help=True)(ladder_command)
app.command("triton", no_args_is_help=True)(triton_command)
app.add_typer(plans_app, name="plans", no_args_is_help=True)


def main() -> None:
    """The entry point of ``deblur-export``."""
    raise SystemExit(run(app))
