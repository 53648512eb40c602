"""All that only a GPU shows, in one run: the gpu tests, every model on every engine that
is here, and a whole video.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import av
from rich.table import Column, Table

from deblurgan.benchmarks.plans import EngineRun, measure_engine
from deblurgan.runtime.backends import NEED_GPU, NoEngine, open_backend
from deblurgan.runtime.console import Watch
from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import Golden, make_golden

DEBLUR_VIDEO = "from deblurgan.runtime.app import main; main()"
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class VideoRun:
    """A clip through ``deblur-video``, from the command to the finished file, with the plan
    at hand; ``seconds`` of wall time.
    """

    clip: str
    model: str
    backend: str
    frames: int
    seconds: float
    frames_a_second: float


@dataclass
class GpuRuns:
    """What was measured, why an engine is ``missing`` here, and what ``failed``."""

    engines: list[EngineRun] = field(default_factory=list)
    videos: list[VideoRun] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def measure_models(
    models: Sequence[Model],
    size: tuple[int, int],
    runs: int,
    clip: Path | None,
    watching: Callable[[str], AbstractContextManager[Watch]],
    tell: Callable[[str], None],
) -> GpuRuns:
    """Every model on every engine for GPUs, and the first model on ``clip``. What fails is
    told and kept, and does not lose the rest.
    """
    found = GpuRuns()
    # On the processor: what every engine has to make as well.
    goldens: dict[Path, Golden] = {}
    for given in models:
        for name in NEED_GPU:
            model = given.best_for(name)
            try:
                if model.path not in goldens:
                    goldens[model.path] = make_golden(model, *size)
                with watching("parts of the plan") as progress:
                    golden = goldens[model.path]
                    run = measure_engine(model, name, golden, runs, progress, tell)
                found.engines.append(run)
            except NoEngine as error:
                found.missing[name] = error.found
            except Exception as error:
                note(found, f"{model.path.name} on {name}", error, tell)
    if clip is not None:
        for name in dict.fromkeys(run.backend for run in found.engines):
            try:
                found.videos.append(measure_video(clip, models[0], name))
            except Exception as error:
                note(found, f"{clip.name} on {name}", error, tell)
    return found


def note(found: GpuRuns, what: str, error: Exception, tell: Callable[[str], None]) -> None:
    said = str(error) if isinstance(error, DeblurError) else f"{type(error).__name__}: {error}"
    found.failed[what] = said
    tell(f"{what}: {said}")


def measure_video(clip: Path, model: Model, name: str) -> VideoRun:
    """Raises :class:`DeblurError` where the command fails or loses a frame."""
    width, height, frames = read_clip(clip)
    # Builds the plan where there is none: the job is timed as it is the second time.
    engine = open_backend(model, width, height, name=name, overlap=True)
    engine.close()
    with tempfile.TemporaryDirectory(prefix="deblurgan-") as folder:
        out = Path(folder) / "sharp.mp4"
        options = ["--model", str(engine.model.path), "--backend", name, "--quiet"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", DEBLUR_VIDEO, str(clip), str(out), *options],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        written = read_clip(out)[2] if done.returncode == 0 else 0
    if written != frames:
        raise DeblurError(
            clip,
            expected=f"{frames} deblurred frames",
            found=f"{written}" if done.returncode == 0 else done.stderr.strip()[-500:],
            remedy=f"see what deblur-video {clip} OUT {' '.join(options[:-1])} says",
        )
    return VideoRun(clip.name, engine.model.path.name, name, frames, seconds, frames / seconds)


def read_clip(clip: Path) -> tuple[int, int, int]:
    """Width, height and how many frames."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height, sum(1 for _ in container.decode(stream))


def tables(found: GpuRuns) -> Iterator[Table]:
    table = Table(
        Column("model", no_wrap=True), "engine", "opened", "golden", "p50", "p99", "repeats",
        "frames/s", "in flight", "memory",
    )  # fmt: skip
    for run in found.engines:
        table.add_row(
            run.model,
            run.backend,
            f"{run.open_seconds:.0f} s",
            f"{run.largest} levels",
            f"{run.p50 * 1000:.2f} ms",
            f"{run.p99 * 1000:.2f} ms",
            "equal" if run.repeats_equal else "differ",
            f"{run.frames_a_second:.0f}",
            str(run.in_flight),
            "" if run.memory is None else f"{run.memory / MEGABYTE:,.0f} MB",
        )
    yield table
    if found.videos:
        table = Table("clip", "engine", "frames", "seconds", "frames/s")
        for video in found.videos:
            table.add_row(
                video.clip,
                video.backend,
                str(video.frames),
                f"{video.seconds:.2f}",
                f"{video.frames_a_second:.1f}",
            )
        yield table
