"""``deblur-bench speed``: the engine next to the paper's generator in PyTorch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from deblurgan.benchmarks.commands.options import (
    BackendOption,
    JsonOption,
    ModelOption,
    check_json_target,
    output,
)
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import backends, console
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.model_store import DEFAULT


def speed_command(
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Frame size.")] = "1280x720",
    model: ModelOption = DEFAULT,
    backend: BackendOption = backends.AUTO,
    json_file: JsonOption = None,
) -> None:
    """The engine's frames a second next to the paper's generator in PyTorch.

    Example: deblur-bench speed --size 640x360
    """
    console.require("bench", "torch")
    from deblurgan.benchmarks.speed import compare_with_paper

    check_json_target(json_file)
    width, height = console.parse_size(size)
    with Deblurrer(model, backend=backend) as deblurrer:
        engine = deblurrer.engine(width, height, overlap=True)
        result = compare_with_paper(engine, width, height)
        output.print(
            f"{width}x{height}: {engine.model.path.stem} on {engine.description} "
            f"{result.engine_seconds:.3f} s a frame, the paper's generator in PyTorch "
            f"{result.paper_seconds:.2f} s: {result.ratio:.1f} times as fast"
        )
    of = {"model": engine.model.path.stem, "precision": engine.model.card.precision}
    write_result(json_file, "speed", {**of, "engine": engine.description, **asdict(result)})
