"""Lessons: batches with what a teacher makes of them, each shown as often as the recipe says.

Shown again, turned another way, a batch costs neither drawing nor blurring nor the
teacher's passes (data echoing, Choi et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from deblurgan.train.crops import ORIENTATIONS, turn
from deblurgan.train.networks import Generator
from deblurgan.train.recipe import Recipe
from deblurgan.train.samples import seeded, unit_pictures
from deblurgan.train.teacher import draw_orientations, mean_view, stretched

LAG = 8
"""Batches that are drawn between one showing of a batch and the next."""


@dataclass(frozen=True)
class Lesson:
    """Blurred and sharp squares, uint8 ``[N, 2, 3, side, side]``, and the teacher's view of
    the blurred ones, ``[N, 3, side, side]`` in [-1, 1], where there is a teacher.
    """

    pairs: Tensor
    view: Tensor | None = None

    def turned(self, orientation: int) -> Lesson:
        view = None if self.view is None else turn(self.view, orientation)
        return Lesson(turn(self.pairs, orientation), view)


def oldest_shown(echo: int, step: int) -> int:
    """The number of the first batch that a run needs which begins at ``step``."""
    return max(0, step // echo - (echo - 1) * LAG)


class Lessons:
    """The lesson of each step from ``first`` on, in order.

    ``coming`` are the batches from number :func:`oldest_shown` on: a run that goes on
    draws those again that are still to be shown.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        teacher: Generator | None,
        coming: Iterator[Tensor],
        first: int,
    ) -> None:
        self.fabric, self.recipe, self.teacher, self.coming = fabric, recipe, teacher, coming
        self.drawn = oldest_shown(recipe.data.echo, first)
        self.kept: dict[int, Lesson] = {}

    def __getitem__(self, step: int) -> Lesson:
        newest, showing = divmod(step, self.recipe.data.echo)
        while self.drawn <= newest:
            self.kept[self.drawn] = self.prepare(next(self.coming), self.drawn)
            self.drawn += 1
        for number in [n for n in self.kept if n < oldest_shown(self.recipe.data.echo, step)]:
            del self.kept[number]
        # Of the first batches there is none to show again but the newest.
        lesson = self.kept.get(newest - showing * LAG, self.kept[newest])
        return lesson.turned(draw_turn(self.recipe, step)) if showing else lesson

    def prepare(self, pairs: Tensor, number: int) -> Lesson:
        """A batch as it is drawn, on the run's device, and the teacher's view of it."""
        pairs = pairs.to(self.fabric.device, non_blocking=True)
        if self.teacher is None:
            return Lesson(pairs)
        blurred, sharp = unit_pictures(pairs)
        with self.fabric.autocast():
            view = mean_view(self.teacher, blurred, draw_orientations(self.recipe, number))
        if self.recipe.teacher.stretch:
            view = stretched(view, blurred, sharp)
        return Lesson(pairs, view)


def draw_turn(recipe: Recipe, step: int) -> int:
    """The way up of what is shown again at this step, the same in all processes."""
    allowed = ORIENTATIONS[recipe.data.flips]
    random = torch.Generator().manual_seed(seeded(recipe.training.seed, "echo", step))
    return allowed[int(torch.randint(len(allowed), (), generator=random))]
