"""Pairs on the disk: a blurred picture, its sharp partner, and how they find each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.picture_files import list_pictures, read_picture


@dataclass(frozen=True)
class PairFiles:
    """A blurred picture and its sharp partner; one combined picture, the blurred half
    on its left, where both are the same file.
    """

    name: str
    blurred: Path
    sharp: Path

    def read(self) -> tuple[Tensor, Tensor]:
        """Both pictures, uint8 ``[3, H, W]``; raises ``DeblurError`` if their sizes differ."""
        blurred = read_picture(self.blurred)
        if self.sharp == self.blurred:
            width = blurred.shape[-1]
            if width % 2:
                raise DeblurError(
                    self.blurred,
                    expected="two pictures of one size side by side",
                    found=f"an odd width, {size_text(blurred)}",
                    remedy="remove it from the folder, or combine the two again",
                )
            return blurred[..., : width // 2], blurred[..., width // 2 :]
        sharp = read_picture(self.sharp)
        if blurred.shape != sharp.shape:
            raise DeblurError(
                self.blurred,
                expected=f"the size of its sharp partner {self.sharp}, {size_text(sharp)}",
                found=size_text(blurred),
                remedy="remove both, or put the right partner in its place",
            )
        return blurred, sharp


def match_partners(blurred: Path, sharp: Path) -> list[PairFiles]:
    """Pairs of one name, whatever its ending, out of two folders."""
    for folder in (blurred, sharp):
        if not folder.is_dir():
            raise DeblurError(
                folder.parent,
                expected=f"{blurred.name}/ and {sharp.name}/",
                found=f"no {folder.name}/",
                remedy="complete the folder, or name another",
            )
    sides = [by_stem(list_pictures(folder)) for folder in (blurred, sharp)]
    for mine, others, folder in ((sides[0], sides[1], sharp), (sides[1], sides[0], blurred)):
        lonely = [path for stem, path in mine.items() if stem not in others]
        if lonely:
            more = f" (nor for {len(lonely) - 1} more)" if lonely[1:] else ""
            raise DeblurError(
                lonely[0],
                expected=f"a partner of the same name in {folder}",
                found=f"none{more}",
                remedy="add the partner, or remove this one",
            )
    return [PairFiles(path.name, path, sides[1][stem]) for stem, path in sides[0].items()]


def by_stem(pictures: list[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in pictures:
        other = named.setdefault(path.stem, path)
        if other is not path:
            raise DeblurError(
                path,
                expected="one picture of each name",
                found=f"{other.name} beside it",
                remedy="remove one of the two",
            )
    return named


def size_text(picture: Tensor) -> str:
    """``1280x720`` for ``[3, 720, 1280]``."""
    height, width = picture.shape[-2:]
    return f"{width}x{height}"
