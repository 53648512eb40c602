"""A teacher: a trained generator whose pictures another one learns from (Hinton et al. 2015).

The mean of what it sees of a picture in several orientations is nearer to the truth than
each of them, so that a network can even learn from itself (data distillation, Radosavovic
et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import load_checkpoint
from deblurgan.train.crops import ORIENTATIONS, turn, turn_back
from deblurgan.train.networks import Generator
from deblurgan.train.recipe import Recipe
from deblurgan.train.samples import seeded

BANDS = 3
"""From the finest on, each of half the frequencies of the one before, that are stretched."""
STRETCH = (0.0, 1.6)
"""The least and the largest factor."""
UNCHANGED = 1e-7
"""A change whose mean square, in [-1, 1], is below this has no direction."""


def load_teacher(recipe: Recipe, path: Path | None) -> Generator | None:
    """A checkpoint's generator, which may be another network than the recipe's.

    Raises ``DeblurError`` for a recipe that leaves it nothing to teach.
    """
    if path is None:
        return None
    found = load_checkpoint(path).generator
    if not recipe.loss.pixel:
        raise DeblurError(
            "--teacher",
            expected="a recipe with loss.pixel above 0, as a teacher teaches pixels",
            found="loss.pixel = 0",
            remedy="add --set loss.pixel=1, or leave --teacher out",
        )
    if recipe.data.crop < found.minimum_size:
        raise DeblurError(
            path,
            expected=f"data.crop of at least {found.minimum_size}, the smallest picture it takes",
            found=str(recipe.data.crop),
            remedy=f"add --set data.crop={found.minimum_size}, or leave --teacher out",
        )
    return found


def draw_orientations(recipe: Recipe, step: int) -> list[int]:
    """Those it looks at the batch of this step in, the same in all processes."""
    allowed = ORIENTATIONS[recipe.data.flips]
    random = torch.Generator().manual_seed(seeded(recipe.training.seed, "views", step))
    drawn = torch.randperm(len(allowed), generator=random)[: recipe.teacher.views]
    return [allowed[place] for place in drawn.tolist()]


@torch.no_grad()
def mean_view(teacher: Generator, blurred: Tensor, orientations: Sequence[int]) -> Tensor:
    """Squares ``[N, 3, side, side]`` in [-1, 1], restored in each of the orientations and
    turned back; their mean, in fp32.
    """
    views = [turn_back(teacher(turn(blurred, o)), o) for o in orientations]
    return torch.stack(views).mean(0, dtype=torch.float32)


def stretched(view: Tensor, blurred: Tensor, sharp: Tensor) -> Tensor:
    """The teacher's view ``[N, 3, side, side]`` with its change of each picture scaled, band
    by band, to come nearest to the sharp one; what is coarser than the bands stays.

    The mean of several views of an imperfect teacher is mostly too weak a change.
    """
    changes, wanted = pyramid(view - blurred), pyramid(sharp - blurred)
    result = changes.pop()
    for change, truth in zip(reversed(changes), reversed(wanted[:-1]), strict=True):
        power = change.square().mean((1, 2, 3), keepdim=True)
        factor = (change * truth).mean((1, 2, 3), keepdim=True) / power
        factor = torch.where(power > UNCHANGED, factor.clamp(*STRETCH), 1.0)
        result = enlarged(result, change) + factor * change
    return (blurred + result).clamp(-1, 1)


def pyramid(picture: Tensor) -> list[Tensor]:
    """``BANDS`` bands of frequencies, each at half the size of the one before, and what is left
    (Burt and Adelson 1983).
    """
    bands = []
    for _ in range(BANDS):
        low = F.avg_pool2d(picture, 2, ceil_mode=True)
        bands.append(picture - enlarged(low, picture))
        picture = low
    return [*bands, picture]


def enlarged(low: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(low, size=like.shape[-2:], mode="bilinear", align_corners=False)
