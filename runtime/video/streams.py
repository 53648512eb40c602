"""Opening a video: its streams, what of them goes along, and the GPU's decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
from av import VideoFrame
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.video.video_input import PATIENCE, VideoInput

ATTACHED_PICTURE = 0x400
PASSED_ON = ("audio", "subtitle")


def open_container(
    given: VideoInput, hardware: str = "none", warn: Callable[[str], None] = lambda _: None
) -> InputContainer:
    """For reading; ``hardware`` as in :class:`~deblurgan.runtime.video.codecs.Encoding`.

    Raises :class:`DeblurError` for what holds no video.
    """
    remedy = "check the path, and the file with: ffprobe FILE"
    if given.is_stream:
        remedy = "check that it sends video, with: ffprobe IN"
    container = None

    def open_(accelerated: HWAccel | None) -> InputContainer:
        return av.open(
            given.pipe or given.url,
            "r",
            format=given.format,
            options=dict(given.options),
            metadata_errors="replace",
            hwaccel=accelerated,
            timeout=PATIENCE if given.is_live else None,
        )

    if given.pipe is not None:
        hardware = "none"  # what failed with the GPU could not be read a second time
    if hardware == "cuda" or (hardware == "auto" and find_device() is not None):
        # Without a GPU it raises PermissionError, though told to fall back.
        try:
            accelerated = HWAccel("cuda", allow_software_fallback=True)
            container = open_(accelerated)
        except (av.FFmpegError, OSError, RuntimeError) as error:
            if given.exists:
                said = getattr(error, "strerror", None) or str(error)
                warn(f"decoding on the processor, not the GPU: {said.lower()}")
    try:
        container = container or open_(None)
    except (av.FFmpegError, ValueError) as error:  # ValueError: a format that it lacks
        check_interrupted()
        said = getattr(error, "strerror", None) or str(error)
        found = f"something else ({said})"
        if not given.exists:
            found = "no such file"
        elif isinstance(error, EOFError):
            found = "nothing"
        elif given.is_live and isinstance(error, OSError):
            found = f"no answer ({said.lower()})"
        raise DeblurError(given.name, expected="a video", found=found, remedy=remedy) from None
    if not container.streams.video:
        container.close()
        raise DeblurError(
            given.name, expected="a video", found="a file without a video stream", remedy=remedy
        )
    return container


def main_video_stream(given: VideoInput, container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture, and can be decoded."""
    moving = [s for s in container.streams.video if not int(s.disposition) & ATTACHED_PICTURE]
    if not moving:
        raise DeblurError(
            given.name,
            expected="a video",
            found="only a cover picture",
            remedy="name a file with a video stream",
        )
    known = [stream for stream in moving if has_decoder(stream)]
    if not known:
        raise DeblurError(
            given.name,
            expected="a video in a codec that FFmpeg decodes",
            found="one of no known codec, or a damaged header",
            remedy="check the file with: ffprobe FILE",
        )
    return known[0]


def has_decoder(stream: Stream) -> bool:
    context: Any = stream.codec_context  # None where the codec is unknown
    return context is not None


def frame_rate(video: VideoStream) -> Fraction:
    """Frames a second on average."""
    return Fraction(video.average_rate or video.guessed_rate or 25)


def time_base(video: VideoStream) -> Fraction:
    """Seconds a tick."""
    return video.time_base or 1 / frame_rate(video)


def beginning(video: VideoStream) -> Fraction:
    """When its first frame is shown, in seconds of the file."""
    return Fraction(video.start_time or 0) * time_base(video)


def earliest(streams: Iterable[Stream]) -> Fraction:
    """When the first of them begins, in seconds of the file."""
    return min(
        (
            s.start_time * Fraction(s.time_base)
            for s in streams
            if s.start_time is not None and s.time_base
        ),
        default=Fraction(0),
    )


def passed_on(container: InputContainer) -> list[Stream]:
    """The streams whose packets go along as they are."""
    streams = container.streams
    return [s for s in streams if s.type in PASSED_ON and has_decoder(s)]


def display_matrix(frame: VideoFrame) -> list[int] | None:
    """The 3x3 matrix (16.16 and 2.30 fixed point) that turns the picture upright."""
    side_data: Any = frame.side_data
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            return list(memoryview(bytes(data)).cast("i"))
    return None


def has_captions(frame: VideoFrame) -> bool:
    """Whether a broadcast's closed captions (CEA-608, CEA-708) are among its side data."""
    side_data: Any = frame.side_data
    return any(data.type.name == "A53_CC" for data in side_data)


def is_written_anew(stream: Stream, video: VideoStream) -> bool:
    """Whether a track of MP4 holds chapters or a timecode, which go along as what they tell."""
    if stream.type != "data":
        return False
    if "timecode" in stream.metadata:
        return "timecode" in video.metadata
    told = stream.metadata.get("handler_name", "").lower()
    return bool(video.container.chapters()) and ("text" in told or "subtitle" in told)


def describe(stream: Stream) -> str:
    """``stream 2 (audio aac)``, and with its title where it has one."""
    context: Any = stream.codec_context
    name = ""
    with suppress(UnicodeError):
        name = stream.metadata.get("handler_name", "").strip()
    words = [stream.type, context.name if context is not None else name]
    return f"stream {stream.index} ({' '.join(word for word in words if word)})"
