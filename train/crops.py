"""Parts of pictures, drawn at random: where, how large, which way up."""

from __future__ import annotations

import torch
from torch import Tensor

from deblurgan.train.picture_files import fit_picture

# Of a square, by the setting that allows them: quarter turns, from 4 on of its mirror image.
ORIENTATIONS = {"none": range(1), "horizontal": range(0, 8, 4), "all": range(8)}


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
    mirrored = 4 * integer(2, random)
    return turn(pictures, mirrored if flips == "horizontal" else mirrored + integer(4, random))


def turn(squares: Tensor, orientation: int) -> Tensor:
    """Squares ``[..., side, side]`` in one of ``ORIENTATIONS["all"]``; 0 is their own."""
    if orientation >= 4:
        squares = squares.flip(-1)
    return squares.rot90(orientation % 4, (-2, -1))


def turn_back(squares: Tensor, orientation: int) -> Tensor:
    """The inverse of :func:`turn`."""
    squares = squares.rot90(-orientation % 4, (-2, -1))
    return squares.flip(-1) if orientation >= 4 else squares


def integer(bound: int, random: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=random))
