"""``deblur-bench video``: the whole video job next to its parts, and its flicker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from deblurgan.benchmarks.video import VideoJob


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
    """The whole video job's wall time next to what its parts cost alone, and what flickers.

    Flicker is what changes from frame to frame without having moved, in levels of 255.

    Example: deblur-bench video clip.mp4 --frames 50
    """
    console.require("bench", "torch")
    from deblurgan.benchmarks.video import as_figures, measure

    check_json_target(json_file)
    with Deblurrer(model, backend=backend, threads=threads) as deblurrer:
        job = measure(clip, deblurrer, frames)
    output.print(say(job))
    write_result(json_file, "video", as_figures(job))


def say(job: VideoJob) -> str:
    temporal = "no two frames that could be compared"
    if job.temporal is not None:
        temporal = (
            f"{job.temporal.input:.2f} levels before, {job.temporal.output:.2f} after "
            f"({job.temporal.ratio_for_contrast:.3f} times, but for its steeper edges)"
        )
    return (
        f"{job.frames} frames in {job.wall:.2f} s on {job.cores} cores: "
        f"{job.frames_a_second:.3g} frames/s, engine-bound {job.engine_bound:.0%}\n"
        f"alone, in CPU seconds: decode {job.decode:.2f}, engine {job.engine:.2f}, encode "
        f"{job.encode:.2f}; together {job.ratio:.3f} of the ideal\n"
        f"frames from memory without an encoder: {job.in_memory:.1%} of the engine's own rate\n"
        f"flicker: {temporal}"
    )
