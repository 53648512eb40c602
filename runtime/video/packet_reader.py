"""The sound and subtitles of a part of a video, as packets that go along unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av import Packet
from av.container import InputContainer
from av.video.stream import VideoStream

from deblurgan.runtime.video.frame_reader import damage, demux_span, jumps_back, two_clocks
from deblurgan.runtime.video.span import Span
from deblurgan.runtime.video.streams import (
    beginning,
    describe,
    frame_rate,
    main_video_stream,
    open_container,
    passed_on,
)
from deblurgan.runtime.video.video_input import VideoInput

# How much further a file is read for sound that lies behind the last frame, in seconds.
INTERLEAVED = 10


def read_packets(
    given: VideoInput,
    span: Span,
    *,
    offset: Fraction,
    seek: bool,
    warn: Callable[[str], None] = lambda _: None,
) -> Iterator[Packet[Any]]:
    """The packets of a ``span`` in file order, at times that ``offset`` (seconds) is
    taken off; ``seek`` as in :class:`~deblurgan.runtime.video.frame_reader.FrameReader`.

    At the end ``warn`` is told of a file that is shorter than it says; raises
    :class:`DeblurError` where frames are missing that its index tells of, and where its clock
    jumps back.
    """
    with open_container(given) as container:
        video = main_video_stream(given, container)
        begin = beginning(video)
        frames, last, is_over = 0, Fraction(0), False
        decoded: Fraction | None = None
        kept, in_order = passed_on(container), InOrder()
        has_sound = any(stream.type == "audio" for stream in kept)
        for packet in demux_span(given, container, [video, *kept], video, span, seek):
            if packet.dts is None and packet.pts is None:
                continue
            if packet.size and packet.pts is not None:
                last = max(last, time_of(packet, packet.pts + (packet.duration or 0)))
            if packet.stream.index == video.index:
                frames += packet.size > 0
                if packet.dts is not None:
                    before, decoded = decoded, time_of(packet, packet.dts)
                    if before is not None and jumps_back(before, decoded, frame_rate(video)):
                        # Workers see a part each, and may not have come by.
                        raise two_clocks(given, before, decoded)
                    is_over |= span.place(decoded - begin) > 0
            elif packet.dts is not None and is_part(packet, begin, span, offset):
                if in_order.mend(packet):
                    name = describe(packet.stream)
                    warn(f"{given.name}: times of {name} go back: it may be heard or seen later")
                yield shift(packet, offset)
            if is_over and is_through(packet, begin, span, has_sound):
                return
        if span.is_whole:
            check_whole(given, container, video, frames, last, warn)


def check_whole(
    given: VideoInput,
    container: InputContainer,
    video: VideoStream,
    frames: int,
    last: Fraction,
    warn: Callable[[str], None],
) -> None:
    """Compare what was read, ``frames`` and the end of the last packet (seconds), with what
    the file tells of itself.
    """
    told, is_avi = video.frames, container.format.name == "avi"
    if not is_avi:  # which has an index where it is whole
        # What an edit list leaves out is not in the index.
        told = min(told, len(video.index_entries))
    is_short = told - frames > max(8, told // 50)
    if is_short and not is_avi:
        raise damage(given, f"{frames} frames where it tells of {told}; it was cut off")
    start = Fraction(container.start_time or 0, 1_000_000)
    whole = told / frame_rate(video) if is_short else Fraction(container.duration or 0, 1_000_000)
    if start + whole - last > max(Fraction(1), whole / 50):
        warn(
            f"{Path(given.name).name} ends after {float(last - start):.2f} s of "
            f"{float(whole):.2f} s: it may have been cut off"
        )


def read_last_time(given: VideoInput, span: Span, *, seek: bool) -> Fraction | None:
    """When the last frame of a span is shown, in seconds of the file, as its packets tell;
    None where they do not.
    """
    last: Fraction | None = None
    with open_container(given) as container:
        video = main_video_stream(given, container)
        begin = beginning(video)
        for packet in demux_span(given, container, [video], video, span, seek):
            ticks = packet.pts if packet.pts is not None else packet.dts
            if packet.size and ticks is not None:
                time = time_of(packet, ticks)
                if span.place(time - begin) == 0:
                    last = time if last is None else max(last, time)
            if packet.dts is not None and span.place(time_of(packet, packet.dts) - begin) > 0:
                break
    return last


class InOrder:
    """No container takes packets whose times go back, or are due before they are decoded."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # by stream, the last packet's time of decoding
        self._is_mended = False

    def mend(self, packet: Packet[Any]) -> bool:
        """Whether it is the first packet that had to be moved."""
        assert packet.dts is not None
        dts = max(packet.dts, self._last.get(packet.stream.index, packet.dts))
        pts = max(dts, packet.pts if packet.pts is not None else dts)
        self._last[packet.stream.index] = dts
        if dts == packet.dts and packet.pts in (pts, None):
            return False
        packet.dts, packet.pts = dts, pts
        before, self._is_mended = self._is_mended, True
        return not before


def is_part(packet: Packet[Any], begin: Fraction, span: Span, offset: Fraction) -> bool:
    """Whether it is heard or read in the span: a text that is there when the span starts is."""
    if packet.pts is None:
        return True
    time = time_of(packet, packet.pts)
    if packet.stream.type == "subtitle":
        end = time_of(packet, packet.pts + (packet.duration or 0))
        return span.place(time - begin) == 0 or (
            span.place(time - begin) < 0 <= span.place(end - begin)
        )
    return span.place(time - begin) == 0 and (not span.start or time >= offset)


def is_through(packet: Packet[Any], begin: Fraction, span: Span, has_sound: bool) -> bool:
    """Whether no sound of the span comes after this packet any more."""
    if not has_sound:
        return True
    assert span.end is not None
    late = 0 if packet.stream.type == "audio" else INTERLEAVED
    return packet.dts is not None and time_of(packet, packet.dts) >= begin + span.end + late


def shift(packet: Packet[Any], offset: Fraction) -> Packet[Any]:
    if not offset:
        return packet
    ticks = round(offset / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks
    if packet.stream.type == "subtitle" and packet.pts is not None and packet.pts < 0:
        packet.duration = (packet.duration or 0) + packet.pts
        packet.pts = packet.dts = 0
    return packet


def time_of(packet: Packet[Any], ticks: int) -> Fraction:
    return Fraction(ticks * packet.time_base)
