"""``deblur-bench video``: the whole video job next to its parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deblurgan.benchmarks.commands.results import (
    BackendOption,
    JsonOption,
    ModelOption,
    check_json_target,
    output,
    write_result,
)
from deblurgan.runtime import backends, console
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.model_store import DEFAULT


def video_command(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video.")],
    frames: Annotated[int, typer.Option(min=1, help="How many of its frames.")] = 100,
    model: ModelOption = DEFAULT,
    backend: BackendOption = backends.AUTO,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a CPU engine; all by default.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """The whole video job's wall time next to what its parts cost alone.

    Example: deblur-bench video clip.mp4 --frames 50
    """
    console.require("bench", "torch")
    from deblurgan.benchmarks.video import measure

    check_json_target(json_file)
    with Deblurrer(model, backend=backend, threads=threads) as deblurrer:
        result = measure(clip, deblurrer, frames)
    output.print(
        f"{result.frames} frames: decode {result.decode:.2f}, engine {result.engine:.2f}, "
        f"encode {result.encode:.2f} CPU seconds alone; {result.wall:.2f} s together on "
        f"{result.cores} cores: {result.ratio:.3f} of the ideal; frames from memory without an "
        f"encoder at {result.in_memory:.1%} of the engine's own rate"
    )
    write_result(json_file, "video", {**asdict(result), "ratio": result.ratio})
