"""A video to be deblurred, as it was asked for: its source, its sink, what is said of both."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from rich.markup import escape

from deblurgan.runtime import console
from deblurgan.runtime.before_after import BeforeAfter
from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Model
from deblurgan.runtime.report import Engine
from deblurgan.runtime.tiling.fitting import Tile
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.colour import check_colours
from deblurgan.runtime.video.frame_sink import FrameSink
from deblurgan.runtime.video.live import interruptibly
from deblurgan.runtime.video.picture_sink import PictureSink
from deblurgan.runtime.video.pipe_sink import PipeSink
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.video_input import STANDARD_STREAM, RawVideo, VideoInput, is_numbered


@dataclass
class Job:
    """What is to be done with a video, as asked for; ``warnings`` are those of the run
    so far. ``target`` is a file, numbered pictures, or "-".
    """

    source: VideoInput
    target: str
    encoding: Encoding = field(default_factory=Encoding)
    span: Span = field(default_factory=Span)
    compare: str | None = None
    drop_streams: bool = False
    verify: bool = True
    resume: bool = True
    overwrite: bool = False
    raw: RawVideo | None = None
    keep_sharp: bool = False
    max_latency: float | None = None
    picture: BeforeAfter | None = None
    wants_report: bool = False
    warnings: list[str] = field(default_factory=list)

    def of_clip(self, clip: Path, target: Path) -> Job:
        """The same for one of several."""
        given = VideoInput.of_file(clip)
        return replace(self, source=given, target=str(target), warnings=[])

    def warn(self, line: str) -> None:
        self.warnings.append(line)
        console.say(line)


def open_source(job: Job) -> VideoSource:
    def open_it() -> VideoSource:
        return VideoSource(job.source, span=job.span, hardware=job.encoding.hardware, warn=job.warn)

    source = interruptibly(open_it) if job.source.is_live else open_it()
    try:
        say_of_input(job, source)
    except BaseException:
        source.close()
        raise
    return source


def open_sink(job: Job, source: VideoSource) -> FrameSink:
    """By the name of the output."""
    comparison = None if job.compare is None else Comparison(job.compare, *source.size, source.turn)
    if job.target == STANDARD_STREAM:
        return PipeSink(source, raw=job.raw, comparison=comparison, warn=job.warn)
    if is_numbered(job.target):
        first = int(job.source.options.get("start_number", "1"))
        return PictureSink(
            Path(job.target), source, first=first, overwrite=job.overwrite, comparison=comparison
        )
    return VideoSink(
        Path(job.target),
        source,
        job.encoding,
        comparison=comparison,
        drop_streams=job.drop_streams,
        keep=job.resume and not job.source.is_stream,
        warn=job.warn,
    )


@contextmanager
def telling_what_is_kept(sink: FrameSink, job: Job) -> Iterator[FrameSink]:
    """Open it; of a run that is stopped say what is finished, and how to go on."""
    try:
        with sink:
            if sink.left_out:
                job.warn(f"left out: {', '.join(sink.left_out)}")
            yield sink
    finally:
        if isinstance(sink, VideoSink) and sink.kept_seconds:
            console.say(
                f"{sink.kept_seconds} s of {Path(job.target).name} are finished; the same "
                f"command goes on from there: {shlex.join(['deblur-video', *sys.argv[1:]])}"
            )


def go_on(job: Job, sink: FrameSink, model: Model, engine: str, tile: Tile) -> int:
    """The frames that an earlier run of the same job finished."""
    if not isinstance(sink, VideoSink) or not sink.keep:
        return 0
    finished = sink.go_on(
        {
            "version": version("deblurgan-edge"),
            "model": hashlib.sha256(model.path.read_bytes()).hexdigest(),
            "engine": engine,
            "tile": str(tile),
            "comparison": str(job.compare),
            "choice of frames": str(job.keep_sharp),
        }
    )
    if finished:
        console.messages.print(f"going on after {finished} frames of an earlier run")
    return finished


def say_of_input(job: Job, source: VideoSource) -> None:
    """What is special about a video; raises :class:`DeblurError` for HDR."""
    check_colours(job.source.name, source.colour)
    if source.is_interlaced:
        job.warn(
            "interlaced: both fields of a frame are deblurred as one picture, and marked as one; "
            "better first: ffmpeg -i FILE -vf bwdif=mode=send_field -c:a copy PROGRESSIVE.mp4"
        )


def say_engine(model: Model, engine: Engine, size: tuple[int, int]) -> None:
    name, precision = model.path.stem, model.card.precision
    if not name.endswith(f"-{precision}"):
        name = f"{name} ({precision})"
    console.messages.print(f"{escape(name)} on {escape(engine.description)}, {size[0]}x{size[1]}")
