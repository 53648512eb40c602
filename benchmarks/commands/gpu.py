"""``deblur-bench gpu``: all that only a GPU shows."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deblurgan.benchmarks.commands.options import (
    JsonOption,
    check_json_target,
    output,
)
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import console
from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT, find_model


def gpu_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|CHECKPOINT",
            help="Models by name or file, and checkpoints, which are taken in every precision. "
            "Default: the model that is shipped.",
        ),
    ] = None,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Frame size.")] = "1280x720",
    runs: Annotated[int, typer.Option(min=1, help="Runs to time of each plan.")] = 200,
    tests: Annotated[
        Path | None,
        typer.Option(metavar="CHECKOUT", help="Run the tests marked gpu of a checkout first."),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(metavar="CLIP", help="Also deblur a video, with the first of the models."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """All that only a GPU shows: the gpu tests, then every model on every engine for GPUs, its
    plan built, its picture verified, frames timed one at a time and in flight; and a video.

    Ends with 1 when a test, a model or the video fails, or no engine is here.

    Example: deblur-bench gpu train/checkpoints/edge.safetensors --tests .
    --clip examples/shaky.mp4 --json gpu.json
    """
    from deblurgan.benchmarks.gpu import measure_models, tables
    from deblurgan.benchmarks.plans import export_all, require_gpu, run_gpu_tests

    check_json_target(json_file)
    width, height = console.parse_size(size)
    device = require_gpu()
    if clip is not None and not clip.is_file():
        raise DeblurError(
            clip, expected="a video", found="no such file", remedy="check the path, or leave it out"
        )
    tested = None if tests is None else run_gpu_tests(tests)
    with tempfile.TemporaryDirectory(prefix="deblurgan-") as folder:
        chosen: list[Model] = []
        for name in models or [DEFAULT]:
            is_checkpoint = Path(name).suffix in (".safetensors", ".pth", ".h5")
            chosen += export_all(Path(name), Path(folder)) if is_checkpoint else [find_model(name)]
        found = measure_models(
            chosen, (width, height), runs, clip, console.watching, console.complain
        )
    output.print(f"{device.description}, {width}x{height}")
    for table in tables(found):
        output.print(table)
    for reason in found.missing.values():
        output.print(f"missing: {reason}")
    if tested is not None:
        output.print(f"tests: {tested.said}")
    result = {
        "device": asdict(device),
        "size": [width, height],
        "tests": tested and asdict(tested),
        **asdict(found),
    }
    write_result(json_file, "gpu", result)
    if found.failed or not found.engines or (tested is not None and not tested.passed):
        raise typer.Exit(console.OUR_FAILURE)
