"""A video file being written: in segments beside it, and under its name when it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from av import VideoFrame

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.console import signals_wait
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.disk import DiskError, writing_to
from deblurgan.runtime.errors import DeblurError, Failure
from deblurgan.runtime.video.codecs import Encoding, choose_encoder
from deblurgan.runtime.video.encoder import SegmentEncoder, VideoLayout
from deblurgan.runtime.video.frame_sink import FrameSink
from deblurgan.runtime.video.manifest import find_difference
from deblurgan.runtime.video.muxer import VideoMuxer, container_format
from deblurgan.runtime.video.segment import LENGTH, Segment
from deblurgan.runtime.video.source import Part, VideoSource
from deblurgan.runtime.video.unfinished import Unfinished

PARTLY = ".unverified"


class VideoSink(FrameSink):
    """Writes in a folder beside ``path``, which has its name after :meth:`commit`; as a
    context it leaves nothing behind when that is not reached, but with ``keep`` the
    segments that are finished, for the next run of the same job to go on from.

    The output has the source's time base, colour tags, shape of pixels, rotation,
    metadata and chapters, and its sound and subtitles as they are; its pictures are the
    sharp ones, or with a ``comparison`` both, upright. Streams that the container cannot hold are
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
        keep: bool = False,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path, self.size = path, comparison.size if comparison else source.size
        self.source, self.keep, self.warn, self._drop_streams = source, keep, warn, drop_streams
        container = container_format(path)
        self.encoder = choose_encoder(encoding, container, source.pixel_format, self.size, warn)
        self.encoder_name = self.encoder.name
        self.layout = VideoLayout.of(source, self.encoder, comparison, container)
        self.kept_seconds = 0
        self._unfinished, self._has_gone_on = Unfinished(path), False
        try:
            if not keep:
                self._unfinished.clear()
            # What the container does not take is to be known before the first frame.
            muxer = self._open_muxer()
            unread = [name for name in source.left_out if name not in source.written_anew]
            lost = *self.encoder.lost, *self.layout.lost
            self.left_out = [*unread, *lost, *muxer.left_out]
            muxer.close()
            self._unfinished.part.unlink(missing_ok=True)
            self._segments = SegmentEncoder(
                path, self.layout, source, comparison, self._unfinished.begin, self._note
            )
        except BaseException:
            self._leave()
            raise

    def go_on(self, job: Mapping[str, str]) -> int:
        """Take over what an earlier run of the same job left; the frames of it. ``job`` names
        what decides about the output apart from the source and the encoder.
        """
        self._has_gone_on = True
        differs = self._unfinished.go_on({**describe_job(self.source, self.layout), **job})
        if differs:
            self.warn(f"begun anew: the unfinished {self.path.name} had another {differs[0]}")
        return sum(len(s.summary.times) for s in self._unfinished.segments.values())

    def missing(self) -> list[Part]:
        """What of the source is not finished yet."""
        finished = sorted(self._unfinished.segments)
        parts, begin = list[Part](), None
        for number in finished:
            before = self._unfinished.segments.get(number - 1)
            if before is None and (begin is not None or number > 0):
                parts.append(self._part(begin, number))
            begin = number + 1
        return [*parts, self._part(begin, None)]

    def write(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> None:
        self._segments.encode(frame, blurred, sharp)

    def missing_numbers(self) -> list[int]:
        """The numbers of the segments that are not finished yet."""
        finished = self._unfinished.segments
        return [n for n in self.source.segment_numbers() if n not in finished]

    def take(self, number: int, content: bytes) -> None:
        """A segment's file that was made elsewhere; empty where it has no frames."""
        if content:
            self._unfinished.add(number, content)

    def flush(self) -> None:
        self._segments.flush()

    def commit(self, *, verify: bool = True) -> None:
        """Finish the file, read it again to see that it holds everything, and give it its name.

        Raises :class:`Failure` where it does not; the file is then kept under another name.
        """
        self._segments.flush()
        if self.source.has_changed():
            raise DeblurError(
                self.source.input.name,
                expected="the file that it was at the start",
                found="another one",
                remedy="run it again when nothing writes the file any more",
            )
        muxer = self._open_muxer()
        try:
            finished = self._unfinished.segments
            muxer.write([finished[n] for n in sorted(finished)], self.source.packets())
        finally:
            muxer.close()
        self.manifest = muxer.manifest
        part = self._unfinished.part
        difference = find_difference(part, muxer.manifest) if verify else None
        with writing_to(self.path):
            if difference is not None:
                kept = self.path.with_name(self.path.stem[:200] + PARTLY + self.path.suffix)
                os.replace(part, kept)
                raise Failure(
                    self.path,
                    expected="a file with the frames, times, sound and colours of the input",
                    found=difference,
                    remedy=f"look at {kept.name}, where it is kept, and report it; another "
                    "container (.mkv) may hold it, and --no-verify takes it as it is",
                )
        self._unfinished.name()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with signals_wait():
            self._segments.abort()
            self._leave(error)

    def _leave(self, error: BaseException | None = None) -> None:
        # What is wrong with the input will be so again; an earlier run's is not this one's.
        is_worth_it = not isinstance(error, DeblurError) or isinstance(error, DiskError)
        is_earlier = not self._has_gone_on
        if self.keep and (is_worth_it or is_earlier) and self._unfinished.has_segments:
            self.kept_seconds = LENGTH * len(self._unfinished.segments)
            self._unfinished.close()
        else:
            self._unfinished.remove()

    def _open_muxer(self) -> VideoMuxer:
        return VideoMuxer(
            self.path,
            self._unfinished.part,
            self.source,
            self.layout,
            drop_streams=self._drop_streams,
        )

    def _note(self, number: int, segment: Segment) -> None:
        self._unfinished.segments[number] = segment

    def _part(self, begin: int | None, end: int | None) -> Part:
        before = None if begin is None else self._unfinished.segments[begin - 1].summary
        return Part(begin, end, before)


def describe_job(source: VideoSource, layout: VideoLayout) -> dict[str, str]:
    """What of a video and its encoder decides about the output."""
    encoder = layout.encoder
    return {
        "input": source.identity,
        "part of the input": f"{source.span.start} for {source.span.duration}",
        "beginning": str(source.offset),
        "encoder": f"{encoder.name} {encoder.options} {encoder.pixel_format} {encoder.threads}",
        "size": f"{layout.size[0]}x{layout.size[1]}",
        "frame rate": f"{layout.frame_rate}, in ticks of {layout.time_base}",
        "container": layout.container,
        "colours": repr(layout.colour),
    }
