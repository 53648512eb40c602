"""Reading a part of a video: its frames and packets in file order, at the file's own times."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av import Packet, VideoFrame

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tiling.frame_memory import codec_limits
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.streams import (
    describe,
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


class SpanReader:
    """Opens a video and iterates over a ``span`` of it: a ``VideoFrame`` for each picture,
    ``Packet`` for what passes unchanged.

    With ``seek`` the file is searched for the start of the span, which not every one
    can be to the very frame; otherwise it is read to it. ``warn`` is told what the user
    should know. Raises :class:`DeblurError` for what is not a video, or breaks off.
    """

    def __init__(
        self,
        path: Path,
        span: Span,
        *,
        seek: bool,
        hardware: str = "none",
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self.span, self.warn = path, span, warn
        self.container = open_container(path, hardware, warn)
        try:
            self.stream = main_video_stream(path, self.container)
        except BaseException:
            self.container.close()
            raise
        if self.stream.metadata.get("alpha_mode") == "1":
            self.warn("left out: transparency, which VP8 and VP9 keep apart from the pictures")
        self.stream.thread_type = "AUTO"
        # Neither is known of a stream whose header is damaged, before its first frame.
        size = [max(1, self.stream.codec_context.width), max(1, self.stream.codec_context.height)]
        self.stream.codec_context.thread_count = codec_limits(*size).decoder_threads
        self.passed_on = passed_on(self.container)
        self.begin = Fraction(self.stream.start_time or 0) * self.time_base
        self._ended, self._packets, self._last = False, 0, Fraction(0)
        self._is_avi = self.container.format.name == "avi"
        # AVI has times of packets alone: the frames take them in their own order.
        self._waiting: list[int] = []
        self._before: VideoFrame | None = None
        self._passed: dict[int, int] = {}  # by stream, the last packet's time of decoding
        self._is_mended = False
        self._items = self._read(seek)

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick."""
        return self.stream.time_base or 1 / self.frame_rate

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second on average."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

    def __iter__(self) -> Iterator[VideoFrame | Packet[Any]]:
        """Go on where the last iteration left off; at the end, say what the file lacks."""
        yield from self._items
        self._check_end()

    def until_frame(self) -> tuple[list[Packet[Any]], VideoFrame | None]:
        """The next frame, None where there is no more, and the packets before it."""
        packets: list[Packet[Any]] = []
        for item in self._items:
            if isinstance(item, VideoFrame):
                return packets, item
            packets.append(item)
        return packets, None

    def time_of(self, frame: VideoFrame) -> Fraction | None:
        """When it is shown, in seconds of the file."""
        pts = frame.pts if frame.pts is not None else frame.dts
        return None if pts is None else pts * Fraction(frame.time_base or self.time_base)

    def is_late(self, frame: VideoFrame) -> bool:
        """Whether there should be a frame between the start of the span and this one."""
        time = self.time_of(frame)
        if time is None:
            raise DeblurError(
                "--start",
                expected="a video whose frames tell their time",
                found=f"{self.path.name}, whose frames do not",
                remedy="write it anew first: ffmpeg -i FILE -c copy FILE.mkv",
            )
        return time - self.begin - self.span.start > 2 / self.frame_rate

    def close(self) -> None:
        self._items.close()
        self.container.close()

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
                    self._keep_in_order(packet)
                    yield packet
            elif not self._ended:
                self._packets += packet.size > 0
                if self._is_avi and packet.dts is not None:
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

    def _keep_in_order(self, packet: Packet[Any]) -> None:
        """No container takes packets whose times go back, or are due before they are decoded."""
        assert packet.dts is not None
        dts = max(packet.dts, self._passed.get(packet.stream.index, packet.dts))
        pts = max(dts, packet.pts if packet.pts is not None else dts)
        if dts != packet.dts or packet.pts not in (pts, None):
            packet.dts, packet.pts = dts, pts
            if not self._is_mended:
                self.warn(
                    f"{self.path.name}: times of {describe(packet.stream)} go back: "
                    "it may be heard or seen at another time"
                )
            self._is_mended = True
        self._passed[packet.stream.index] = dts

    def _within(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frame if it is in the span, and the one that is on screen at its start."""
        time = self.time_of(frame)
        place = self._place(time)
        if place < 0:
            self._before = frame
            return
        before, self._before = self._before, None
        start = self.begin + self.span.start
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
                target = (self.begin + max(early, Fraction(0))) / self.time_base
                with suppress(av.FFmpegError):  # then it is read from its start
                    self.container.seek(int(target), stream=self.stream, backward=True)
            # PyAV does not know a stream that a broadcast adds in the middle: at the end, after
            # all others, it may look for it.
            with suppress(IndexError):
                yield from self.container.demux(streams)
        except av.FFmpegError as error:
            raise self._damage(f"damage between the frames ({error.strerror})") from None

    def _check_end(self) -> None:
        if not self.span.is_whole:
            return
        told = self.stream.frames
        if not self._is_avi:  # which has an index where it is whole
            # What an edit list leaves out is not in the index.
            told = min(told, len(self.stream.index_entries))
        lacking = told - self._packets > max(8, told // 50)
        if lacking and not self._is_avi:
            raise self._damage(f"{self._packets} frames where it tells of {told}; it was cut off")
        whole = Fraction(self.container.duration or 0, 1_000_000)
        begin = Fraction(self.container.start_time or 0, 1_000_000)
        if lacking:
            whole = told / self.frame_rate
        if begin + whole - self._last > max(Fraction(1), whole / 50):
            self.warn(
                f"{self.path.name} ends after {float(self._last - begin):.2f} s of "
                f"{float(whole):.2f} s: it may have been cut off"
            )

    def _place(self, time: Fraction | None) -> int:
        """-1 before the span, 0 in it, 1 behind it."""
        if time is None or self.span.is_whole:
            return 0
        time -= self.begin
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
        return packet.dts is not None and now >= self.begin + self.span.end + late

    def _damage(self, found: str) -> DeblurError:
        return DeblurError(
            self.path,
            expected="a whole video",
            found=found,
            remedy="save what is there with: ffmpeg -err_detect ignore_err -i FILE SAVED.mp4",
        )
