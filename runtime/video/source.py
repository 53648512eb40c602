"""A video file as a stream of frames to deblur and packets to pass on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import floor
from pathlib import Path
from typing import Any

from av import Packet, VideoFrame

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.pipeline import Frame
from deblurgan.runtime.upright import Turn
from deblurgan.runtime.video.colour import Colour, ColourConverter
from deblurgan.runtime.video.frame_reader import (
    BROADCASTS,
    FrameReader,
    jumps_back,
    two_clocks,
)
from deblurgan.runtime.video.packet_reader import read_last_time, read_packets
from deblurgan.runtime.video.segment import LENGTH, Summary, digest_of, segment_of
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.streams import (
    describe,
    display_matrix,
    earliest,
    has_captions,
    is_written_anew,
    passed_on,
)
from deblurgan.runtime.video.video_input import VideoInput

CAPTIONS = "closed captions, which lie among the pictures"


@dataclass(frozen=True)
class Part:
    """Segments from number ``begin`` to before ``end``, None for all; ``before`` is the
    segment in front of them, where it is known.
    """

    begin: int | None = None
    end: int | None = None
    before: Summary | None = None


class VideoSource:
    """Opens a video and iterates over its frames: :class:`Frame` of the decoded
    ``VideoFrame`` with the times that it has in the output. ``size`` is (width, height).

    A ``span`` of it starts at the first frame not before its start; all times then
    count from there. ``warn`` is told what the user should know. Raises
    :class:`DeblurError` for what is not a video, or breaks off.
    """

    def __init__(
        self,
        given: Path | VideoInput,
        *,
        span: Span | None = None,
        hardware: str = "none",
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.input = VideoInput.of_file(given) if isinstance(given, Path) else given
        self.span, self.warn, self._hardware = span or Span(), warn, hardware
        self.identity = self.input.identity()
        self._reader, self._first = open_at_start(self.input, self.span, hardware, warn)
        self.container, self.stream = self._reader.container, self._reader.stream
        # What is read once has its sound in between, where nothing waits for it.
        self.passed_on = [] if self.input.is_stream else passed_on(self.container)
        chosen = {self.stream.index, *(s.index for s in self.passed_on)}
        others = [s for s in self.container.streams if s.index not in chosen]
        self.left_out = [describe(s) for s in others]
        self.written_anew = [describe(s) for s in others if is_written_anew(s, self.stream)]
        first = self._first
        self._has_captions = has_captions(first)
        if self._has_captions:
            self.left_out.append(CAPTIONS)
        self.size = first.width, first.height
        self.pixel_format = first.format
        self.colour = Colour.of(first)
        self.is_interlaced = first.interlaced_frame
        self.display_matrix = display_matrix(first)
        self.turn = Turn.of(self.display_matrix)
        self.converter = ColourConverter(self.colour, self.size)
        self._begin = self._reader.time_of(first)
        # What is taken off every time, in seconds.
        self.offset = Fraction(0)
        if self.span.start or self.input.is_stream:
            self.offset = self._begin or Fraction(0)
        elif self.container.format.name in BROADCASTS:
            # Their clock stands anywhere, and a file would have to wait for it.
            begins = [earliest([self.stream, *self.passed_on]), self._begin]
            self.offset = min(begin for begin in begins if begin is not None)
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

    @property
    def end(self) -> Fraction | None:
        """When the last frame has been shown, in seconds of the output, where the file tells.

        In MP4 packets tell how long the next one is waited for in the order of decoding: with
        B-frames, the frame that is shown last may have the length of an earlier pause.
        """
        is_mp4 = "mp4" in self.container.format.name
        if self.span.duration is not None or not (
            is_mp4 and self.stream.codec_context.has_b_frames
        ):
            return None
        if not self.stream.duration:
            return None
        return self._reader.begin + self.stream.duration * self.time_base - self.offset

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

    def __iter__(self) -> Iterator[Frame]:
        return self.frames(Part())

    def frames(self, part: Part) -> Iterator[Frame]:
        """Those of a part alone; of one that holds the first frame only once."""
        reader, frames = self._open_at(part)
        try:
            for frame in frames:
                self._set_times(frame)
                number = segment_of(frame)
                if part.end is not None and number >= part.end:
                    return
                if part.begin is None or number >= part.begin:
                    if not self._has_captions and has_captions(frame):
                        self._warn_once("captions", f"left out: {CAPTIONS}")
                    yield Frame(self.converter.to_rgb(frame), frame)
        finally:
            if reader is not self._reader:
                reader.close()

    def segment_numbers(self) -> range:
        """From the first segment's to the last one's, read off the packets' times; there
        may be none in between. Raises :class:`DeblurError` where nothing tells.
        """
        last = read_last_time(self.input, self.span, seek=self._reader.seek)
        if self._begin is None or (last is None and not self.span.start):
            raise DeblurError(
                self.input.name,
                expected="a video whose frames tell their time, to share it out",
                found="one whose frames do not",
                remedy="write it anew first: ffmpeg -i FILE -c copy FILE.mkv",
            )
        end = max(self._begin, last or self._begin)
        return range(self._number_at(self._begin), self._number_at(end) + 1)

    def _number_at(self, time: Fraction) -> int:
        """Of the segment that a time of the file is in."""
        return floor((time - self.offset) / LENGTH)

    def has_changed(self) -> bool:
        """Whether there is another file in its place."""
        return self.input.identity() != self.identity

    def packets(self) -> Iterator[Packet[Any]]:
        """Sound and subtitles, at the times that they have in the output: the file is read
        for them once more. Raises :class:`DeblurError` where it was cut off.
        """
        if self.input.is_stream:
            return iter(())
        return read_packets(
            self.input, self.span, offset=self.offset, seek=self._reader.seek, warn=self.warn
        )

    def stop(self) -> None:
        """Have standard input end here; from any thread."""
        if self.input.pipe is not None:
            self.input.pipe.stop()

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_at(self, part: Part) -> tuple[FrameReader, Iterator[VideoFrame]]:
        """A reader that comes to the frames of a part, from as near as can be proven."""
        self._last_pts = None
        begin = self._begin
        if part.begin is None or (begin is not None and part.begin <= self._number_at(begin)):
            return self._reader, chain([self._first], self._reader)
        last = None if part.before is None else part.before.times[-1]
        near = self._reader_from(
            Fraction(LENGTH * part.begin) if last is None else last * self.time_base
        )
        try:
            frame = next(iter(near), None)
            if frame is not None and part.before is not None and self._is_same(frame, part.before):
                self._last_pts = last
                return near, iter(near)
            if frame is not None and part.before is None and near.has_passed:
                return near, chain([frame], near)
        except BaseException:
            near.close()
            raise
        near.close()
        whole = FrameReader(self.input, self.span, seek=self._reader.seek, hardware=self._hardware)
        return whole, iter(whole)

    def _reader_from(self, time: Fraction) -> FrameReader:
        """One that is to start at a time of the output."""
        start = time + self.offset - self._reader.begin
        end = self.span.end
        span = Span(start, None if end is None else end - start)
        return FrameReader(self.input, span, seek=True, on_screen=False, hardware=self._hardware)

    def _is_same(self, frame: VideoFrame, before: Summary) -> bool:
        """Whether it is the last frame of a segment, decoded to the same picture."""
        time = self._reader.time_of(frame)
        shown = before.times[-1] * self.time_base + self.offset
        return time == shown and digest_of(frame) == before.last_picture

    def _set_times(self, frame: VideoFrame) -> None:
        """Those of the output, one later than the other."""
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
            pts = self._going_on(pts - round(self.offset / time_base), duration, time_base)
        if self._last_pts is not None and (pts is None or pts <= self._last_pts):
            # No container takes two frames at one time; the later one waits a tick,
            # or its turn where the file tells no time at all.
            self._warn_once("time", "frames without a time of their own are shown after the last")
            pts = self._last_pts + (1 if pts is not None else duration)
        self._last_pts = pts = pts or 0
        frame.pts, frame.duration, frame.time_base = pts, duration, time_base

    def _going_on(self, pts: int, duration: int, time_base: Fraction) -> int:
        """What it is where the clock jumps back, as where recordings were put one behind the
        other: what is read once goes on, a file is refused, whose sound would not.
        """
        last = self._last_pts
        if last is None or not jumps_back(last * time_base, pts * time_base, self.frame_rate):
            return pts
        if not self.input.is_stream:
            times = (ticks * time_base + self.offset for ticks in (last, pts))
            raise two_clocks(self.input, *times)
        self.offset += (pts - last - duration) * time_base
        return last + duration

    def _warn_once(self, about: str, line: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            self.warn(line)


def open_at_start(
    given: VideoInput, span: Span, hardware: str, warn: Callable[[str], None]
) -> tuple[FrameReader, VideoFrame]:
    """A reader that has found the first frame, and that frame."""
    seek = bool(span.start) and not given.is_stream
    reader = FrameReader(given, span, seek=seek, hardware=hardware, warn=warn)
    try:
        first = next(iter(reader), None)
        if seek and (first is None or reader.is_late(first)):
            # Not every file can be searched to the very picture; it can be read to it.
            reader.close()
            reader = FrameReader(given, span, seek=False, hardware=hardware)
            first = next(iter(reader), None)
        if first is None:
            raise nothing_in(given, span, reader)
    except BaseException:
        reader.close()
        raise
    return reader, first


def nothing_in(given: VideoInput, span: Span, reader: FrameReader) -> DeblurError:
    if span.is_whole:
        return DeblurError(
            given.name,
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
