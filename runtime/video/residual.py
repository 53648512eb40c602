"""What deblurring changed, added to a frame in the coding that it has in the video.

Pixels that go to RGB and back lose something: colour is interpolated and averaged again,
what is brighter than white or more colourful than RGB is cut off, and so is depth beyond
8 bits. So the frame itself stays, and takes the change alone: the network's two pictures
are both coded, and what they differ by is added.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.video.colour import Colour, ColourConverter, is_deep


class ResidualCoder:
    """Makes frames of ``pixel_format`` and ``written`` colours out of frames of ``given``
    colours and the RGB before and after, all of ``size`` (width, height).

    Where nothing changed, a frame of that format and those colours stays the same to the bit.
    """

    def __init__(
        self, given: Colour, written: Colour, pixel_format: str, size: tuple[int, int]
    ) -> None:
        self.pixel_format = pixel_format
        self.given, self.written = ColourConverter(given, size), ColourConverter(written, size)

    def code(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> VideoFrame:
        """A new frame: this one, and the change from ``blurred`` to ``sharp``, both uint8
        RGB ``[height, width, 3]``.
        """
        own = self.given.recode(frame, self.pixel_format, self.written.colour.full_range)
        before = self.written.from_rgb(blurred, self.pixel_format)
        made = self.written.from_rgb(sharp, self.pixel_format)
        wide: Any = np.int32 if is_deep(made) else np.int16
        for kept, old, new in zip(planes(own), planes(before), planes(made), strict=True):
            used = min(kept.shape[1], new.shape[1])  # rows are padded as their maker likes
            total = new[:, :used].astype(wide)
            total -= old[:, :used]
            total += kept[:, :used]
            np.clip(total, 0, largest(made), out=new[:, :used], casting="unsafe")
        return made


class ComparisonCoder:
    """Codes frames before and after deblurring as one picture, as ``comparison`` puts them."""

    def __init__(self, residual: ResidualCoder, comparison: Comparison) -> None:
        self._residual, self._comparison = residual, comparison
        self._both = ColourConverter(residual.written.colour, comparison.size)

    def code(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> VideoFrame:
        """A new frame, of the comparison's size."""
        before: Any = blurred
        after: Any = sharp
        if is_deep(frame):
            made = self._residual.code(frame, blurred, sharp)
            before = self._residual.given.to_fine_rgb(frame)
            after = self._residual.written.to_fine_rgb(made)
        both = self._comparison.compose(before, after)
        return self._both.from_rgb(both, self._residual.pixel_format)


def planes(frame: VideoFrame) -> list[NDArray[Any]]:
    """Its samples, to be read and written, ``[rows, samples]`` with the padding."""
    dtype = np.uint8 if frame.format.components[0].bits <= 8 else np.uint16
    return [np.frombuffer(p, dtype).reshape(p.height, -1) for p in frame.planes]  # type: ignore[call-overload]


def largest(frame: VideoFrame) -> int:
    """The largest value of its samples; P010 has them at the upper end of 16 bits."""
    bits = frame.format.components[0].bits
    return (2**bits - 1) << (16 - bits if frame.format.name.startswith("p0") else 0)
