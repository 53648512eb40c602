"""A video file in the making: whole under its name, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
from av import Packet, VideoFrame
from av.codec.context import Flags
from av.stream import Stream
from av.video.stream import VideoStream

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.video.source import FrameTime, VideoSource, describe

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


# What was expected, what was found, and what to do about the folder.
DISK_ERRORS = {
    errno.ENOENT: ("a folder that exists", "no such folder", "make it with: mkdir -p"),
    errno.ENOTDIR: ("a folder", "a file in its place", "choose another folder than"),
    errno.EACCES: ("a place to write", "no permission", "choose another folder than"),
    errno.EPERM: ("a place to write", "no permission", "choose another folder than"),
    errno.EROFS: ("a place to write", "a read-only disk", "choose another folder than"),
    errno.ENAMETOOLONG: ("a name that the disk takes", "one too long", "choose a shorter one in"),
    errno.ENOSPC: ("room on the disk", "a full disk", "make room in"),
    errno.EDQUOT: ("room on the disk", "a quota used up", "make room in"),
    errno.EFBIG: ("room for the file", "a limit on file sizes", "lift it for"),
}


@dataclass(frozen=True)
class Codec:
    """An encoder, with the quality (CRF) at which no loss is seen and its preset."""

    encoder: str
    quality: int
    best: int
    worst: int
    preset: str
    pixel_formats: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


PLANAR = ("yuv420p", "yuv422p", "yuv444p")
CODECS = {
    "h264": Codec("libx264", 16, 0, 51, "medium", PLANAR),
    "hevc": Codec("libx265", 18, 0, 51, "medium", PLANAR, (("x265-params", "log-level=error"),)),
    "av1": Codec("libsvtav1", 22, 1, 63, "8", ("yuv420p",), (("svtav1-params", "fast-decode=0"),)),
}


@dataclass(frozen=True)
class Encoding:
    """How to encode; ``None`` is the codec's default. ``quality`` is a CRF: less is better."""

    codec: str | None = None
    quality: int | None = None
    preset: str | None = None

    def resolve(self, container: str) -> tuple[str, Codec, int, str]:
        """Codec name, codec, quality and preset; raises :class:`DeblurError` if there is none."""
        name = self.codec or ("av1" if container == "webm" else "h264")
        if name not in CODECS:
            raise DeblurError(
                "--codec",
                expected=f"one of {', '.join(CODECS)}",
                found=name,
                remedy="leave it out for the container's default",
            )
        codec = CODECS[name]
        quality = codec.quality if self.quality is None else self.quality
        if not codec.best <= quality <= codec.worst:
            raise DeblurError(
                "--quality",
                expected=f"{codec.best} (best) to {codec.worst} for {name}",
                found=str(quality),
                remedy=f"leave it out for {codec.quality}",
            )
        return name, codec, quality, self.preset or codec.preset


