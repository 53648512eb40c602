"""Parts of pictures, drawn at random: where, how large, which way up."""

from __future__ import annotations

import torch
from torch import Tensor

from deblurgan.train.picture_files import fit_picture


def random_region(photo: Tensor, side: int, random: torch.Generator) -> Tensor:
    """A square from a random place, ``side`` pixels, or the photograph's shorter side
    where that is less; at a random scale down to a half.
    """
    shorter = min(photo.shape[-2:])
    side = min(side, shorter)
    taken = side + integer(min(2 * side, shorter) - side + 1, random)
    return fit_picture(cut(photo, taken, random), side, side)


def cut(pictures: Tensor, side: int, random: torch.Generator) -> Tensor:
    """A square from a random place of ``[..., H, W]``, the same one of each picture."""
    top, left = (integer(length - side + 1, random) for length in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side]


def turned(pictures: Tensor, flips: str, random: torch.Generator) -> Tensor:
    """Squares ``[..., side, side]``, mirrored and turned at random as far as allowed."""
    if flips == "none":
        return pictures
    if integer(2, random):
        pictures = pictures.flip(-1)
    return pictures if flips == "horizontal" else pictures.rot90(integer(4, random), (-2, -1))


def integer(bound: int, random: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=random))
