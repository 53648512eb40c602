"""A video that goes all the way through, unchanged: what is lost, the video code lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import pytest

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.streams import display_matrix

FAST = Encoding(preset="ultrafast")


@pytest.fixture(scope="session")
def unchanged() -> Backend:
    return Unchanged()


@pytest.fixture(scope="session")
def convert() -> Callable[..., Path]:
    """``convert(source, target, encoding)``, by the backend that changes nothing."""
    return convert_unchanged


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], Contents]:
    """What is in a video file."""
    return read_contents


class Unchanged:
    """A backend that gives every frame back."""

    description, in_flight, memory = "unchanged", 2, None

    def run(self, frames: Frames) -> Frames:
        return frames

    def close(self) -> None: ...


@dataclass
class Contents:
    """What ffprobe would list of a file, times in seconds."""

    frames: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    passed_on: dict[str, list[tuple[Fraction, bytes]]] = field(default_factory=dict)
    tags: tuple[int, int, int, int] = (0, 0, 0, 0)
    matrix: list[int] | None = None


def read_contents(path: Path) -> Contents:
    found = Contents()
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.stream.type == "video":
                for frame in packet.decode():
                    base = frame.time_base
                    found.frames.append((frame.pts * base, frame.duration * base))
                    found.tags = (
                        frame.colorspace,
                        frame.color_range,
                        frame.color_primaries,
                        frame.color_trc,
                    )
                    found.matrix = display_matrix(frame)
            elif packet.stream.type in ("audio", "subtitle") and packet.dts is not None:
                packets = found.passed_on.setdefault(packet.stream.type, [])
                packets.append((packet.pts * packet.time_base, bytes(packet)))
    return found


def convert_unchanged(source: Path, target: Path, encoding: Encoding = FAST) -> Path:
    with VideoSource(source) as video, VideoSink(target, video, encoding) as sink:
        deblur_video(video, sink, Unchanged())
    return target
