"""Encoding segments: frames and what deblurring made of them in, coded packets out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import VideoFrame
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.disk import writing_to
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.upright import AS_STORED
from deblurgan.runtime.video.codecs import Encoder, repeatable, taking_turns
from deblurgan.runtime.video.colour import Colour
from deblurgan.runtime.video.residual import ComparisonCoder, ResidualCoder
from deblurgan.runtime.video.segment import Segment, SegmentWriter, digest_of, segment_of
from deblurgan.runtime.video.source import VideoSource


@dataclass(frozen=True)
class VideoLayout:
    """How the video stream of an output is written: what of it the encoder decides about,
    and what it has of the source's.
    """

    encoder: Encoder
    size: tuple[int, int]
    colour: Colour
    time_base: Fraction
    frame_rate: Fraction
    pixel_aspect: Fraction | None
    display_matrix: list[int] | None
    container: str

    @classmethod
    def of(
        cls, source: VideoSource, encoder: Encoder, comparison: Comparison | None, container: str
    ) -> VideoLayout:
        """With a ``comparison`` that of its pictures, which are upright."""
        aspect, matrix = source.stream.sample_aspect_ratio, source.display_matrix
        if comparison is not None:
            aspect = comparison.pixel_aspect(aspect)
            matrix = None if comparison.turn != AS_STORED else matrix
        colour = source.colour.limited() if encoder.codec == "prores" else source.colour
        return cls(
            encoder, comparison.size if comparison else source.size, colour,
            source.time_base, source.frame_rate, aspect, matrix, container,
        )  # fmt: skip

    @property
    def lost(self) -> list[str]:
        """What the output will not tell of the source: Matroska, as PyAV writes it, has the
        shape of pixels from the codec's own headers alone.
        """
        is_told = self.container in ("mp4", "mov") or self.encoder.codec in ("h264", "hevc")
        if is_told or self.pixel_aspect in (None, 1):
            return []
        shape = f"{self.pixel_aspect.numerator}:{self.pixel_aspect.denominator}"
        return [
            f"the shape of pixels ({shape}), not told with {self.encoder.codec} in this container"
        ]

    def open_encoder(self) -> VideoCodecContext:
        """An encoder of its own; raises :class:`DeblurError` for settings that it refuses."""
        context = av.CodecContext.create(self.encoder.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.options = self.encoder.options | repeatable(self.encoder.name)
        self.set_up(context)
        return context

    def set_up(self, context: VideoCodecContext) -> None:
        """Describe the stream to an encoder, and open it."""
        context.width, context.height = self.size
        context.pix_fmt = self.encoder.pixel_format
        if self.encoder.tag is not None and self.container in ("mp4", "mov"):
            context.codec_tag = self.encoder.tag
        # Ticks of the input: nothing is rounded before the container does it.
        context.time_base, context.framerate = self.time_base, self.frame_rate
        context.flags |= Flags.frame_duration | Flags.global_header
        context.thread_count = self.encoder.threads
        colour = self.colour
        context.colorspace, context.color_range = colour.matrix, colour.range_tag
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if self.pixel_aspect:
            context.sample_aspect_ratio = self.pixel_aspect
        try:
            with taking_turns():
                context.open(strict=False)
        except av.FFmpegError:
            options = ", ".join(f"{name} {value}" for name, value in self.encoder.options.items())
            raise DeblurError(
                "--codec",
                expected=f"settings that {self.encoder.name} takes",
                found=f"{self.size[0]}x{self.size[1]}, {options}, which it refuses",
                remedy="leave --preset and --quality out, or choose another --codec",
            ) from None


class SegmentEncoder:
    """Encodes frame after frame into segments of ``output``, each begun by ``begin`` with its
    number and reported to ``done`` when it is whole; frames have to come in their order.
    """

    def __init__(
        self,
        output: Path,
        layout: VideoLayout,
        source: VideoSource,
        comparison: Comparison | None,
        begin: Callable[[int], SegmentWriter],
        done: Callable[[int, Segment], None],
    ) -> None:
        residual = ResidualCoder(
            source.colour, layout.colour, layout.encoder.pixel_format, source.size
        )
        self._output = output
        self._coder = ComparisonCoder(residual, comparison) if comparison else residual
        self._layout, self._begin, self._done = layout, begin, done
        self._number: int | None = None
        self._last: VideoFrame | None = None

    def encode(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> None:
        """A decoded frame, and RGB uint8 ``[height, width, 3]`` of before and after."""
        number = segment_of(frame)
        if number != self._number:
            self.flush()
            self._writer = self._begin(number)
            self._number, self._context = number, self._layout.open_encoder()
        coded = self._coder.code(frame, blurred, sharp)
        coded.pts, coded.duration, coded.time_base = frame.pts, frame.duration, frame.time_base
        self._last = frame
        self._write(coded)

    def flush(self) -> None:
        """Finish the segment that is begun, if one is."""
        if self._number is None or self._last is None:
            return
        self._write(None)
        header = bytes(self._context.extradata or b"")
        with writing_to(self._output):
            segment = self._writer.close(header, digest_of(self._last))
        number, self._number, self._last = self._number, None, None
        del self._context
        self._done(number, segment)

    def abort(self) -> None:
        """Leave the segment that is begun unfinished."""
        if self._number is not None:
            self._writer.abort()
            self._number = None

    def _write(self, coded: VideoFrame | None) -> None:
        packets = self._context.encode(coded)
        with writing_to(self._output):
            for packet in packets:
                self._writer.add(packet)
