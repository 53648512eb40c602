"""Video clips as photographs: which frames are taken, and their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from deblurgan.runtime.errors import DeblurError

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
EVERY = 1.0  # seconds: frames that are closer show the same


def list_frames(path: Path) -> list[int]:
    """The frames of a clip to take, at least a second apart, by their time stamps.

    Raises ``DeblurError`` for what is not a whole video.
    """
    stamps, tick = list_stamps(path)
    taken: list[int] = []
    for stamp in stamps:
        if not taken or (stamp - taken[-1]) * tick >= EVERY:
            taken.append(stamp)
    return taken


def list_stamps(path: Path) -> tuple[list[int], float]:
    """The time stamps of all frames that a clip shows, in ticks of the stream, and the
    seconds of a tick. Reads the whole file, and decodes nothing.

    Raises ``DeblurError`` for what is not a whole video.
    """
    with open_clip(path) as (container, stream):
        tick = float(stream.time_base or 0) or 1 / float(stream.guessed_rate or 25)
        packets = [packet for packet in container.demux(stream) if packet.size]
        missing = stream.frames - len(packets)
        # Other containers count something else; an edit list leaves out a few on purpose.
        cut_off = container.format.name.startswith("mov") and missing > max(8, stream.frames // 50)
        if cut_off or not packets:
            raise damaged(path, f"{len(packets)} frames where it tells of {stream.frames}")
    shown = (packet for packet in packets if not packet.is_discard)
    return sorted({p.pts if p.pts is not None else p.dts or 0 for p in shown}), tick


def read_frame(path: Path, stamp: int) -> Tensor:
    """One frame of a clip, uint8 ``[3, H, W]``, RGB, upright as the clip says."""
    return next(read_frames(path, [stamp]))


def read_frames(path: Path, stamps: Sequence[int]) -> Iterator[Tensor]:
    """Frames of a clip in the order of their time stamps, decoded in one go.

    Raises ``DeblurError`` where the clip does not decode.
    """
    wanted = list(stamps)
    with open_clip(path) as (container, stream):
        container.seek(wanted[0], stream=stream)
        for frame in container.decode(stream):
            pts = frame.pts if frame.pts is not None else frame.dts
            if wanted and pts is not None and pts >= wanted[0]:
                del wanted[0]
                yield to_picture(frame)
            if not wanted:
                return
    raise damaged(path, "an end before its last frame")


def to_picture(frame: VideoFrame) -> Tensor:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@contextmanager
def open_clip(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A clip and its first video stream; what FFmpeg says inside becomes ``DeblurError``."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise damaged(path, "no video stream")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError) as error:
        raise damaged(path, (error.strerror or str(error)).lower()) from None


def damaged(path: Path, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected="a whole video clip",
        found=found,
        remedy=f"remove it from the folder; see what is wrong with: ffprobe {path.name}",
    )
