"""``deblur-bench``: how good and how fast a model is on this machine."""

from __future__ import annotations

from deblurgan.benchmarks.commands.curves import curves_command
from deblurgan.benchmarks.commands.detection import detection_command
from deblurgan.benchmarks.commands.gate import gate_command
from deblurgan.benchmarks.commands.gpu import gpu_command
from deblurgan.benchmarks.commands.latency import latency_command
from deblurgan.benchmarks.commands.quality import quality_command
from deblurgan.benchmarks.commands.report import report_command
from deblurgan.benchmarks.commands.speed import speed_command
from deblurgan.benchmarks.commands.training import training_command
from deblurgan.benchmarks.commands.video import video_command
from deblurgan.runtime.console import new_program, run

app = new_program("Measure how good and how fast a model is on this machine.")
app.command("quality", no_args_is_help=True)(quality_command)
app.command("detection", no_args_is_help=True)(detection_command)
app.command("speed")(speed_command)
app.command("latency")(latency_command)
app.command("video", no_args_is_help=True)(video_command)
app.command("training", no_args_is_help=True)(training_command)
app.command("gate", no_args_is_help=True)(gate_command)
app.command("gpu")(gpu_command)
app.command("report", no_args_is_help=True)(report_command)
app.command("curves", no_args_is_help=True)(curves_command)


def main() -> None:
    raise SystemExit(run(app))
