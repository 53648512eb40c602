"""The main job: a blurred video in, the same video sharp out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.pipeline import DeblurredFrame, Frame, StageClock, Watcher, run_pipeline
from deblurgan.runtime.video.frame_sink import FrameSink
from deblurgan.runtime.video.source import VideoSource

# Looks at the frames on their way to the engine: marks some, leaves some out.
Sieve = Callable[[Iterator[Frame]], Iterator[Frame]]


def deblur_video(
    source: VideoSource,
    sink: FrameSink,
    backend: Backend,
    watch: Watcher | None = None,
    clock: StageClock | None = None,
    *,
    sieve: Sieve = iter,
    written: Callable[[Frame], None] = lambda _: None,
    ahead: int | None = None,
    give_up: Callable[[], None] = lambda: None,
    verify: bool = True,
) -> None:
    """Deblur every frame of ``source`` into ``sink``, and commit it.

    ``watch`` sees each frame before and after, in order; ``clock`` counts the time of
    the stages. The frames pass through ``sieve`` on their way to the engine, ``written``
    is told of each when it is; ``ahead`` and ``give_up`` as
    in :func:`~deblurgan.runtime.pipeline.run_pipeline`. Raises what the sink's methods do.
    """

    def place(item: DeblurredFrame) -> None:
        before, after = item.blurred.pixels, item.pixels
        sink.write(item.origin, before, after)
        written(item.blurred)
        if watch is not None:
            watch(before, after)

    for part in sink.missing():
        run_pipeline(
            sieve(source.frames(part)), backend, place, clock, ahead=ahead, give_up=give_up
        )
        sink.flush()
    sink.commit(verify=verify)
