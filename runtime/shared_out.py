"""Workers deblur the segments of a video, and this process puts them together."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from deblurgan.runtime import console
from deblurgan.runtime.contract import Model
from deblurgan.runtime.job import (
    Job,
    go_on,
    open_sink,
    open_source,
    say_engine,
    telling_what_is_kept,
)
from deblurgan.runtime.progress import FrameProgress
from deblurgan.runtime.report import RunReport
from deblurgan.runtime.run import tell
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.workers import Made, Task, WorkerPool


@dataclass(frozen=True)
class Workers:
    """The engine of each of so many workers, as a report tells it."""

    engine: str
    in_flight: int
    memory: int | None = None

    @property
    def description(self) -> str:
        return f"{self.engine}, {self.in_flight} workers"


def run_on_workers(job: Job, model: Model, pool: WorkerPool, *, is_alone: bool) -> RunReport:
    """The same with segments that workers make; unless it ``is_alone``, it shows no bar."""
    with open_source(job) as source, ExitStack() as opened:
        with console.signals_wait():
            sink = opened.enter_context(telling_what_is_kept(open_sink(job, source), job))
        assert isinstance(sink, VideoSink), "others are refused before"
        task = Task(
            source.input, source.identity, source.size, job.span, sink.layout, job.compare,
            job.keep_sharp, job.encoding.hardware,
        )  # fmt: skip
        description, card = pool.describe(task)
        task = replace(task, weights=card.weights_sha256)
        workers, model = Workers(description, pool.size), model.in_precision(card.precision)
        say_engine(model, workers, source.size)
        finished = go_on(job, sink, model, workers.engine, pool.settings.tile)
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
        report = tell(job, model, workers, source, sink, progress, finished, sharp_share=share)
        with console.signals_wait():
            opened.close()
        return report
