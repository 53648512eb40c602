"""Decoding a part of a video: its frames in the order they are shown, at the file's own times."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from inspect import GEN_RUNNING, getgeneratorstate
from typing import Any

import av
from av import Packet, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tiling.frame_memory import codec_limits
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.streams import (
    beginning,
    frame_rate,
    main_video_stream,
    open_container,
    time_base,
)
from deblurgan.runtime.video.video_input import VideoInput

# A frame that is shown for longer after the start of a span is part of it, in seconds.
LONG = Fraction(1, 2)
# Each of their packets is a picture that is shown, but for fields, which may come two a frame.
ONE_EACH = ("h264", "hevc", "mjpeg", "prores", "ffv1")
BROADCASTS = ("mpegts", "mpeg")
# The most frames by which decoding and showing may be apart, in H.264 and HEVC.
REORDERED = 17


class FrameReader:
    """Opens a video and iterates over the frames of a ``span`` of it.

    With ``seek`` the file is searched for the start of the span, which not every one
    can be to the very frame; otherwise it is read to it. With ``on_screen`` the frame
    that is shown when the span starts is part of it, if it is shown for long after.
    ``warn`` is told what the user should know. Raises :class:`DeblurError` for what is
    not a video, or breaks off.
    """

    def __init__(
        self,
        given: VideoInput,
        span: Span,
        *,
        seek: bool,
        on_screen: bool = True,
        hardware: str = "none",
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.given, self.span, self.seek, self._on_screen = given, span, seek, on_screen
        self._warn = warn
        self.container = open_container(given, hardware, warn)
        try:
            self.stream = main_video_stream(given, self.container)
        except BaseException:
            self.container.close()
            raise
        if self.stream.metadata.get("alpha_mode") == "1":
            warn("left out: transparency, which VP8 and VP9 keep apart from the pictures")
        # Threads that decode a frame each hold back as many frames.
        self.stream.thread_type = "SLICE" if given.is_live else "AUTO"
        # Neither is known of a stream whose header is damaged, before its first frame.
        size = [max(1, self.stream.codec_context.width), max(1, self.stream.codec_context.height)]
        self.stream.codec_context.thread_count = codec_limits(*size).decoder_threads
        self.begin = beginning(self.stream)
        # AVI has times of packets alone: the frames take them in their own order.
        self._waiting: list[int] | None = [] if self.container.format.name == "avi" else None
        self._before: VideoFrame | None = None
        self.has_passed = False  # by a frame before the span: none of it can have been missed
        self._frames = self._read()

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick."""
        return time_base(self.stream)

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second on average."""
        return frame_rate(self.stream)

    def __iter__(self) -> Iterator[VideoFrame]:
        """Goes on where the last iteration left off."""
        return self._frames

    def time_of(self, frame: VideoFrame) -> Fraction | None:
        """When it is shown, in seconds of the file; None where nothing tells."""
        pts = frame.pts if frame.pts is not None else frame.dts
        return None if pts is None else pts * Fraction(frame.time_base or self.time_base)

    def is_late(self, frame: VideoFrame) -> bool:
        """Whether there may be a frame between the start of the span and this one."""
        time = self.time_of(frame)
        if time is None:
            raise DeblurError(
                "--start",
                expected="a video whose frames tell their time",
                found=f"{self.given.name}, whose frames do not",
                remedy="write it anew first: ffmpeg -i FILE -c copy FILE.mkv",
            )
        return not self.has_passed and time - self.begin > self.span.start

    def close(self) -> None:
        if getgeneratorstate(self._frames) == GEN_RUNNING:
            # A thread waits in it for a network: it may keep it until the process ends.
            return
        self._frames.close()
        self.container.close()

    def _read(self) -> Generator[VideoFrame, None, None]:
        """What does not decode before the first frame is passed over: a recording of a
        broadcast starts anywhere, and decodes from its first key frame on.
        """
        has_begun, is_broadcast = False, self.container.format.name in BROADCASTS
        sent = shown = refused = 0
        has_fields = False
        packets = demux_span(
            self.given, self.container, [self.stream], self.stream, self.span, self.seek
        )
        for packet in packets:
            if self._waiting is not None and packet.dts is not None:
                heapq.heappush(self._waiting, packet.dts)
            sent += packet.size > 0 and not packet.is_discard
            try:
                frames = self.stream.decode(packet)
            except av.FFmpegError as error:
                if not has_begun:
                    refused += 1
                    continue
                if self.given.format == "rawvideo":
                    self._warn("left out: the frame at the end, which is not whole")
                    return
                at = f"{float(packet.dts * packet.time_base):.2f} s" if packet.dts else "once"
                raise damage(self.given, f"damage at {at} ({error.strerror})") from None
            for frame in frames:
                has_begun, shown = True, shown + 1
                has_fields |= frame.interlaced_frame
                if self._waiting:
                    frame.pts = heapq.heappop(self._waiting)
                time = self.time_of(frame)
                place = 0 if time is None else self.span.place(time - self.begin)
                yield from self._within(frame, time, place)
                if place > 0:
                    return
        if self.span.is_whole and not (self.given.is_stream or is_broadcast):
            # A decoder on several threads keeps to itself what is wrong with its last packets.
            is_one_each = self.stream.codec_context.name in ONE_EACH and not has_fields
            lost = sent - shown if is_one_each else refused
            if lost > 0:
                self._warn(f"left out: {lost} of {sent} frames, which do not decode")

    def _within(self, frame: VideoFrame, time: Fraction | None, place: int) -> Iterator[VideoFrame]:
        """The frame if it is in the span, and the one that is on screen at its start."""
        if place < 0:
            self._before, self.has_passed = frame, True
            return
        before, self._before = self._before, None
        start = self.begin + self.span.start
        is_long = time is not None and (place > 0 or time - start > LONG)
        if self._on_screen and before is not None and is_long:
            before.pts = round(start / Fraction(before.time_base or self.time_base))
            yield before
        if place == 0:
            yield frame


def demux_span(
    given: VideoInput,
    container: InputContainer,
    streams: list[Any],
    video: VideoStream,
    span: Span,
    seek: bool,
) -> Iterator[Packet[Any]]:
    """Packets of ``streams``, from somewhat before the start of ``span`` in ``video`` on, or
    with no ``seek`` all of them.
    """
    try:
        if seek:
            # Files are searched by times of decoding, which a key frame's pictures shown
            # before it (open GOPs) lie behind.
            early = span.start - max(Fraction(1), REORDERED / frame_rate(video))
            with suppress(av.FFmpegError):  # then it is read from its start
                target = int((beginning(video) + max(early, Fraction(0))) / time_base(video))
                container.seek(target, stream=video, backward=True)
        # PyAV does not know a stream that a broadcast adds in the middle: at the end, after
        # all others, it may look for it.
        with suppress(IndexError):
            yield from container.demux(streams)
    except av.FFmpegError as error:
        raise damage(given, f"damage between the frames ({error.strerror})") from None


def jumps_back(last: Fraction, now: Fraction, rate: Fraction) -> bool:
    """Whether a time is further behind than what comes out of its order; in seconds, of a video
    of ``rate`` frames a second.
    """
    return last - now > max(Fraction(1, 2), REORDERED / rate)


def two_clocks(given: VideoInput, last: Fraction, now: Fraction) -> DeblurError:
    return DeblurError(
        given.name,
        expected="a clock that goes forward",
        found=f"one that goes back by {float(last - now):.2f} s at {float(last):.2f} s, as where "
        "recordings were put together",
        remedy="write it anew first: ffmpeg -i FILE -c copy FILE.mkv",
    )


def damage(given: VideoInput, found: str) -> DeblurError:
    return DeblurError(
        given.name,
        expected="a whole video",
        found=found,
        remedy="save what is there with: ffmpeg -err_detect ignore_err -i FILE SAVED.mp4",
    )
