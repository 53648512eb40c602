"""A video file in the making: whole under its name, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av import Packet, VideoFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.stream import Stream
from av.video.stream import VideoStream

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError, Failure
from deblurgan.runtime.video.codecs import Encoding, choose_encoder
from deblurgan.runtime.video.manifest import Manifest, Track, find_difference
from deblurgan.runtime.video.residual import Both, ResidualCoder
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.streams import describe

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
PARTLY = ".unverified"
USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}

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


class VideoSink:
    """Writes beside ``path`` and renames at :meth:`commit`; as a context it leaves
    nothing behind when that is not reached.

    The output has the source's time base, colour tags, shape of pixels, rotation,
    metadata and chapters, and its sound and subtitles as they are; its pictures are the
    sharp ones, or with a ``comparison`` both. Streams that the container cannot hold are
    refused, or with ``drop_streams`` left out. ``warn`` is told what the user should know.
    """

    def __init__(
        self,
        path: Path,
        source: VideoSource,
        encoding: Encoding,
        *,
        comparison: Comparison | None = None,
        drop_streams: bool = False,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self.size = path, comparison.size if comparison else source.size
        container = container_format(path)
        self.encoder = choose_encoder(encoding, container, source.pixel_format, self.size, warn)
        self.left_out = [*source.left_out, *self.encoder.lost]
        # Cut short, so that the longest name the disk takes has room for the ending.
        self.part = path.with_name(f".{path.name[:80]}.{os.getpid()}.part")
        with self._disk():
            self.output = av.open(
                str(self.part),
                "w",
                format=container,
                options=options_of(container),
            )
        try:
            self._check_codec(source, container)
            kept = self._choose_streams(source, container, drop_streams)
            self.stream = cast(
                VideoStream,
                self.output.add_stream(
                    self.encoder.name, source.frame_rate, dict(self.encoder.options)
                ),
            )
            colour = source.colour.limited() if self.encoder.codec == "prores" else source.colour
            self.colour = colour
            residual = ResidualCoder(source.colour, colour, self.encoder.pixel_format, source.size)
            self._coder = Both(residual, comparison) if comparison else residual
            self.manifest = Manifest(source.time_base, colour, source.display_matrix)
            self._describe_video(source, container)
            self.passed_on: dict[int, tuple[Stream, Track]] = {}
            for stream in kept:
                self._add_stream(stream)
            self.output.metadata.update(source.container.metadata)
            chapters = source.chapters()
            self.output.set_chapters(chapters)
            # Some containers know no two that start at once.
            self.manifest.chapters = len({chapter["start"] for chapter in chapters})
            with self._disk():
                self._start_encoder()
        except BaseException:
            self.abort()
            raise

    def write(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> None:
        """Encode a decoded frame as sharp, RGB uint8 ``[height, width, 3]`` before and after."""
        coded = self._coder.code(frame, blurred, sharp)
        coded.pts, coded.duration, coded.time_base = frame.pts, frame.duration, frame.time_base
        self.manifest.note_frame(frame)
        self._encode(coded)

    def pass_on(self, packet: Packet[Any]) -> None:
        """Copy a packet of sound or subtitles unchanged, if its stream goes along."""
        stream, track = self.passed_on.get(packet.stream.index, (None, None))
        if stream is None or track is None:
            return
        track.note(packet)
        if not packet.duration and isinstance(stream, AudioStream) and len(track.times) > 1:
            # MP4 would leave out the last one, as of no length.
            packet.duration = track.times[-1] - track.times[-2]
        packet.stream = stream
        with self._disk():
            self.output.mux(packet)

    def commit(self, *, verify: bool = True) -> None:
        """Finish the file, read it again to see that it holds everything, and give it its name.

        Raises :class:`Failure` where it does not; the file is then kept under another name.
        """
        self._encode(None)
        with self._disk():
            self.output.close()
        difference = find_difference(self.part, self.manifest) if verify else None
        with self._disk():
            if difference is not None:
                kept = self.path.with_name(self.path.stem[:200] + PARTLY + self.path.suffix)
                os.replace(self.part, kept)
                raise Failure(
                    self.path,
                    expected="a file with the frames, times, sound and colours of the input",
                    found=difference,
                    remedy=f"look at {kept.name}, where it is kept, and report it; another "
                    "container (.mkv) may hold it, and --no-verify takes it as it is",
                )
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

    def _start_encoder(self) -> None:
        try:
            self.stream.codec_context.open(strict=False)
        except av.FFmpegError:
            settings = ", ".join(f"{name} {value}" for name, value in self.encoder.options.items())
            raise DeblurError(
                self.path,
                expected=f"settings that {self.encoder.name} takes",
                found=f"{self.size[0]}x{self.size[1]}, {settings}, which it refuses",
                remedy="leave --preset and --quality out, or choose another --codec",
            ) from None
        try:
            self.output.start_encoding()
        except av.FFmpegError as error:
            if error.errno in DISK_ERRORS:
                raise
            streams = ", ".join(track.name for track in self.manifest.tracks.values())
            raise DeblurError(
                self.path,
                expected=f"streams that {self.output.format.name} holds",
                found=f"{self.encoder.codec}{', ' * bool(streams)}{streams}, which it refuses",
                remedy="write it as .mkv",
            ) from None

    def _check_codec(self, source: VideoSource, container: str) -> None:
        supported = self.encoder.codec in self.output.supported_codecs
        # FFV1 has no place for colour tags, and MP4 one for all of them or none.
        if not supported or (self.encoder.codec, container) == ("ffv1", "mp4"):
            raise DeblurError(
                "--codec",
                expected=f"a codec that {container} holds",
                found=self.encoder.codec,
                remedy=self._other_container(source) or "choose another --codec",
            )

    def _choose_streams(self, source: VideoSource, container: str, drop: bool) -> list[Stream]:
        supported, kept = self.output.supported_codecs, []
        for stream in source.passed_on:
            context: Any = stream.codec_context
            # PyAV lists containers' codecs by their decoders' names, some of them.
            if {context.codec.name, context.codec.canonical_name} & supported:
                kept.append(stream)
            elif drop:
                self.left_out.append(describe(stream))
            else:
                other = self._other_container(source)
                raise DeblurError(
                    self.path,
                    expected=f"streams that {container} holds",
                    found=describe(stream),
                    remedy=f"{other}{', or ' * bool(other)}leave such out with --drop-streams",
                )
        return kept

    def _other_container(self, source: VideoSource) -> str:
        """The first that holds everything, as a remedy; empty where none does."""
        contexts: list[Any] = [stream.codec_context for stream in source.passed_on]
        for suffix in (".mkv", ".mov", ".mp4"):
            if CONTAINERS[suffix] == CONTAINERS[self.path.suffix.lower()]:
                continue
            with av.open(os.devnull, "w", format=CONTAINERS[suffix]) as other:
                supported = other.supported_codecs
            names = [{c.codec.name, c.codec.canonical_name} for c in contexts]
            if self.encoder.codec in supported and all(name & supported for name in names):
                return f"write {self.path.with_suffix(suffix).name}"
        return ""

    def _describe_video(self, source: VideoSource, container: str) -> None:
        stream, context, colour = self.stream, self.stream.codec_context, self.colour
        stream.width, stream.height = self.size
        stream.pix_fmt = self.encoder.pixel_format
        if self.encoder.tag is not None and container in ("mp4", "mov"):
            context.codec_tag = self.encoder.tag
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

    def _add_stream(self, stream: Stream) -> None:
        copy = self.output.add_stream_from_template(stream)
        if isinstance(copy, AudioStream) and copy.layout.name.endswith(" channels"):
            # AVI and Matroska count channels; MP4 wants to know which they are.
            copy.codec_context.layout = USUAL_LAYOUTS.get(copy.layout.nb_channels, "stereo")
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        context: Any = stream.codec_context
        track = Track(describe(stream), context.name, Fraction(stream.time_base or 1))
        self.manifest.tracks[copy.index] = track
        self.passed_on[stream.index] = copy, track

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


def options_of(container: str) -> dict[str, str]:
    # Sound that starts a little before zero (AAC's priming) would move every timestamp
    # to make room for itself.
    options = {"avoid_negative_ts": "disabled"}
    if container in ("mp4", "mov"):
        # When a stream begins is told in these ticks, which are milliseconds otherwise.
        options["movie_timescale"] = "90000"
    return options


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
