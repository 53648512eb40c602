"""A video file as a stream of frames to deblur and packets to pass on."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
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

# A frame that is shown for longer after the start of a span is part of it, in seconds.
LONG = Fraction(1, 2)
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
        self._hardware = hardware
        self._open(seek=bool(self.span.start))
        try:
            found = self._until_first_frame()
            if self.span.start and (found is None or self._is_late(found[1])):
                # Not every file can be searched to the very picture; it can be read to it.
                self.close()
                self._open(seek=False)
                found = self._until_first_frame()
            if found is None:
                raise self._nothing()
            self._early, self._first = found
            first = self._first
            self.width, self.height = first.width, first.height
            self.pixel_format = first.format
            self.colour = Colour.of(first)
            self.is_interlaced = first.interlaced_frame
            self.display_matrix = display_matrix(first)
            self.converter = ColourConverter(self.colour, (self.width, self.height))
        except BaseException:
            self.close()
            raise
        self._is_deep = Coding.of(self.pixel_format).bits > 8
        self._last_pts: int | None = None
        self._warned = set[str]()

    def _open(self, *, seek: bool) -> None:
        self.container = open_container(self.path, self._hardware, self.warn)
        try:
            self.stream = main_video_stream(self.path, self.container)
        except BaseException:
            self.container.close()
            raise
        self.stream.thread_type = "AUTO"
        size = self.stream.codec_context.width, self.stream.codec_context.height
        self.stream.codec_context.thread_count = codec_limits(*size).decoder_threads
        self.passed_on = passed_on(self.container)
        chosen = {self.stream.index, *(s.index for s in self.passed_on)}
        self.left_out = [describe(s) for s in self.container.streams if s.index not in chosen]
        self._begin = Fraction(self.stream.start_time or 0) * self.time_base
        self._ended, self._packets, self._last = False, 0, Fraction(0)
        # AVI has times of packets alone: the frames take them in their own order.
        self._waiting: list[int] | None = [] if self.container.format.name == "avi" else None
        self._before: VideoFrame | None = None
        self._items = self._read(seek)

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
        return self._time(self._first) or Fraction(0)

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
        for item in self._items:
            yield self._to_deblur(item) if isinstance(item, VideoFrame) else self._shift(item)
        # What an edit list leaves out is not in the index.
        told = min(self.stream.frames, len(self.stream.index_entries))
        if self.span.is_whole and told - self._packets > max(8, told // 50):
            raise self._damage(f"{self._packets} frames where it tells of {told}; it was cut off")
        whole = Fraction(self.container.duration or 0, 1_000_000)
        begin = Fraction(self.container.start_time or 0, 1_000_000)
        if self.span.is_whole and begin + whole - self._last > max(Fraction(1), whole / 50):
            self.warn(
                f"{self.path.name} ends after {float(self._last - begin):.2f} s of "
                f"{float(whole):.2f} s: it may have been cut off"
            )

    def close(self) -> None:
        self._items.close()
        self.container.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until_first_frame(self) -> tuple[list[Packet[Any]], VideoFrame] | None:
        early: list[Packet[Any]] = []
        for item in self._items:
            if isinstance(item, VideoFrame):
                return early, item
            early.append(item)
        return None

    def _nothing(self) -> DeblurError:
        if self.span.is_whole:
            return DeblurError(
                self.path,
                expected="a video",
                found="a video stream without frames",
                remedy="check the file with: ffprobe FILE",
            )
        seconds = Fraction(self.container.duration or 0, 1_000_000)
        return DeblurError(
            "--start" if self.span.start else "--duration",
            expected=f"a part with frames of the video, which lasts {float(seconds):.2f} s",
            found=f"none from {float(self.span.start):.2f} s on",
            remedy="name an earlier start, or a longer duration",
        )

    def _is_late(self, frame: VideoFrame) -> bool:
        """Whether there should be a frame between the start of the span and this one."""
        time = self._time(frame)
        if time is None:
            raise DeblurError(
                "--start",
                expected="a video whose frames tell their time",
                found=f"{self.path.name}, whose frames do not",
                remedy="write it anew first: ffmpeg -i FILE -c copy FILE.mkv",
            )
        return time - self._begin - self.span.start > 2 / self.frame_rate

    def _time(self, frame: VideoFrame) -> Fraction | None:
        """When it is shown, in seconds of the file."""
        pts = frame.pts if frame.pts is not None else frame.dts
        return None if pts is None else pts * Fraction(frame.time_base or self.time_base)

    def _read(self, seek: bool) -> Generator[VideoFrame | Packet[Any], None, None]:
        """All of the span, as it comes; nothing of it is shifted yet.

        What does not decode before the first frame is passed over: a recording of a
        broadcast starts anywhere, and decodes from its first key frame on.
        """
        has_begun = False
        for packet in self._demux(seek):
            if packet.size and packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._last = max(self._last, Fraction(end))
            if packet.stream.index != self.stream.index:
                if packet.dts is not None and self._is_heard(packet):
                    yield packet
            elif not self._ended:
                self._packets += packet.size > 0
                if self._waiting is not None and packet.dts is not None:
                    heapq.heappush(self._waiting, packet.dts)
                try:
                    frames = self.stream.decode(packet)
                except av.FFmpegError as error:
                    if not has_begun:
                        continue
                    at = f"{float(packet.dts * packet.time_base):.2f} s" if packet.dts else "once"
                    raise self._damage(f"damage at {at} ({error.strerror})") from None
                for frame in frames:
                    has_begun = True
                    if self._waiting:
                        frame.pts = heapq.heappop(self._waiting)
                    yield from self._within(frame)
            if self._ended and self._is_through(packet):
                return

    def _within(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frame if it is in the span, and the one that is on screen at its start."""
        time = self._time(frame)
        place = self._place(time)
        if place < 0:
            self._before = frame
            return
        before, self._before = self._before, None
        start = self._begin + self.span.start
        is_long = time is not None and (place > 0 or time - start > LONG)
        if before is not None and is_long:
            before.pts = round(start / Fraction(before.time_base or self.time_base))
            yield before
        if place == 0:
            yield frame
        self._ended = self._ended or place > 0

    def _demux(self, seek: bool) -> Iterator[Packet[Any]]:
        streams = [self.stream, *self.passed_on]
        try:
            if seek:
                # Files are searched by times of decoding, which a key frame's pictures shown
                # before it (open GOPs) lie behind.
                early = self.span.start - max(Fraction(1), REORDERED / self.frame_rate)
                target = (self._begin + max(early, Fraction(0))) / self.time_base
                with suppress(av.FFmpegError):  # then it is read from its start
                    self.container.seek(int(target), stream=self.stream, backward=True)
            yield from self.container.demux(streams)
        except av.FFmpegError as error:
            raise self._damage(f"damage between the frames ({error.strerror})") from None

    def _place(self, time: Fraction | None) -> int:
        """-1 before the span, 0 in it, 1 behind it."""
        if time is None or self.span.is_whole:
            return 0
        time -= self._begin
        if self.span.start and time < self.span.start:
            return -1
        return 0 if self.span.end is None or time < self.span.end else 1

    def _is_heard(self, packet: Packet[Any]) -> bool:
        """Or read: a text that is there when the span starts is part of it."""
        base, pts = packet.time_base, packet.pts
        place = self._place(None if pts is None else Fraction(pts * base))
        if place < 0 and packet.stream.type == "subtitle" and pts is not None:
            return self._place(Fraction((pts + (packet.duration or 0)) * base)) >= 0
        return place == 0

    def _is_through(self, packet: Packet[Any]) -> bool:
        """Whether no sound of the span comes after this packet any more."""
        if all(stream.type != "audio" for stream in self.passed_on):
            return True
        assert self.span.end is not None
        late = 0 if packet.stream.type == "audio" else INTERLEAVED
        now = Fraction((packet.dts or 0) * packet.time_base)
        return packet.dts is not None and now >= self._begin + self.span.end + late

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
