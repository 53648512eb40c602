"""A picture of what deblurring a video will do, before hours are spent on it."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from deblurgan.runtime import console
from deblurgan.runtime.before_after import compose
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image
from deblurgan.runtime.upright import Turn
from deblurgan.runtime.video.colour import check_colours
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.video_input import VideoInput

FRAMES = 3
WIDEST = 1920


def save_preview(path: Path, video: VideoInput, span: Span, deblurrer: Deblurrer) -> None:
    """A few frames from all over the span, before and after, with the detail that
    changes most under each, as one picture.
    """
    made = []
    for start in spread(video, span):
        console.check_interrupted()
        # Sound may last longer than the picture, and what is told of it be wrong.
        with suppress(DeblurError):
            made.append(show(*first_frame(video, Span(start)), deblurrer))
    if not made:
        made.append(show(*first_frame(video, span), deblurrer))
    # A clip may change its size.
    width = min(WIDEST, made[0].shape[1])
    save_image(path, np.vstack([of_width(width, picture) for picture in made])[:, :, ::-1])


def first_frame(video: VideoInput, span: Span) -> tuple[Frames, Turn]:
    """And how it is turned upright."""
    with VideoSource(video, span=span) as source:
        return next(iter(source)).pixels, source.turn


def show(blurred: Frames, turn: Turn, deblurrer: Deblurrer) -> Frames:
    return compose(turn(blurred), turn(deblurrer(blurred)))


def spread(video: VideoInput, span: Span) -> list[Fraction]:
    """Times in the middle of each of as many equal parts. Raises :class:`DeblurError` for
    colours that cannot be deblurred.
    """
    with VideoSource(video) as source:
        check_colours(video.name, source.colour)
        whole = Fraction(source.container.duration or 0, 1_000_000)
        frames = source.frame_count or FRAMES
    parts = max(1, min(FRAMES, frames))
    length = span.seconds_of(whole)
    return [span.start + length * (2 * part + 1) / (2 * parts) for part in range(parts)]


def of_width(width: int, picture: Frames) -> Frames:
    if picture.shape[1] == width:
        return picture
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