class VideoSink:
    """Writes beside ``path`` and renames at :meth:`commit`; as a context it leaves
    nothing behind when that is not reached.

    The output has the source's time base, colour tags, shape of pixels,
    rotation, metadata and chapters, and its sound and subtitles as they are.
    """

    def __init__(self, path: Path, source: VideoSource, encoding: Encoding) -> None:
        self.path = path
        container = container_format(path)
        codec, self.codec, quality, preset = encoding.resolve(container)
        # Cut short, so that the longest name the disk takes has room for the ending.
        self.part = path.with_name(f".{path.name[:80]}.{os.getpid()}.part")
        with self._disk():
            self.output = av.open(
                str(self.part),
                "w",
                format=container,
                # Sound that starts a little before zero (AAC's priming) would move
                # every timestamp to make room for itself.
                options={"avoid_negative_ts": "disabled"},
            )
        try:
            self._check_streams(source, container, codec)
            options = {"crf": str(quality), "preset": preset, **dict(self.codec.options)}
            self.stream = cast(
                VideoStream,
                self.output.add_stream(self.codec.encoder, source.frame_rate, options),
            )
            self._describe_video(source)
            self.passed_on: dict[int, Stream] = {}
            for stream in source.passed_on:
                copy = self.output.add_stream_from_template(stream)
                copy.metadata.update(stream.metadata)
                copy.disposition = stream.disposition
                self.passed_on[stream.index] = copy
            self.output.metadata.update(source.container.metadata)
            self.output.set_chapters(source.container.chapters())
            with self._disk():
                self._start_encoder(quality, preset)
        except BaseException:
            self.abort()
            raise
        self.converter = source.converter

    def write(self, time: FrameTime, pixels: Frames) -> None:
        """Encode a deblurred frame, RGB uint8."""
        frame = self.converter.from_rgb(pixels, self.pixel_format)
        frame.pts, frame.duration, frame.time_base = time.pts, time.duration, time.time_base
        self._encode(frame)

    def pass_on(self, packet: Packet[Any]) -> None:
        """Copy a packet of sound or subtitles unchanged."""
        packet.stream = self.passed_on[packet.stream.index]
        with self._disk():
            self.output.mux(packet)

    def commit(self) -> None:
        """Finish the file and give it its name."""
        self._encode(None)
        with self._disk():
            self.output.close()
            os.replace(self.part, self.path)

    def abort(self) -> None:
        """Leave nothing behind but what was committed."""
        with contextlib.suppress(Exception):
            self.output.close()
        self.part.unlink(missing_ok=True)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _encode(self, frame: VideoFrame | None) -> None:
        packets = self.stream.encode(frame)
        with self._disk():
            self.output.mux(packets)

    def _start_encoder(self, quality: int, preset: str) -> None:
        try:
            self.output.start_encoding()
        except av.FFmpegError as error:
            if error.errno in DISK_ERRORS:
                raise
            raise DeblurError(
                self.path,
                expected=f"settings that {self.codec.encoder} takes",
                found=f"{self.stream.width}x{self.stream.height}, preset {preset}, "
                f"quality {quality}, which it refuses",
                remedy="leave --preset and --quality out, or choose another --codec",
            ) from None

    def _check_streams(self, source: VideoSource, container: str, codec: str) -> None:
        supported = self.output.supported_codecs
        other = ".mp4" if container == "matroska" else ".mkv"
        remedy = f"write {self.path.with_suffix(other).name}"
        if codec not in supported:
            raise DeblurError(
                "--codec", expected=f"a codec that {container} holds", found=codec, remedy=remedy
            )
        for stream in source.passed_on:
            context: Any = stream.codec_context
            # PyAV lists containers' codecs by their decoders' names, some of them.
            if not {context.codec.name, context.codec.canonical_name} & supported:
                raise DeblurError(
                    self.path,
                    expected=f"streams that {container} holds",
                    found=f"stream {stream.index} ({describe(stream)})",
                    remedy=remedy,
                )

    def _describe_video(self, source: VideoSource) -> None:
        stream, context, colour = self.stream, self.stream.codec_context, source.colour
        self.pixel_format, self.reduced = self._choose_pixel_format(source)
        stream.width, stream.height = source.width, source.height
        stream.pix_fmt = self.pixel_format
        # Ticks of the input: nothing is rounded before the container does it.
        context.time_base = stream.time_base = source.time_base
        context.framerate = source.frame_rate
        context.flags |= Flags.frame_duration
        context.colorspace, context.color_range = colour.matrix, colour.range_tag
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if source.stream.sample_aspect_ratio:
            context.sample_aspect_ratio = source.stream.sample_aspect_ratio
        if source.display_matrix is not None:
            stream.set_display_matrix(source.display_matrix)
        stream.metadata.update(source.stream.metadata)

    def _choose_pixel_format(self, source: VideoSource) -> tuple[str, list[str]]:
        """The nearest 8-bit coding that the codec takes, and what it cannot keep."""
        given, formats = source.pixel_format, self.codec.pixel_formats
        chroma = "444" if given.is_rgb else (re.findall("4[0-9]{2}", given.name) or ["420"])[0]
        odd_width, odd_height = source.width % 2, source.height % 2
        if (odd_width and chroma != "444") or (odd_height and chroma == "420"):
            chroma = "444"  # chroma at half the size needs an even one
        chosen = f"yuv{chroma}p" if f"yuv{chroma}p" in formats else formats[0]
        reduced = []
        if max(component.bits for component in given.components) > 8:
            reduced.append("colour depth beyond 8 bits")
        if any(component.is_alpha for component in given.components):
            reduced.append("transparency")
        if chosen < f"yuv{chroma}p":
            reduced.append(f"chroma beyond {chosen}")
        return chosen, reduced

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Say what is wrong with the place that is written to."""
        try:
            yield
        except OSError as error:  # PyAV's errors with an errno are OSErrors
            if error.errno not in DISK_ERRORS:
                raise
            expected, found, remedy = DISK_ERRORS[error.errno]
            remedy = f"{remedy} {self.path.absolute().parent}"
            raise DeblurError(self.path, expected=expected, found=found, remedy=remedy) from None


def container_format(path: Path) -> str:
    """FFmpeg's name of the container that the suffix asks for."""
    try:
        return CONTAINERS[path.suffix.lower()]
    except KeyError:
        raise DeblurError(
            path,
            expected=f"a video name ending in {', '.join(CONTAINERS)}",
            found=path.suffix or "no ending",
            remedy=f"write {path.with_suffix('.mp4').name}",
        ) from None
