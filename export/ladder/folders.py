"""The pairs that a ladder is measured on, and pictures of them for other steps to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image
from deblurgan.runtime.whole_file import make_folder
from deblurgan.train.blur import SMALLEST_PICTURE
from deblurgan.train.evaluation import EVAL_V1, EvaluationPair, evaluation_pairs
from deblurgan.train.layouts import PhotoFile, PhotoSource, Source, check_source, find_source
from deblurgan.train.metrics import SSIM_WINDOW


@dataclass(frozen=True)
class PairFolder:
    """A folder of pairs, or of photographs that ``blur`` (eval-v1) makes pairs of.

    ``name`` is unlike the other folders'; ``limit`` takes no more pairs, evenly spread.
    """

    name: str
    source: Source
    limit: int | None

    @property
    def blur(self) -> str | None:
        return EVAL_V1.name if isinstance(self.source, PhotoSource) else None

    @property
    def of(self) -> int:
        """Pairs that are there."""
        source = self.source
        return len(source.photos) if isinstance(source, PhotoSource) else len(source.pairs)

    @property
    def pictures(self) -> int:
        """Pairs that are taken."""
        return self.of if self.limit is None else min(self.of, self.limit)

    def read(self) -> Iterator[EvaluationPair]:
        """The pairs that are taken, one by one."""
        return evaluation_pairs(self.source, limit=self.limit)

    def sizes(self) -> set[tuple[int, int]]:
        """Width and height of all pictures in the folder."""
        source = self.source
        files = source.photos if isinstance(source, PhotoSource) else source.pairs
        pictures = (f.read() if isinstance(f, PhotoFile) else f.read()[0] for f in files)
        return {(picture.shape[-1], picture.shape[-2]) for picture in pictures}


def open_folders(
    folders: Sequence[str | Path], smallest: int, limit: int | None
) -> list[PairFolder]:
    """Find and decode the pairs of every folder, in any layout that training takes;
    ``sharp:FOLDER`` and folders of photographs alone are blurred by ``eval-v1``.

    Raises ``DeblurError`` for none, and for the first picture that does not decode or
    is less than ``smallest`` pixels a side.
    """
    if not folders:
        raise DeblurError(
            "--pairs",
            expected="one folder of pairs or more",
            found="none",
            remedy="for example --pairs GOPRO_Large, or --pairs sharp:PHOTOS to have them blurred",
        )
    opened: list[PairFolder] = []
    for given in folders:
        source = find_source(str(given), "test")
        least = SMALLEST_PICTURE if isinstance(source, PhotoSource) else SSIM_WINDOW
        check_source(source, max(least, smallest))
        names = {folder.name for folder in opened}
        opened.append(PairFolder(new_name(source.path, names), source, limit))
    return opened


def new_name(path: Path, taken: set[str]) -> str:
    """The folder's own name; with its parent's, or a number, where another has it."""
    path = path.resolve()
    name = path.name or "pairs"
    if name in taken:
        name = f"{path.parent.name}/{name}"
    number = 2
    while name in taken:
        name, number = f"{path.name} ({number})", number + 1
    return name


def write_blurred(folder: PairFolder, target: Path, limit: int) -> Path:
    """``target`` with the blurred pictures of at most ``limit`` pairs, as PNG: what reads
    pictures need not know how these came about.
    """
    make_folder(target)
    for index, pair in enumerate(evaluation_pairs(folder.source, limit=limit)):
        save_image(target / f"{index:04}.png", to_frame(pair.blurred)[0, :, :, ::-1])
    return target


def to_frame(picture: Tensor) -> Frames:
    """RGB uint8 ``[1, H, W, 3]``, as the runtime has it, of ``[3, H, W]``."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy()[None])
