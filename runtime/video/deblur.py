"""The main job: a blurred video in, the same video sharp out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.pipeline import DeblurredFrame, Watcher, run_pipeline
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource


@dataclass(frozen=True)
class VideoReport:
    """What a run did; times in seconds, ``engine_seconds`` summed over its threads."""

    frames: int
    seconds: float
    engine_seconds: float


def deblur_video(
    source: VideoSource, sink: VideoSink, backend: Backend, watch: Watcher | None = None
) -> VideoReport:
    """Deblur every frame of ``source`` into ``sink``, and commit it.

    ``watch`` sees each frame before and after, in order.
    """
    start = time.monotonic()

    def place(item: Any) -> None:
        if not isinstance(item, DeblurredFrame):
            sink.pass_on(item)
            return
        sharp = item.pixels
        sink.write(item.origin, sharp)
        if watch is not None:
            watch(item.blurred.pixels, sharp)

    clock = run_pipeline(source, backend, place)
    sink.commit()
    return VideoReport(clock.frames, time.monotonic() - start, clock.seconds)
