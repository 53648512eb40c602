"""One input's way to its output, as the command line goes it, and what is said of it."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.markup import escape

from deblurgan.runtime import console
from deblurgan.runtime.backends import Backend
from deblurgan.runtime.before_after import BeforeAfter
from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Model
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.flicker import FlickerMeter, TemporalError
from deblurgan.runtime.pictures import deblur_pictures, list_jobs
from deblurgan.runtime.pipeline import Frame, Watcher
from deblurgan.runtime.progress import FrameProgress
from deblurgan.runtime.report import RunReport, describe_run, tell_flicker
from deblurgan.runtime.sharpness import SharpFrames
from deblurgan.runtime.tiling.tiles import TiledBackend
from deblurgan.runtime.video.choice import mark_sharp
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.live import Latency, LiveFrames, interruptibly
from deblurgan.runtime.video.picture_sink import PictureSink
from deblurgan.runtime.video.pipe_sink import PipeSink
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.video_input import RawVideo, VideoInput, is_numbered
from deblurgan.runtime.video.workers import Made, Task, WorkerPool

STANDARD_OUTPUT = "-"
AnySink = VideoSink | PictureSink | PipeSink


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


@dataclass(frozen=True)
class Workers:
    """The engine of each of so many workers, as a report tells it."""

    engine: str
    in_flight: int
    memory: int | None = None

    @property
    def description(self) -> str:
        return f"{self.engine}, {self.in_flight} workers"


def run_on_video(job: Job, deblurrer: Deblurrer) -> RunReport:
    """Deblur it and say how it went."""
    # What is read once is kept as far as it came.
    live = LiveFrames(job.max_latency) if job.source.is_stream else None
    with open_source(job) as source, telling_what_is_kept(open_sink(job, source), job) as sink:
        # One frame after the other is sooner there, several are more a second.
        overlap = job.max_latency is None
        with watching_builds() as deblurrer.progress:
            engine = deblurrer.engine(*source.size, overlap=overlap, written=sink.size)
        say_engine(deblurrer.model, engine, source.size)
        # How large the tiles are hangs on the memory that is free just now.
        inner = engine.inner if isinstance(engine, TiledBackend) else engine
        finished = go_on(job, sink, deblurrer.model, inner.description)
        return run(job, deblurrer, engine, source, sink, live, finished)


def run_on_workers(job: Job, model: Model, pool: WorkerPool, *, is_alone: bool) -> RunReport:
    """The same with segments that workers make; unless it ``is_alone``, it shows no bar."""
    with open_source(job) as source, telling_what_is_kept(open_sink(job, source), job) as sink:
        if not isinstance(sink, VideoSink) or source.input.is_stream:
            raise DeblurError(
                "--workers, --ray",
                expected="a file, and another one to write",
                found=f"{job.source.name} to {job.target}",
                remedy="leave it out",
            )
        workers = Workers(pool.describe(source.size), pool.size)
        say_engine(model, workers, source.size)
        finished = go_on(job, sink, model, workers.engine)
        task = Task(
            source.input, source.identity, job.span, sink.layout, job.compare, job.keep_sharp,
            job.encoding.hardware,
        )  # fmt: skip
        sharp = 0
        total = source.frame_count
        with FrameProgress(total, None, finished, is_quiet=not is_alone) as progress:
            clock = progress.clock
            clock.workers = pool.size

            def take(number: int, made: Made) -> None:
                nonlocal sharp
                sink.take(number, made.content)
                clock.frames += made.frames - made.sharp
                clock.seconds["engine"] += made.seconds
                sharp += made.sharp
                progress.advance(made.frames)

            pool.make_all(task, sink.missing_numbers(), take)
            sink.commit(verify=job.verify)
        share = sharp / max(progress.done, 1) if job.keep_sharp else None
        return tell(job, model, workers, source, sink, progress, finished, sharp_share=share)


def run(
    job: Job,
    deblurrer: Deblurrer,
    engine: Backend,
    source: VideoSource,
    sink: AnySink,
    live: LiveFrames | None,
    finished: int,
) -> RunReport:
    sharp = SharpFrames() if job.keep_sharp else None
    flicker = FlickerMeter() if job.wants_report else None
    total = None if live else source.frame_count

    def sieve(frames: Iterator[Frame]) -> Iterator[Frame]:
        taken = frames if live is None else live.take(frames)
        return taken if sharp is None else mark_sharp(taken, sharp)

    def stop() -> None:
        source.stop()
        if live is not None:
            live.stop()

    with (
        FrameProgress(total, job.picture, finished) as progress,
        # What a camera has shown is kept: the first signal ends the recording.
        nullcontext() if live is None else console.stopping_with(stop),
        nullcontext() if live is None else closing(live),
    ):
        deblur_video(
            source,
            sink,
            engine,
            progress.watch if flicker is None else both(progress.watch, flicker.watch),
            progress.clock,
            sieve=sieve,
            written=(lambda _: None) if live is None else live.note_written,
            ahead=None if job.max_latency is None else 1,
            give_up=stop,
            verify=job.verify,
        )
    if live is not None and live.error is not None:
        job.warn(f"{job.source.name} broke off: {getattr(live.error, 'found', live.error)}")
    return tell(
        job,
        deblurrer.model,
        engine,
        source,
        sink,
        progress,
        finished,
        sharp_share=None if sharp is None else sharp.share,
        flicker=None if flicker is None else flicker.error,
        latency=live.latency if live is not None and job.source.is_live else None,
    )


def tell(
    job: Job,
    model: Model,
    engine: Backend | Workers,
    source: VideoSource,
    sink: AnySink,
    progress: FrameProgress,
    finished: int,
    *,
    sharp_share: float | None,
    flicker: TemporalError | None = None,
    latency: Latency | None = None,
) -> RunReport:
    """Say how it went, and give the same as a report."""
    manifest, words = getattr(sink, "manifest", None), []
    if manifest is not None and job.verify:
        count = f"{len(manifest.frames)} frames, {manifest.packets} packets of sound and subtitles"
        words.append(f"read again: {count}")
    if sharp_share is not None:
        words.append(f"{sharp_share:.0%} were sharp and passed by")
    if latency is not None:
        words.append(
            f"{latency.p50:.0f} ms late (99 %: {latency.p99:.0f}), {latency.dropped} dropped"
        )
    progress.say_result(job.target, "".join(f"; {word}" for word in words))
    names = job.source.name, job.target
    return replace(
        describe_run(names, model, engine, source.size, progress.clock, progress.seconds),
        verified=manifest is not None and job.verify,
        frames_of_earlier_runs=finished,
        packets_passed_on=0 if manifest is None else manifest.packets,
        encoder=sink.encoder_name,
        sharp_share=None if sharp_share is None else round(sharp_share, 4),
        flicker=tell_flicker(flicker),
        latency=latency,
        left_out=sink.left_out,
        warnings=job.warnings,
    )


def run_on_pictures(source: Path, target: Path, job: Job, deblurrer: Deblurrer) -> RunReport:
    """The same for a picture, or a folder of them."""
    jobs = list_jobs(source, target)
    with FrameProgress(len(jobs), job.picture) as progress:
        engine, size = deblur_pictures(jobs, deblurrer, progress.watch, progress.clock)
    progress.say_result(str(target))
    names = str(source), str(target)
    return describe_run(names, deblurrer.model, engine, size, progress.clock, progress.seconds)


def open_sink(job: Job, source: VideoSource) -> AnySink:
    """By the name of the output."""
    comparison = None if job.compare is None else Comparison(job.compare, *source.size)
    if job.target == STANDARD_OUTPUT:
        return PipeSink(source, raw=job.raw, comparison=comparison)
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
def telling_what_is_kept(sink: AnySink, job: Job) -> Iterator[AnySink]:
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


def go_on(job: Job, sink: AnySink, model: Model, engine: str) -> int:
    """The frames that an earlier run of the same job finished."""
    if not isinstance(sink, VideoSink) or not sink.keep:
        return 0
    finished = sink.go_on(
        {
            "version": version("deblurgan-edge"),
            "model": hashlib.sha256(model.path.read_bytes()).hexdigest(),
            "engine": engine,
            "comparison": str(job.compare),
            "choice of frames": str(job.keep_sharp),
        }
    )
    if finished:
        console.messages.print(f"going on after {finished} frames of an earlier run")
    return finished


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


def both(*watchers: Watcher) -> Watcher:
    def watch(*pair: Any) -> None:
        for watcher in watchers:
            watcher(*pair)

    return watch


def watching_builds() -> AbstractContextManager[console.Watch]:
    """A bar for plans, gone before the next one begins: older versions of rich show one."""
    return console.watching("% of the plan built", shown=not console.messages.quiet)


def say_of_input(job: Job, source: VideoSource) -> None:
    """What is special about a video; raises :class:`DeblurError` for HDR."""
    if source.colour.hdr:
        raise DeblurError(
            job.source.name,
            expected="standard dynamic range",
            found=f"HDR ({source.colour.hdr})",
            remedy="convert it first: ffmpeg -i FILE -vf "
            "zscale=t=linear:npl=100,tonemap=hable,zscale=p=bt709:t=bt709:m=bt709:r=tv,"
            "format=yuv420p -c:a copy SDR.mp4",
        )
    if not source.colour.is_known:
        raise DeblurError(
            job.source.name,
            expected="colours coded in the ways of BT.601, 709, 2020, 240M or FCC",
            found=f"matrix {source.colour.matrix} of H.273",
            remedy="convert it first: ffmpeg -i FILE -vf scale=out_color_matrix=bt709 "
            "-colorspace bt709 -c:a copy CONVERTED.mp4",
        )
    if source.is_interlaced:
        job.warn(
            "interlaced: both fields of a frame are deblurred as one picture, and marked as one; "
            "better first: ffmpeg -i FILE -vf bwdif=mode=send_field -c:a copy PROGRESSIVE.mp4"
        )


def say_engine(model: Model, engine: Backend | Workers, size: tuple[int, int]) -> None:
    console.messages.print(
        f"{escape(model.path.stem)} ({model.card.precision}) "
        f"on {escape(engine.description)}, {size[0]}x{size[1]}"
    )
