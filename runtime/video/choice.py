"""Which frames of a video go through the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from deblurgan.runtime.pipeline import Frame
from deblurgan.runtime.sharpness import SharpFrames
from deblurgan.runtime.video.segment import segment_of


def mark_sharp(frames: Iterator[Frame], sharp: SharpFrames) -> Iterator[Frame]:
    """Frames that are sharp already are marked to pass by.

    Each segment begins anew: a run that goes on from one, or a worker that has only that,
    decides as any other would.
    """
    number = None
    for frame in frames:
        if number != (number := segment_of(frame.origin)):
            sharp.restart()
        yield replace(frame, is_sharp=sharp.keeps(frame.pixels))
