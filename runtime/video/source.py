"""A video file as a stream of frames to deblur and packets to pass on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av import Packet, VideoFrame

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.pipeline import Frame
from deblurgan.runtime.video.colour import Colour, ColourConverter
from deblurgan.runtime.video.reader import SpanReader
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.streams import describe, display_matrix


class VideoSource:
    """Opens a video and iterates over it in file order: :class:`Frame` for each picture,
    of the decoded ``VideoFrame`` with the times that it has in the output, and ``Packet``
    for what passes unchanged. ``size`` is (width, height).

    A ``span`` of it starts at the first frame not before its start; all times then
    count from there. ``warn`` is told what the user should know. Raises
    :class:`DeblurError` for what is not a video, or breaks off.
    """

    def __init__(
        self,
        path: Path,
        *,
        span: Span | None = None,
        hardware: str = "none",
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self.span, self.warn = path, span or Span(), warn
        self._reader, self._early, self._first = open_at_start(path, self.span, hardware, warn)
        self.container, self.stream = self._reader.container, self._reader.stream
        self.passed_on = self._reader.passed_on
        chosen = {self.stream.index, *(s.index for s in self.passed_on)}
        self.left_out = [describe(s) for s in self.container.streams if s.index not in chosen]
        first = self._first
        self.size = first.width, first.height
        self.pixel_format = first.format
        self.colour = Colour.of(first)
        self.is_interlaced = first.interlaced_frame
        self.display_matrix = display_matrix(first)
        self.converter = ColourConverter(self.colour, self.size)
        begin = self._reader.time_of(first) if self.span.start else None
        # What is taken off every time, in seconds.
        self.offset = begin or Fraction(0)
        self._last_pts: int | None = None
        self._warned = set[str]()

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick."""
        return self._reader.time_base

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second on average."""
        return self._reader.frame_rate

    @property
    def frame_count(self) -> int | None:
        """How many frames there are, where the file tells or lets it be estimated."""
        if self.span.is_whole and self.stream.frames:
            return self.stream.frames
        if self.container.duration:
            whole = Fraction(self.container.duration, 1_000_000)
            return round(self.span.seconds_of(whole) * self.frame_rate)
        return None

    def chapters(self) -> list[Any]:
        """With the times that they have in the span."""
        chapters: list[Any] = []
        for chapter in self.container.chapters():
            base = Fraction(chapter["time_base"] or 1)
            shift = self.offset / base
            start, end = (round(chapter[side] - shift) for side in ("start", "end"))
            last = None if self.span.duration is None else self.span.duration / base
            if end > 0 and (last is None or start < last):
                chapters.append({**chapter, "start": max(start, 0), "end": end})
        return chapters

    def __iter__(self) -> Iterator[Frame | Packet[Any]]:
        for packet in self._early:
            time = Fraction((packet.pts or 0) * packet.time_base)
            if not self.offset or time >= self.offset or packet.stream.type == "subtitle":
                yield self._shift(packet)
        yield self._to_deblur(self._first)
        for item in self._reader:
            yield self._to_deblur(item) if isinstance(item, VideoFrame) else self._shift(item)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shift(self, packet: Packet[Any]) -> Packet[Any]:
        if not self.offset:
            return packet
        shift = round(self.offset / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        if packet.stream.type == "subtitle" and packet.pts is not None and packet.pts < 0:
            packet.duration = (packet.duration or 0) + packet.pts
            packet.pts = packet.dts = 0
        return packet

    def _to_deblur(self, frame: VideoFrame) -> Frame:
        if (frame.width, frame.height) != self.size:
            self._warn_once(
                "size",
                f"frames of {frame.width}x{frame.height} from {frame.time or 0:.2f} s on: "
                f"scaled to {self.size[0]}x{self.size[1]}, like the first",
            )
        time_base = frame.time_base or self.time_base
        duration = frame.duration or round(1 / self.frame_rate / time_base)
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is not None:
            pts -= round(self.offset / time_base)
        if self._last_pts is not None and (pts is None or pts <= self._last_pts):
            # No container takes two frames at one time; the later one waits a tick,
            # or its turn where the file tells no time at all.
            self._warn_once("time", "frames without a time of their own are shown after the last")
            pts = self._last_pts + (1 if pts is not None else duration)
        self._last_pts = pts = pts or 0
        frame.pts, frame.duration, frame.time_base = pts, duration, time_base
        return Frame(self.converter.to_rgb(frame), frame)

    def _warn_once(self, about: str, line: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            self.warn(line)


def open_at_start(
    path: Path, span: Span, hardware: str, warn: Callable[[str], None]
) -> tuple[SpanReader, list[Packet[Any]], VideoFrame]:
    """A reader that has found the first frame, with the packets before it and that frame."""
    reader = SpanReader(path, span, seek=bool(span.start), hardware=hardware, warn=warn)
    try:
        early, first = reader.until_frame()
        if span.start and (first is None or reader.is_late(first)):
            # Not every file can be searched to the very picture; it can be read to it.
            reader.close()
            reader = SpanReader(path, span, seek=False, hardware=hardware)
            early, first = reader.until_frame()
            reader.warn = warn
        if first is None:
            raise nothing_in(path, span, reader)
    except BaseException:
        reader.close()
        raise
    return reader, early, first


def nothing_in(path: Path, span: Span, reader: SpanReader) -> DeblurError:
    if span.is_whole:
        return DeblurError(
            path,
            expected="a video",
            found="a video stream without frames",
            remedy="check the file with: ffprobe FILE",
        )
    seconds = Fraction(reader.container.duration or 0, 1_000_000)
    return DeblurError(
        "--start" if span.start else "--duration",
        expected=f"a part with frames of the video, which lasts {float(seconds):.2f} s",
        found=f"none from {float(span.start):.2f} s on",
        remedy="name an earlier start, or a longer duration",
    )
