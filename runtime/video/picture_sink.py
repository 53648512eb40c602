"""Frames written as numbered pictures."""

from __future__ import annotations

from pathlib import Path

from av import VideoFrame

from deblurgan.runtime.compare import Comparison
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image
from deblurgan.runtime.pictures import check_picture_name
from deblurgan.runtime.video.codecs import RGB, Coding, transparency, what_is_lost
from deblurgan.runtime.video.frame_sink import FrameSink
from deblurgan.runtime.video.source import VideoSource
from deblurgan.runtime.video.streams import describe
from deblurgan.runtime.video.video_input import name_of, numbered
from deblurgan.runtime.whole_file import make_folder


class PictureSink(FrameSink):
    """Writes each frame, upright, under its number, as ``pattern`` (``sharp/%05d.png``) says, from
    ``first`` on; with a ``comparison`` before and after in one. Each picture appears whole.
    """

    def __init__(
        self,
        pattern: Path,
        source: VideoSource,
        *,
        first: int = 1,
        overwrite: bool = False,
        comparison: Comparison | None = None,
    ) -> None:
        check_picture_name(pattern)
        self.pattern, self._number, self._comparison = pattern, first, comparison
        self._turn = source.turn
        self.size = comparison.size if comparison else source.turn.size(*source.size)
        self.encoder_name = pattern.suffix.lower().lstrip(".")
        self.left_out = [
            *source.left_out,
            *(describe(s) for s in source.passed_on),
            *what_is_lost(Coding.of(source.pixel_format), RGB),
            *transparency(source.pixel_format),
        ]
        if numbered(pattern) and not overwrite:
            raise DeblurError(
                pattern,
                expected="names that are free",
                found=f"{len(numbered(pattern))} pictures there already",
                remedy="choose another name, or replace them with -y",
            )

    def write(self, frame: VideoFrame, blurred: Frames, sharp: Frames) -> None:
        shown = self._comparison.compose(blurred, sharp) if self._comparison else self._turn(sharp)
        make_folder(self.pattern.parent)
        save_image(self.path(self._number), shown[:, :, ::-1])
        self._number += 1

    def path(self, number: int) -> Path:
        """The file of a frame."""
        return self.pattern.with_name(name_of(self.pattern, number))
