"""Frames written to standard output, for the next program in a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av import VideoFormat, VideoFrame
from numpy.typing import NDArray

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.console import signals_wake
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.disk import writing_to
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.upright import AS_STORED
from deblurgan.runtime.video.codecs import (
    EIGHT,
    RGB,
    TEN,
    TWELVE,
    Coding,
    for_size,
    nearest,
    transparency,
    what_is_lost,
)
from deblurgan.runtime.video.frame_sink import FrameSink
from deblurgan.runtime.video.residual import ComparisonCoder, ResidualCoder, planes
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.streams import describe
from deblurgan.runtime.video.video_input import RawVideo

STANDARD_OUTPUT = Path("standard output")
UNEVEN = 0.6  # of the time from frame to frame
APART = Fraction(1, 5)  # seconds between when a frame is due and when its reader shows it
RANGES = {1: " XCOLORRANGE=LIMITED", 2: " XCOLORRANGE=FULL"}


class PipeSink(FrameSink):
    """Writes frames as YUV4MPEG, in the source's own colours, or as ``raw`` RGB of 8 bits
    without any header; with a ``comparison`` before and after in one. ``warn`` is told what
    the user should know.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        raw: RawVideo | None = None,
        comparison: Comparison | None = None,
        warn: Callable[[str], None] = lambda _: None,
        descriptor: int = 1,
    ) -> None:
        self.size = comparison.size if comparison else source.size
        check_can_take(self.size, raw, descriptor)
        self.encoder_name = "rgb24" if raw else "yuv4mpeg"
        self.left_out = [*source.left_out, *(describe(s) for s in source.passed_on)]
        if comparison is None and source.turn != AS_STORED:
            self.left_out.append("rotation (the frames are as they are stored)")
        self._warn, self._rate, self._is_even = warn, source.frame_rate, True
        self._last: Fraction | None = None
        self._shown = Fraction(0)
        self._raw, self._comparison = raw is not None, comparison
        self._descriptor, self._has_begun = descriptor, False
        coding = for_size(Coding.of(source.pixel_format), self.size)
        pixel_format = nearest(coding, EIGHT + TEN + TWELVE)
        kept = RGB if raw else Coding.of(VideoFormat(pixel_format))
        self.left_out += [*what_is_lost(coding, kept), *transparency(source.pixel_format)]
        residual = ResidualCoder(source.colour, source.colour, pixel_format, source.size)
        self._coder = ComparisonCoder(residual, comparison) if comparison else residual
        aspect = source.stream.sample_aspect_ratio
        if comparison is not None:
            aspect = comparison.pixel_aspect(aspect)
        self._head = y4m_head(source, self.size, aspect, pixel_format)

    def write(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> None:
        self._check_time(frame)
        if self._raw:
            shown: Any = self._comparison.compose(blurred, sharp) if self._comparison else sharp
            self._write(np.ascontiguousarray(shown))
            return
        if not self._has_begun:
            self._write(np.frombuffer(self._head, np.uint8))
            self._has_begun = True
        parts = [
            np.frombuffer(b"FRAME\n", np.uint8),
            *rows(self._coder.code(frame, blurred, sharp)),
        ]
        self._write(np.concatenate(parts))

    def _check_time(self, frame: VideoFrame) -> None:
        """A pipe tells no times: whoever reads it shows one frame after the other."""
        now = Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
        if self._last is None:
            self._last, self._shown = now - 1 / self._rate, now - 1 / self._rate
        step, self._shown = (now - self._last) * self._rate, self._shown + 1 / self._rate
        if self._is_even and (abs(step - 1) > UNEVEN or abs(now - self._shown) > APART):
            self._is_even = False
            self._warn(
                f"frames do not follow each other evenly, from {float(now):.2f} s on: the pipe "
                f"has them {float(self._rate):g} a second, and sound would not fit"
            )
        self._last = now

    def _write(self, content: NDArray[np.uint8]) -> None:
        """Each frame goes out at once: FFmpeg's own writing would hold it back, and go on
        waiting for a reader whatever signal arrives.
        """
        left = content.data.cast("B")
        told = writing_to(STANDARD_OUTPUT, "look where it is redirected to")
        with told, signals_wake(None):
            while left:
                left = left[os.write(self._descriptor, left) :]


def y4m_head(
    source: VideoSource, size: tuple[int, int], aspect: Fraction | None, pixel_format: str
) -> bytes:
    """The header of YUV4MPEG; the range is FFmpeg's extension, as more than 8 bits are."""
    rate = source.frame_rate
    told = aspect.as_integer_ratio() if aspect else (0, 0)
    chroma, depth = pixel_format[3:6], VideoFormat(pixel_format).components[0].bits
    coding = f"{chroma}p{depth}" if depth > 8 else chroma.replace("420", "420jpeg")
    head = (
        f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate.numerator}:{rate.denominator}"
        f" I{'?' if source.is_interlaced else 'p'} A{told[0]}:{told[1]} C{coding}"
        f"{RANGES.get(source.colour.range_tag, '')}\n"
    )
    return head.encode()


def rows(frame: VideoFrame) -> Iterator[NDArray[np.uint8]]:
    """The bytes of each plane, without what pads its rows."""
    for plane, samples in zip(frame.planes, planes(frame), strict=True):
        kept: NDArray[Any] = samples[:, : plane.width]
        yield np.ascontiguousarray(kept).view(np.uint8).ravel()


def check_can_take(size: tuple[int, int], raw: RawVideo | None, descriptor: int) -> None:
    """Raises :class:`DeblurError` for frames of another size than was told, and a terminal."""
    if raw is not None and raw.size != size:
        raise DeblurError(
            "--raw",
            expected=f"the size of the frames that are written, {size[0]}x{size[1]}",
            found=f"{raw.size[0]}x{raw.size[1]}",
            remedy=f"write it like --raw {size[0]}x{size[1]}",
        )
    if os.isatty(descriptor):
        raise DeblurError(
            STANDARD_OUTPUT,
            expected="a pipe or a file",
            found="a terminal",
            remedy="write it like: deblur-video IN - | ffplay -",
        )
