"""The video contract, proven: what went into a file is noted, and read back from it.

A muxer may round a time, reorder, drop or repack without a word. So the sink notes
each frame's time and each packet it passes on, and the finished file has to hold them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av import Packet, VideoFrame

from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.video.colour import Colour
from deblurgan.runtime.video.streams import display_matrix

NO_TEXT = b"\0\0"
# As far as every container tells a rotation: the 2x2 part of the matrix, of 16.16 numbers.
TURNING, LITTLE = (0, 1, 3, 4), 64


class Track:
    """The packets of one stream: times in ticks of ``time_base``, and a digest of all
    their bytes, one after the other.
    """

    def __init__(self, name: str, codec: str, time_base: Fraction) -> None:
        self.name, self.codec, self.time_base = name, codec, time_base
        self.times = array("q")
        self._digest = hashlib.sha256()

    def note(self, packet: Packet[Any]) -> None:
        content = bytes(packet)
        # MP4 fills the time between two texts with empty ones, and the end with nothing.
        if not content or (self.codec == "mov_text" and content == NO_TEXT):
            return
        if self.codec == "aac" and len(content) > 7 and content[0] == 255 and content[1] >= 0xF0:
            # The header of a packet in a broadcast is the stream's in a file.
            content = content[7 if content[1] & 1 else 9 :]
        self.times.append(time_of(packet))
        self._digest.update(content)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


@dataclass
class Manifest:
    """What a video file has to hold: ``frames`` are times in ticks of ``time_base``,
    ``tracks`` by the number of their stream there.
    """

    time_base: Fraction
    colour: Colour
    display_matrix: list[int] | None
    chapters: int = 0
    frames: array[int] = field(default_factory=lambda: array("q"))
    tracks: dict[int, Track] = field(default_factory=dict)

    @property
    def packets(self) -> int:
        return sum(len(track.times) for track in self.tracks.values())


def find_difference(path: Path, manifest: Manifest) -> str | None:
    """What of ``manifest`` the file at ``path`` does not hold; None where it holds all.

    Every packet is read, and the first frame decoded.
    """
    try:
        return read_difference(path, manifest)
    except av.FFmpegError as error:
        return f"a file that cannot be read again ({error.strerror})"


def read_difference(path: Path, manifest: Manifest) -> str | None:
    with av.open(f"file:{path}", metadata_errors="replace") as file:
        video = next(s for s in file.streams.video if s.index not in manifest.tracks)
        times, first = array("q"), cast("VideoFrame | None", None)
        found = {i: Track(t.name, t.codec, Fraction(0)) for i, t in manifest.tracks.items()}
        for packet in file.demux():
            check_interrupted()
            index = packet.stream.index
            if index == video.index:
                if first is None:
                    first = next(iter(video.decode(packet)), None)
                if packet.size:  # the last one of each stream is empty
                    times.append(time_of(packet))
            elif packet.size and index in found:
                found[index].time_base = packet.time_base
                found[index].note(packet)
        base = Fraction(video.time_base or 1)
        difference = compare_times("frame", manifest.frames, manifest.time_base, times, base)
        for index, track in manifest.tracks.items():
            difference = difference or compare_tracks(track, found[index])
        if difference is None and first is not None:
            difference = compare_colours(manifest.colour, Colour.of(first))
            if difference is None and not turn_alike(manifest.display_matrix, first):
                difference = "another rotation"
        if difference is None and len(file.chapters()) < manifest.chapters:
            difference = f"{len(file.chapters())} chapters of {manifest.chapters}"
    return difference


def time_of(packet: Packet[Any]) -> int:
    return packet.pts if packet.pts is not None else packet.dts or 0


def compare_times(
    name: str,
    wanted: Iterable[int],
    wanted_base: Fraction,
    found: Iterable[int],
    found_base: Fraction,
    exact: Fraction = Fraction(0),
) -> str | None:
    """Both in order of time; exact means within one tick of the file's, and ``exact`` seconds."""
    before, after = sorted(wanted), sorted(found)
    if len(before) != len(after):
        return f"{len(after)} of {len(before)} {name}s"
    if wanted_base == found_base and before == after:
        return None
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if abs(old * wanted_base - new * found_base) > max(found_base, exact):
            times = f"{float(new * found_base):.6f} s, not {float(old * wanted_base):.6f} s"
            return f"{name} {number} at {times}"
    return None


def compare_tracks(wanted: Track, found: Track) -> str | None:
    if wanted.digest != found.digest:
        count = f"{len(found.times)} packets of {len(wanted.times)}"
        return f"other content in its stream of {wanted.name} ({count})"
    if wanted.codec.startswith("pcm_") or len(wanted.times) != len(found.times):
        # Uncompressed sound is cut into packets anew, and timed anew, by every container.
        return compare_times(
            f"the start of its stream of {wanted.name},", wanted.times[:1], wanted.time_base,
            found.times[:1], found.time_base, wanted.time_base,
        )  # fmt: skip
    return compare_times(
        f"{wanted.name} packet", wanted.times, wanted.time_base, found.times, found.time_base,
        # Some containers time sound by its samples, more exactly than the input told it.
        wanted.time_base,
    )  # fmt: skip


def turn_alike(wanted: list[int] | None, frame: VideoFrame) -> bool:
    """A matrix may also move the picture, which Matroska does not tell and no player needs."""
    upright = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]
    before, after = wanted or upright, display_matrix(frame) or upright
    return all(abs(before[i] - after[i]) <= LITTLE for i in TURNING)


def compare_colours(wanted: Colour, found: Colour) -> str | None:
    # No tag of the range means limited, and x265 writes that down.
    for name in ("matrix", "full_range", "primaries", "transfer"):
        old, new = getattr(wanted, name), getattr(found, name)
        if old != new:
            return f"colours with {name.replace('_', ' ')} {new}, not {old}"
    return None
