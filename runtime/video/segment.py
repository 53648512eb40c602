"""Segments: runs of at most two seconds of frames, each encoded on its own.

They are what a stopped job goes on from, and what several machines share out. A segment
is a file of coded packets as the encoder gave them, closed by what is known of them and
a checksum over all; a container would round times, and not say whether it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from av import Packet, VideoFrame

from deblurgan.runtime.video.residual import planes

LENGTH = 2  # seconds
MAGIC = b"deblurgan segment 1\n"
HEAD = struct.Struct("<qqqBI")  # pts, dts, duration, key frame, bytes
END = struct.Struct("<I")  # bytes of the summary
DIGEST = hashlib.sha256
DIGEST_SIZE = 32


def segment_of(frame: VideoFrame) -> int:
    """The number of the segment that a frame of the output is in."""
    assert frame.pts is not None, "the source sees to it"
    return floor(frame.pts * Fraction(frame.time_base or 1) / LENGTH)


@dataclass(frozen=True)
class Summary:
    """Of a segment: when its frames are shown (ticks, in order), by how many frames coding
    and showing are apart, the encoder's global header, and the picture of the last frame
    before it was deblurred, as a digest: whoever goes on from here knows it again.
    """

    times: array[int]
    delay: int
    header: str
    last_picture: str


class SegmentWriter:
    """Writes packets as they come; the file has its name after :meth:`close`."""

    def __init__(self, path: Path) -> None:
        self.path, self._part = path, path.with_suffix(".part")
        self._digest, self._packets = DIGEST(), list[tuple[int, int]]()
        self._file = self._part.open("wb")
        self._write(MAGIC)

    def add(self, packet: Packet[Any]) -> None:
        content = bytes(packet)
        pts, dts = packet.pts or 0, packet.dts or 0
        self._packets.append((pts, dts))
        head = HEAD.pack(pts, dts, packet.duration or 0, packet.is_keyframe, len(content))
        self._write(head + content)

    def close(self, header: bytes, last_picture: str) -> Segment:
        """On the disk by then: it outlasts a power cut."""
        times = array("q", sorted(pts for pts, _ in self._packets))
        delay = sum(dts < times[0] for _, dts in self._packets)
        summary = Summary(times, delay, header.hex(), last_picture)
        text = json.dumps(asdict(summary), default=list).encode()
        self._write(HEAD.pack(0, 0, 0, 0, 0) + text + END.pack(len(text)))
        self._file.write(self._digest.digest())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self.path)
        return Segment(self.path, summary)

    def abort(self) -> None:
        """Close the file without giving it its name."""
        with suppress(OSError):  # what is not written yet may find no room now
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _write(self, content: bytes) -> None:
        self._digest.update(content)
        self._file.write(content)


@dataclass(frozen=True)
class CodedPacket:
    """Times in ticks of the video's time base."""

    pts: int
    duration: int
    is_keyframe: bool
    content: bytes


@dataclass(frozen=True)
class Segment:
    """One that is whole."""

    path: Path
    summary: Summary

    def packets(self) -> Iterator[CodedPacket]:
        """In the order of coding."""
        with self.path.open("rb") as file:
            file.seek(len(MAGIC))
            while True:
                pts, _, duration, is_keyframe, size = HEAD.unpack(file.read(HEAD.size))
                if not size:
                    return
                yield CodedPacket(pts, duration, bool(is_keyframe), file.read(size))


def open_segment(path: Path) -> Segment | None:
    """None for a file that is damaged or not whole."""
    digest = DIGEST()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - DIGEST_SIZE
        if size < len(MAGIC) + END.size:
            return None
        left = size
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        if left or file.read() != digest.digest():
            return None
        file.seek(0)
        if file.read(len(MAGIC)) != MAGIC:  # another version's
            return None
        file.seek(size - END.size)
        (length,) = END.unpack(file.read(END.size))
        file.seek(size - END.size - length)
        told = json.loads(file.read(length))
        return Segment(path, Summary(**{**told, "times": array("q", told["times"])}))


def digest_of(frame: VideoFrame) -> str:
    """Of a decoded picture's first plane, without what pads its rows."""
    picture = planes(frame)[0][:, : frame.width]
    return DIGEST(np.ascontiguousarray(picture).data).hexdigest()
