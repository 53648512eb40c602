"""The main job: a blurred video in, the same video sharp out."""

from __future__ import annotations

from typing import Any

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.pipeline import StageClock, Watcher, run_pipeline
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource


def deblur_video(
    source: VideoSource,
    sink: VideoSink,
    backend: Backend,
    watch: Watcher | None = None,
    clock: StageClock | None = None,
    *,
    verify: bool = True,
) -> None:
    """Deblur every frame of ``source`` into ``sink``, and commit it.

    ``watch`` sees each frame before and after, in order; ``clock`` counts the time of
    the stages. Raises what
    :meth:`~deblurgan.runtime.video.sink.VideoSink.commit` does.
    """

    def place(item: Any) -> None:
        before, after = item.blurred.pixels, item.pixels
        sink.write(item.origin, before, after)
        if watch is not None:
            watch(before, after)

    for part in sink.missing():
        run_pipeline(source.frames(part), backend, place, clock)
        sink.flush()
    sink.commit(verify=verify)
