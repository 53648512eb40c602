"""Where a video's frames go, whatever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

from av import VideoFrame

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.video.manifest import Manifest
from deblurgan.runtime.video.source import Part

S = TypeVar("S", bound="FrameSink")


class FrameSink(ABC):
    """A context that leaves no half of an output behind. ``size`` is that of what is written,
    (width, height), ``left_out`` what of the source it does not keep, ``manifest`` what was
    written, where that is known once it is committed.
    """

    size: tuple[int, int]
    encoder_name: str
    left_out: list[str]
    manifest: Manifest | None = None

    def missing(self) -> list[Part]:
        """The parts of the source that are to be written: all of it."""
        return [Part()]

    @abstractmethod
    def write(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> None:
        """A decoded frame, and RGB uint8 ``[height, width, 3]`` of before and after."""

    def flush(self) -> None:  # noqa: B027  (nothing waits in most of them)
        """A part is through."""

    def commit(self, *, verify: bool = True) -> None:  # noqa: B027
        """Everything is written; ``verify`` reads it again, where that can be."""

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
