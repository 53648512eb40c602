"""The main job: a blurred video in, the same video sharp out."""

from __future__ import annotations

from typing import Any

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.pipeline import DeblurredFrame, EngineClock, Watcher, run_pipeline
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource


def deblur_video(
    source: VideoSource,
    sink: VideoSink,
    backend: Backend,
    watch: Watcher | None = None,
    clock: EngineClock | None = None,
) -> None:
    """Deblur every frame of ``source`` into ``sink``, and commit it.

    ``watch`` sees each frame before and after, in order; ``clock`` counts the
    engine's time.
    """

    def place(item: Any) -> None:
        if not isinstance(item, DeblurredFrame):
            sink.pass_on(item)
            return
        sharp = item.pixels
        sink.write(item.origin, sharp)
        if watch is not None:
            watch(item.blurred.pixels, sharp)

    run_pipeline(source, backend, place, clock)
    sink.commit()
