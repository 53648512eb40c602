"""A video file as a stream of frames to deblur and packets to pass on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av import Packet, VideoFrame
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import to_8_bits
from deblurgan.runtime.pipeline import Frame
from deblurgan.runtime.tiling.frame_memory import codec_limits
from deblurgan.runtime.video.codecs import Coding
from deblurgan.runtime.video.colour import Colour, ColourConverter
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.streams import (
    describe,
    display_matrix,
    main_video_stream,
    open_container,
    passed_on,
)

# How much further a file is read for sound that lies behind the last frame, in seconds.
INTERLEAVED = 10
# The most frames by which decoding and showing may be apart, in H.264 and HEVC.
REORDERED = 17


@dataclass(frozen=True)
class FrameTime:
    """When a frame is shown, in ticks of the stream's time base (seconds); ``fine`` is
    its RGB in 16 bits where the video has more than 8.
    """

    pts: int
    duration: int
    time_base: Fraction
    fine: NDArray[np.uint16] | None = None


class VideoSource:
    """Opens a video and iterates over it in file order: :class:`Frame` with a
    :class:`FrameTime` for each picture, ``Packet`` for what passes unchanged.

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
        self.container = open_container(path, hardware, warn)
        try:
            self.stream = main_video_stream(path, self.container)
            self.stream.thread_type = "AUTO"
            size = self.stream.codec_context.width, self.stream.codec_context.height
            self.stream.codec_context.thread_count = codec_limits(*size).decoder_threads
            self.passed_on = passed_on(self.container)
            chosen = {self.stream.index, *(s.index for s in self.passed_on)}
            self.left_out = [describe(s) for s in self.container.streams if s.index not in chosen]
            self._begin = Fraction(self.stream.start_time or 0) * self.time_base
            self._ended, self._packets = False, 0
            self._items = self._read()
            self._early, first = self._until_first_frame()
            self._first = first
            self.width, self.height = first.width, first.height
            self.pixel_format = first.format
            self.colour = Colour.of(first)
            self.is_interlaced = first.interlaced_frame
            self.display_matrix = display_matrix(first)
            self.converter = ColourConverter(self.colour, (self.width, self.height))
        except BaseException:
            self.container.close()
            raise
        self._is_deep = Coding.of(self.pixel_format).bits > 8
        self._last_pts: int | None = None
        self._warned = set[str]()

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick."""
        return self.stream.time_base or 1 / self.frame_rate

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second on average."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

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
    def offset(self) -> Fraction:
        """What is taken off every time, in seconds."""
        if not self.span.start:
            return Fraction(0)
        return Fraction(self._first.pts or 0) * (self._first.time_base or self.time_base)

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
            if Fraction((packet.pts or 0) * packet.time_base) >= self.offset or not self.offset:
                yield self._shift(packet)
        yield self._to_deblur(self._first)
        for item in self._items:
            yield self._to_deblur(item) if isinstance(item, VideoFrame) else self._shift(item)
        # What an edit list leaves out is not in the index.
        told = min(self.stream.frames, len(self.stream.index_entries))
        if self.span.is_whole and told - self._packets > max(8, told // 50):
            raise self._damage(f"{self._packets} frames where it tells of {told}; it was cut off")

    def close(self) -> None:
        self._items.close()
        self.container.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until_first_frame(self) -> tuple[list[Packet[Any]], VideoFrame]:
        early: list[Packet[Any]] = []
        for item in self._items:
            if isinstance(item, VideoFrame):
                return early, item
            early.append(item)
        if self.span.start:
            seconds = Fraction(self.container.duration or 0, 1_000_000)
            raise DeblurError(
                "--start",
                expected=f"a time within the video, which lasts {float(seconds):.2f} s",
                found=f"{float(self.span.start):.2f} s",
                remedy="name an earlier one",
            )
        raise DeblurError(
            self.path,
            expected="a video",
            found="a video stream without frames",
            remedy="check the file with: ffprobe FILE",
        )

    def _read(self) -> Generator[VideoFrame | Packet[Any], None, None]:
        """All of the span, as it comes; nothing of it is shifted yet.

        What does not decode before the first frame is passed over: a recording of a
        broadcast starts anywhere, and decodes from its first key frame on.
        """
        has_begun = False
        for packet in self._demux():
            if packet.stream.index != self.stream.index:
                if packet.dts is not None and self._place(packet.pts, packet.time_base) == 0:
                    yield packet
            elif not self._ended:
                self._packets += packet.size > 0
                try:
                    frames = self.stream.decode(packet)
                except av.FFmpegError as error:
                    if not has_begun:
                        continue
                    at = f"{float(packet.dts * packet.time_base):.2f} s" if packet.dts else "once"
                    raise self._damage(f"damage at {at} ({error.strerror})") from None
                for frame in frames:
                    has_begun = True
                    shown = frame.pts if frame.pts is not None else frame.dts
                    place = self._place(shown, frame.time_base or self.time_base)
                    if place == 0:
                        yield frame
                    self._ended = self._ended or place > 0
            if self._ended and self._is_through(packet):
                return

    def _demux(self) -> Iterator[Packet[Any]]:
        streams = [self.stream, *self.passed_on]
        try:
            if self.span.start:
                # Files are searched by times of decoding, which a key frame's pictures shown
                # before it (open GOPs) lie behind.
                early = self.span.start - max(Fraction(1), REORDERED / self.frame_rate)
                target = (self._begin + max(early, Fraction(0))) / self.time_base
                self.container.seek(int(target), stream=self.stream, backward=True)
            yield from self.container.demux(streams)
        except av.FFmpegError as error:
            raise self._damage(f"damage between the frames ({error.strerror})") from None

    def _place(self, pts: int | None, time_base: Fraction) -> int:
        """-1 before the span, 0 in it, 1 behind it."""
        if pts is None or self.span.is_whole:
            return 0
        time = pts * time_base - self._begin
        if self.span.start and time < self.span.start:
            return -1
        return 0 if self.span.end is None or time < self.span.end else 1

    def _is_through(self, packet: Packet[Any]) -> bool:
        """Whether no sound of the span comes after this packet any more."""
        if all(stream.type != "audio" for stream in self.passed_on):
            return True
        assert self.span.end is not None
        late = 0 if packet.stream.type == "audio" else INTERLEAVED
        now = Fraction((packet.dts or 0) * packet.time_base)
        return packet.dts is not None and now >= self._begin + self.span.end + late

    def _shift(self, packet: Packet[Any]) -> Packet[Any]:
        if self.offset:
            shift = round(self.offset / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        return packet

    def _damage(self, found: str) -> DeblurError:
        return DeblurError(
            self.path,
            expected="a whole video",
            found=found,
            remedy="save what is there with: ffmpeg -err_detect ignore_err -i FILE SAVED.mp4",
        )

    def _to_deblur(self, frame: VideoFrame) -> Frame:
        if (frame.width, frame.height) != (self.width, self.height):
            self._warn_once(
                "size",
                f"frames of {frame.width}x{frame.height} from {frame.time or 0:.2f} s on: "
                f"scaled to {self.width}x{self.height}, like the first",
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
        if not self._is_deep:
            return Frame(self.converter.to_rgb(frame), FrameTime(pts, duration, time_base))
        fine = self.converter.to_fine_rgb(frame)
        return Frame(to_8_bits(fine), FrameTime(pts, duration, time_base, fine))

    def _warn_once(self, about: str, line: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            self.warn(line)
