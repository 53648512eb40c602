"""Between a video's coded colours and RGB, and back to the very same coding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import to_8_bits

# libswscale's numbers of the matrices (PyAV names only some), by H.273 code point.
ITU709, FCC, ITU601, SMPTE240M, BT2020 = 1, 4, 5, 7, 9
MATRICES = {1: ITU709, 4: FCC, 5: ITU601, 6: ITU601, 7: SMPTE240M, 9: BT2020, 10: BT2020}
UNTAGGED = (2, 3)
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}

# libswscale's flags, by number likewise. Exact rounding and full chroma: what is
# not blurred must come back unchanged.
BICUBIC, FULL_CHROMA_OUT, FULL_CHROMA_IN, ACCURATE_ROUNDING = 0x4, 0x2000, 0x4000, 0x40000
QUALITY = BICUBIC | FULL_CHROMA_OUT | FULL_CHROMA_IN | ACCURATE_ROUNDING


@dataclass(frozen=True)
class Colour:
    """How a video's colours are coded: H.273 code points, as tagged or not."""

    matrix: int
    full_range: bool
    range_tag: int
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: VideoFrame) -> Colour:
        """Read a decoded frame's tags."""
        # Has no matrix; it gets the commonest, and keeps its range.
        if frame.format.is_rgb or frame.format.has_palette:
            return cls(1, True, int(ColorRange.JPEG), frame.color_primaries, frame.color_trc)
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        # What everyone takes grey for, where nothing says otherwise.
        full |= frame.format.name.startswith("gray") and frame.color_range != ColorRange.MPEG
        # What grey pictures are tagged with, as there is no matrix to it.
        is_grey = frame.format.name.startswith("gray") and frame.colorspace == 0
        return cls(
            matrix=1 if is_grey else frame.colorspace,
            full_range=full,
            range_tag=int(ColorRange.JPEG) if full else int(frame.color_range),
            primaries=frame.color_primaries,
            transfer=frame.color_trc,
        )

    @property
    def hdr(self) -> str | None:
        """The name of the HDR transfer curve, if it is one."""
        return HDR_TRANSFERS.get(self.transfer)

    @property
    def is_known(self) -> bool:
        """Whether its matrix is one of those that are converted here."""
        return self.matrix in MATRICES or self.matrix in UNTAGGED

    def limited(self) -> Colour:
        """The same in limited range, for a codec that knows no other."""
        if not self.full_range:
            return self
        return replace(self, full_range=False, range_tag=int(ColorRange.MPEG))

    def sws_matrix(self, height: int) -> int:
        """libswscale's number; untagged video is taken as players take it, by height."""
        return MATRICES.get(self.matrix, ITU709 if height >= 720 else ITU601)


class ColourConverter:
    """Converts frames of one coding to RGB of ``size`` (width, height) and back, and to
    like codings.
    """

    def __init__(self, colour: Colour, size: tuple[int, int]) -> None:
        self.colour, self.size = colour, size
        # Each is set up for one conversion at a time, and these take turns.
        self._decode, self._encode, self._recode = (VideoReformatter() for _ in range(3))

    def to_rgb(self, frame: VideoFrame) -> Frames:
        """RGB uint8 ``[height, width, 3]``, full range."""
        if is_deep(frame):  # swscale's own way there wraps around what is beyond white
            return to_8_bits(self.to_fine_rgb(frame))
        return self._to(frame, "rgb24")

    def to_fine_rgb(self, frame: VideoFrame) -> NDArray[np.uint16]:
        """RGB uint16 ``[height, width, 3]``, full range."""
        return self._to(frame, "rgb48le")

    def from_rgb(self, pixels: NDArray[Any], pixel_format: str) -> VideoFrame:
        """A frame in the video's own coding, tagged (or untagged) as it was; from RGB of
        8 or 16 bits.
        """
        given = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=given)
        coded = self._convert(self._encode, rgb, pixel_format, True, self.colour.full_range)
        coded.colorspace, coded.color_range = self.colour.matrix, self.colour.range_tag
        coded.color_primaries, coded.color_trc = self.colour.primaries, self.colour.transfer
        return coded

    def recode(self, frame: VideoFrame, pixel_format: str, full_range: bool) -> VideoFrame:
        """The frame in this pixel format and range, and ``size``; itself where it has them."""
        return self._convert(self._recode, frame, pixel_format, self.colour.full_range, full_range)

    def _to(self, frame: VideoFrame, pixel_format: str) -> NDArray[Any]:
        rgb = self._convert(self._decode, frame, pixel_format, self.colour.full_range, True)
        # Rows may be padded: engines want them one after the other.
        return np.ascontiguousarray(rgb.to_ndarray())

    def _convert(
        self,
        reformatter: VideoReformatter,
        frame: VideoFrame,
        pixel_format: str,
        from_full_range: bool,
        to_full_range: bool,
    ) -> VideoFrame:
        return reformatter.reformat(
            frame,
            width=self.size[0],
            height=self.size[1],
            format=pixel_format,
            src_colorspace=self.colour.sws_matrix(frame.height),
            dst_colorspace=self.colour.sws_matrix(frame.height),
            src_color_range=int(ColorRange.JPEG if from_full_range else ColorRange.MPEG),
            dst_color_range=int(ColorRange.JPEG if to_full_range else ColorRange.MPEG),
            interpolation=QUALITY,
            threads=1,
        )


def is_deep(frame: VideoFrame) -> bool:
    """Whether it has more than 8 bits a sample."""
    return max(component.bits for component in frame.format.components) > 8


def check_colours(name: str, colour: Colour) -> None:
    """Raises :class:`DeblurError` for HDR, and for a way to code them that is not known."""
    if colour.hdr:
        raise DeblurError(
            name,
            expected="standard dynamic range",
            found=f"HDR ({colour.hdr})",
            remedy="convert it first: ffmpeg -i FILE -vf "
            "zscale=t=linear:npl=100,tonemap=hable,zscale=p=bt709:t=bt709:m=bt709:r=tv,"
            "format=yuv420p -c:a copy SDR.mp4",
        )
    if not colour.is_known:
        raise DeblurError(
            name,
            expected="colours coded in the ways of BT.601, 709, 2020, 240M or FCC",
            found=f"matrix {colour.matrix} of H.273",
            remedy="convert it first: ffmpeg -i FILE -vf scale=out_color_matrix=bt709 "
            "-colorspace bt709 -c:a copy CONVERTED.mp4",
        )
