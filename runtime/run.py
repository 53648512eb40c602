"""One process deblurs one input, and says how it went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from deblurgan.runtime import console
from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import Model
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.flicker import FlickerMeter, TemporalError
from deblurgan.runtime.job import (
    Job,
    go_on,
    open_sink,
    open_source,
    say_engine,
    telling_what_is_kept,
)
from deblurgan.runtime.pictures import deblur_pictures, list_jobs
from deblurgan.runtime.pipeline import Frame, Watcher
from deblurgan.runtime.progress import FrameProgress
from deblurgan.runtime.report import Engine, RunReport, describe_run
from deblurgan.runtime.sharpness import SharpFrames
from deblurgan.runtime.tiling.tiles import untiled
from deblurgan.runtime.video.choice import mark_sharp
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.frame_sink import FrameSink
from deblurgan.runtime.video.live import Latency, LiveFrames
from deblurgan.runtime.video.source import VideoSource


def run_on_video(job: Job, deblurrer: Deblurrer) -> RunReport:
    """Deblur it and say how it went."""
    # What is read once is kept as far as it came.
    live = LiveFrames(job.max_latency) if job.source.is_stream else None
    with open_source(job) as source, ExitStack() as opened:
        if job.picture is not None:
            job.picture.turn = source.turn
        with console.signals_wait():
            sink = opened.enter_context(telling_what_is_kept(open_sink(job, source), job))
        # One frame after the other is sooner there, several are more a second.
        overlap = job.max_latency is None
        with watching_builds() as deblurrer.progress:
            engine = deblurrer.engine(*source.size, overlap=overlap, written=sink.size)
        say_engine(deblurrer.model, engine, source.size)
        finished = go_on(job, sink, deblurrer.model, untiled(engine).description, deblurrer.tile)
        report = run(job, deblurrer, engine, source, sink, live, finished)
        with console.signals_wait():
            opened.close()
        return report


def run_on_pictures(source: Path, target: Path, job: Job, deblurrer: Deblurrer) -> RunReport:
    """The same for a picture, or a folder of them."""
    jobs = list_jobs(source, target)
    with FrameProgress(len(jobs), job.picture) as progress:
        outcome = deblur_pictures(jobs, deblurrer, progress.watch, progress.clock)
    failed = outcome.failed
    names = ", ".join(path.name for path in failed)
    progress.say_result(str(target), f"; {len(failed)} failed: {names}" if failed else "")
    report = describe_run(
        (str(source), str(target)),
        deblurrer.model, outcome.engine, outcome.size, progress.clock, progress.seconds,
    )  # fmt: skip
    return replace(report, failed=list(failed.values()), left_out=outcome.left_out)


def run(
    job: Job,
    deblurrer: Deblurrer,
    engine: Backend,
    source: VideoSource,
    sink: FrameSink,
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
    engine: Engine,
    source: VideoSource,
    sink: FrameSink,
    progress: FrameProgress,
    finished: int,
    *,
    sharp_share: float | None,
    flicker: TemporalError | None = None,
    latency: Latency | None = None,
) -> RunReport:
    """Say how it went, and give the same as a report."""
    manifest, words = sink.manifest, list[str]()
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
        flicker=flicker,
        latency=latency,
        left_out=sink.left_out,
        warnings=job.warnings,
    )


def both(*watchers: Watcher) -> Watcher:
    def watch(*pair: Any) -> None:
        for watcher in watchers:
            watcher(*pair)

    return watch


def watching_builds() -> AbstractContextManager[console.Watch]:
    """A bar for plans, gone before the next one begins: older versions of rich show one."""
    return console.watching("% of the plan built", shown=not console.messages.quiet)
