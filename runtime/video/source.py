"""A video file as a stream of frames to deblur and packets to pass on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av import Packet, VideoFrame
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.pipeline import Frame
from deblurgan.runtime.video.colour import Colour, ColourConverter

ATTACHED_PICTURE = 0x400
PASSED_ON = ("audio", "subtitle")


@dataclass(frozen=True)
class FrameTime:
    """When a frame is shown, in ticks of the stream's time base (seconds)."""

    pts: int
    duration: int
    time_base: Fraction


class VideoSource:
    """Opens a video and iterates over it in file order: :class:`Frame` with a
    :class:`FrameTime` for each picture, ``Packet`` for what passes unchanged.

    Raises :class:`DeblurError` for what is not a video, or breaks off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.container = open_container(path)
        try:
            self.stream = main_video_stream(path, self.container)
            self.stream.thread_type = "AUTO"
            self.passed_on: list[Stream] = [
                s
                for s in self.container.streams
                if s.type in PASSED_ON and s.codec_context is not None
            ]
            chosen = {self.stream.index, *(s.index for s in self.passed_on)}
            self.left_out = [
                f"stream {s.index} ({describe(s)})"
                for s in self.container.streams
                if s.index not in chosen
            ]
            self._packets = self._demux()
            self._early: list[Packet[Any]] = []
            self._first = self._first_frames()
            frame = self._first[0]
            self.width, self.height = frame.width, frame.height
            self.pixel_format = frame.format
            self.colour = Colour.of(frame)
            self.display_matrix = display_matrix(frame)
            self.converter = ColourConverter(self.colour)
        except BaseException:
            self.container.close()
            raise
        self._last_pts: int | None = None
        self._decoded = 0

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
        if self.stream.frames:
            return self.stream.frames
        if self.container.duration:
            return round(self.container.duration / 1_000_000 * self.frame_rate)
        return None

    def __iter__(self) -> Iterator[Frame | Packet[Any]]:
        yield from self._early
        for frame in self._first:
            yield self._to_deblur(frame)
        for packet in self._packets:
            if packet.stream.index == self.stream.index:
                for frame in self._decode(packet):
                    yield self._to_deblur(frame)
            elif packet.dts is not None:
                yield packet
        missing = self.stream.frames - self._decoded
        # An edit list may leave out a few frames on purpose.
        if missing > max(8, self.stream.frames // 50):
            raise self._damage(
                f"{self._decoded} frames where it tells of {self.stream.frames}; it was cut off"
            )

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _demux(self) -> Iterator[Packet[Any]]:
        try:
            yield from self.container.demux([self.stream, *self.passed_on])
        except av.FFmpegError as error:
            raise self._damage(f"damage between the frames ({error.strerror})") from None

    def _first_frames(self) -> list[VideoFrame]:
        """What the first packet that gives any decodes to; others wait in ``_early``.

        What does not decode before that is passed over: a recording of a broadcast
        starts anywhere, and decodes from its first key frame on.
        """
        for packet in self._packets:
            if packet.stream.index != self.stream.index:
                if packet.dts is not None:
                    self._early.append(packet)
                continue
            try:
                frames = self.stream.decode(packet)
            except av.FFmpegError:
                continue
            if frames:
                return frames
        raise DeblurError(
            self.path,
            expected="a video",
            found="a video stream without frames",
            remedy="check the file with: ffprobe FILE",
        )

    def _decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        try:
            return self.stream.decode(packet)
        except av.FFmpegError as error:
            at = f"{float(packet.dts * packet.time_base):.2f} s" if packet.dts else "its start"
            raise self._damage(f"damage at {at} ({error.strerror})") from None

    def _damage(self, found: str) -> DeblurError:
        return DeblurError(
            self.path,
            expected="a whole video",
            found=found,
            remedy="save what is there with: ffmpeg -err_detect ignore_err -i FILE SAVED.mp4",
        )

    def _to_deblur(self, frame: VideoFrame) -> Frame:
        if (frame.width, frame.height) != (self.width, self.height):
            raise DeblurError(
                self.path,
                expected=f"frames of one size ({self.width}x{self.height})",
                found=f"{frame.width}x{frame.height} at {frame.time or 0:.2f} s",
                remedy=f"scale it: ffmpeg -i FILE -vf scale={self.width}:{self.height} OUT.mp4",
            )
        self._decoded += 1
        time_base = frame.time_base or self.time_base
        duration = frame.duration or round(1 / self.frame_rate / time_base)
        pts = frame.pts if frame.pts is not None else frame.dts
        if self._last_pts is not None and (pts is None or pts <= self._last_pts):
            # No container takes two frames at one time; the later one waits a tick,
            # or its turn where the file tells no time at all.
            pts = self._last_pts + (1 if pts is not None else duration)
        self._last_pts = pts = pts or 0
        return Frame(self.converter.to_rgb(frame), FrameTime(pts, duration, time_base))


def open_container(path: Path) -> InputContainer:
    remedy = "check the path, and the file with: ffprobe FILE"
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        found = "no such file" if not path.exists() else f"something else ({error.strerror})"
        raise DeblurError(path, expected="a video", found=found, remedy=remedy) from None
    if not container.streams.video:
        container.close()
        raise DeblurError(
            path, expected="a video", found="a file without a video stream", remedy=remedy
        )
    return container


def main_video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture."""
    moving = [s for s in container.streams.video if not int(s.disposition) & ATTACHED_PICTURE]
    if not moving:
        raise DeblurError(
            path,
            expected="a video",
            found="only a cover picture",
            remedy="name a file with a video stream",
        )
    return moving[0]


def display_matrix(frame: VideoFrame) -> list[int] | None:
    """The 3x3 matrix (16.16 and 2.30 fixed point) that turns the picture upright."""
    side_data: Any = frame.side_data
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            return list(memoryview(bytes(data)).cast("i"))
    return None


def describe(stream: Stream) -> str:
    """``audio aac``, ``subtitle mov_text``, ``data``."""
    context: Any = stream.codec_context
    name = stream.metadata.get("handler_name", "").strip()
    words = [stream.type, context.name if context is not None else name]
    return " ".join(word for word in words if word)
