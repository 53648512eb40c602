"""Frames written to standard output, for the next program in a pipe."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from av import VideoFrame

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.disk import writing_to
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.video.codecs import EIGHT, TEN, TWELVE, Coding, for_size, nearest
from deblurgan.runtime.video.residual import Both, ResidualCoder
from deblurgan.runtime.video.source import Part, VideoSource
from deblurgan.runtime.video.streams import describe

STANDARD_OUTPUT = Path("standard output")


class PipeSink:
    """Writes frames as YUV4MPEG, in the source's own colours, or as ``raw`` RGB of 8 bits
    without any header; with a ``comparison`` before and after in one.
    """

    def __init__(
        self, source: VideoSource, *, raw: bool = False, comparison: Comparison | None = None
    ) -> None:
        check_standard_output()
        self.size = comparison.size if comparison else source.size
        self.encoder_name = "rgb24" if raw else "yuv4mpeg"
        self.left_out = [*source.left_out, *(describe(s) for s in source.passed_on)]
        self._raw, self._comparison = raw, comparison
        coding = for_size(Coding.of(source.pixel_format), self.size)
        pixel_format = "rgb24" if raw else nearest(coding, EIGHT + TEN + TWELVE)
        residual = ResidualCoder(source.colour, source.colour, pixel_format, source.size)
        self._coder = Both(residual, comparison) if comparison else residual
        self._written = 0
        self._output = av.open(
            "pipe:1",
            "w",
            format="rawvideo" if raw else "yuv4mpegpipe",
            # More than 8 bits are an extension that every reader of the format knows.
            options={"strict": "-1", "flush_packets": "1"},
        )
        rate = source.frame_rate
        self._stream = self._output.add_stream("rawvideo", rate)
        self._stream.width, self._stream.height = self.size
        self._stream.pix_fmt = pixel_format
        self._stream.time_base = self._tick = 1 / rate
        self._stream.codec_context.time_base = self._tick
        self._stream.codec_context.color_range = source.colour.range_tag
        if source.stream.sample_aspect_ratio:
            self._stream.codec_context.sample_aspect_ratio = source.stream.sample_aspect_ratio

    def missing(self) -> list[Part]:
        return [Part()]

    def write(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> None:
        if self._raw:
            shown: Any = self._comparison.compose(blurred, sharp) if self._comparison else sharp
            coded = VideoFrame.from_ndarray(shown, format="rgb24")
        else:
            coded = self._coder.code(frame, blurred, sharp)
        coded.pts, coded.time_base = self._written, Fraction(self._tick)
        self._written += 1
        with writing_to(STANDARD_OUTPUT):
            self._output.mux(self._stream.encode(coded))

    def flush(self) -> None: ...

    def commit(self, *, verify: bool = True) -> None:
        with writing_to(STANDARD_OUTPUT):
            self._output.mux(self._stream.encode(None))
            self._output.close()

    def __enter__(self) -> PipeSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(av.FFmpegError):  # whoever reads it may have left
            self._output.close()


def check_standard_output() -> None:
    """Raises :class:`DeblurError` where it is a terminal's."""
    if os.isatty(1):
        raise DeblurError(
            STANDARD_OUTPUT,
            expected="a pipe or a file",
            found="a terminal",
            remedy="write it like: deblur-video IN - | ffplay -",
        )
