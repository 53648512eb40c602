"""The output's container: coded segments, sound and subtitles, and all that goes with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
from av import Packet
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.disk import DISK_ERRORS, writing_to
from deblurgan.runtime.errors import DeblurError, Failure
from deblurgan.runtime.video.encoder import VideoLayout
from deblurgan.runtime.video.manifest import Manifest, Track
from deblurgan.runtime.video.segment import CodedPacket, Segment
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.streams import describe

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}


class VideoMuxer:
    """Opens ``part``, which is to be ``path``, for a video stream of ``layout`` and the
    source's sound, subtitles, metadata and chapters.

    Streams that the container cannot hold are refused, or with ``drop_streams`` left out:
    ``left_out`` names them. What is written is noted in ``manifest``.
    """

    def __init__(
        self,
        path: Path,
        part: Path,
        source: VideoSource,
        layout: VideoLayout,
        *,
        drop_streams: bool = False,
    ) -> None:
        self._input = source.input.name
        self.path, self.layout, self.left_out = path, layout, list[str]()
        self._frame_ticks = round(1 / layout.frame_rate / layout.time_base)
        self._end = None if source.end is None else round(source.end / layout.time_base)
        self.manifest = Manifest(layout.time_base, layout.colour, layout.display_matrix)
        with writing_to(path):
            self.output = av.open(
                f"file:{part}",
                "w",
                format=layout.container,
                options=options_of(layout.container, source.container.metadata),
            )
        try:
            self._check_codec(source)
            kept = self._choose_streams(source, drop_streams)
            self.stream = self._add_video(source)
            self.passed_on: dict[int, tuple[Stream, Track]] = {}
            for stream in kept:
                self._add_stream(stream)
            self.output.metadata.update(source.container.metadata)
            chapters = source.chapters()
            self.output.set_chapters(chapters)
            # Some containers know no two that start at once.
            self.manifest.chapters = len({chapter["start"] for chapter in chapters})
            with writing_to(path):
                self._start()
        except BaseException:
            self.close()
            raise

    def write(self, segments: Iterable[Segment], others: Iterable[Packet[Any]]) -> None:
        """Everything there is, in order of time."""
        others = iter(others)
        waiting = next(others, None)
        for packet in self._video_packets(list(segments)):
            check_interrupted()
            now = Fraction(packet.dts or 0) * self.layout.time_base
            while waiting is not None and Fraction((waiting.dts or 0) * waiting.time_base) <= now:
                self._pass_on(waiting)
                waiting = next(others, None)
            self._mux(packet)
        while waiting is not None:
            check_interrupted()
            self._pass_on(waiting)
            waiting = next(others, None)

    def close(self) -> None:
        with writing_to(self.path):
            self.output.close()

    def _video_packets(self, segments: list[Segment]) -> Iterator[Packet[Any]]:
        """With times of decoding that rise over all segments, as of one encoder."""
        header = bytes(self.stream.codec_context.extradata or b"").hex()
        for segment in segments:
            self.manifest.frames.extend(segment.summary.times)
            if segment.summary.header != header:
                raise Failure(
                    segment.path,
                    expected="what this machine's encoder makes",
                    found="another encoder's settings",
                    remedy="run the same command again: it begins anew",
                )
        delay = max((segment.summary.delay for segment in segments), default=0)
        times = iter(decode_times(self.manifest.frames, delay, self._frame_ticks))
        frames = self.manifest.frames
        ends = dict(pairwise([*frames, self._end]))  # until the next frame is shown
        for segment in segments:
            for coded in segment.packets():
                yield self._packet(coded, next(times), ends[coded.pts])

    def _packet(self, coded: CodedPacket, dts: int, end: int | None) -> Packet[Any]:
        packet: Packet[Any] = Packet(coded.content)
        packet.pts, packet.dts, packet.duration = coded.pts, dts, coded.duration
        if end is not None and end > coded.pts:
            packet.duration = end - coded.pts
        packet.time_base, packet.is_keyframe = self.layout.time_base, coded.is_keyframe
        packet.stream = self.stream
        return packet

    def _pass_on(self, packet: Packet[Any]) -> None:
        """Copy a packet of sound or subtitles unchanged, if its stream goes along."""
        stream, track = self.passed_on.get(packet.stream.index, (None, None))
        if stream is None or track is None:
            return
        track.note(packet)
        if not packet.duration and isinstance(stream, AudioStream) and len(track.times) > 1:
            # MP4 would leave out the last one, as of no length.
            packet.duration = track.times[-1] - track.times[-2]
        packet.stream = stream
        try:
            self._mux(packet)
        except av.FFmpegError as error:
            time = float((packet.dts or 0) * packet.time_base)
            raise DeblurError(
                self._input,
                expected="a whole video",
                found=f"a packet of {track.name} at {time:.2f} s that {self.layout.container} "
                f"refuses ({error.strerror})",
                remedy="save what is there with: ffmpeg -err_detect ignore_err -i FILE SAVED.mp4",
            ) from None

    def _mux(self, packet: Packet[Any]) -> None:
        with writing_to(self.path):
            self.output.mux(packet)

    def _start(self) -> None:
        try:
            self.output.start_encoding()
        except av.FFmpegError as error:
            if error.errno in DISK_ERRORS:
                raise
            streams = ", ".join(track.name for track in self.manifest.tracks.values())
            raise DeblurError(
                self.path,
                expected=f"streams that {self.output.format.name} holds",
                found=f"{self.layout.encoder.codec}{', ' * bool(streams)}{streams}, "
                "which it refuses",
                remedy="write it as .mkv, or choose another --codec"
                if self.layout.container != "matroska"
                else "check the input with: ffprobe FILE",
            ) from None

    def _check_codec(self, source: VideoSource) -> None:
        codec, container = self.layout.encoder.codec, self.layout.container
        supported = codec in self.output.supported_codecs
        # FFV1 has no place for colour tags, and MP4 one for all of them or none.
        if not supported or (codec, container) == ("ffv1", "mp4"):
            raise DeblurError(
                "--codec",
                expected=f"a codec that {container} holds",
                found=codec,
                remedy=self._other_container(source) or "choose another --codec",
            )

    def _choose_streams(self, source: VideoSource, drop: bool) -> list[Stream]:
        kept = []
        for stream in source.passed_on:
            if holds(self.layout.container, stream):
                kept.append(stream)
            elif drop:
                self.left_out.append(describe(stream))
            else:
                other = self._other_container(source)
                raise DeblurError(
                    self.path,
                    expected=f"streams that {self.layout.container} holds",
                    found=describe(stream),
                    remedy=f"{other}{', or ' * bool(other)}leave such out with --drop-streams",
                )
        return kept

    def _other_container(self, source: VideoSource) -> str:
        """The first that holds everything, as a remedy; empty where none does."""
        for suffix in (".mkv", ".mov", ".mp4"):
            if CONTAINERS[suffix] == CONTAINERS[self.path.suffix.lower()]:
                continue
            with av.open(os.devnull, "w", format=CONTAINERS[suffix]) as other:
                supported = other.supported_codecs
            holds_all = all(holds(CONTAINERS[suffix], stream) for stream in source.passed_on)
            if self.layout.encoder.codec in supported and holds_all:
                return f"write {self.path.with_suffix(suffix).name}"
        return ""

    def _add_video(self, source: VideoSource) -> VideoStream:
        encoder = self.layout.encoder
        stream = cast(
            VideoStream,
            self.output.add_stream(encoder.name, self.layout.frame_rate, dict(encoder.options)),
        )
        self.layout.set_up(stream.codec_context)
        stream.time_base = self.layout.time_base
        if self.layout.display_matrix is not None:
            stream.set_display_matrix(self.layout.display_matrix)
        stream.disposition = source.stream.disposition
        told = source.stream.metadata
        stream.metadata.update({k: told[k] for k in told if k != "alpha_mode"})  # it has none
        return stream

    def _add_stream(self, stream: Stream) -> None:
        copy = add_copy(self.output, stream)
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        context: Any = stream.codec_context
        track = Track(describe(stream), context.name, Fraction(stream.time_base or 1))
        self.manifest.tracks[copy.index] = track
        self.passed_on[stream.index] = copy, track


def holds(container: str, stream: Stream) -> bool:
    """Whether a container takes the packets of a stream: what it lists is not all that it
    looks at when its header is written.
    """
    context: Any = stream.codec_context
    with av.open(os.devnull, "w", format=container) as trial:
        # PyAV lists containers' codecs by their decoders' names, some of them.
        if not {context.codec.name, context.codec.canonical_name} & trial.supported_codecs:
            return False
        add_copy(trial, stream)
        try:
            trial.start_encoding()
        except av.FFmpegError:
            return False
    return True


def add_copy(output: OutputContainer, stream: Stream) -> Stream:
    """A stream of ``output`` for the packets of ``stream``, as they are."""
    copy = output.add_stream_from_template(stream)
    if isinstance(copy, AudioStream) and copy.layout.name.endswith(" channels"):
        # AVI and Matroska count channels; MP4 wants to know which they are.
        copy.codec_context.layout = USUAL_LAYOUTS.get(copy.layout.nb_channels, "stereo")
    return copy


def decode_times(frames: Iterable[int], delay: int, frame_ticks: int) -> list[int]:
    """When to decode: each packet as many frames before the one that is shown at its place
    as coding and showing are apart; ``frames`` are times of showing, in order.
    """
    times = list(frames)
    known = min(delay, len(times) - 1)
    # As encoders do it: the first ones by as much as the first frame waits.
    ahead = [times[i] - (times[known] - times[0]) for i in range(known)]
    while len(ahead) < delay:
        ahead.insert(0, (ahead[0] if ahead else times[0]) - frame_ticks)
    return [*ahead, *times][: len(times)]


def options_of(container: str, metadata: Mapping[str, str]) -> dict[str, str]:
    # Sound that starts a little before zero (AAC's priming) would move every timestamp
    # to make room for itself.
    # And what goes in twice comes out the same twice, without random numbers.
    options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
    if container in ("mp4", "mov"):
        # When a stream begins is told in these ticks, which are milliseconds otherwise.
        options["movie_timescale"] = "90000"
        if any("." in name for name in metadata):
            # Where a phone was, and which it is (com.apple.quicktime.make): such names are
            # written in a way of their own, which those of songs are not looked for in.
            options["movflags"] = "use_metadata_tags"
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
