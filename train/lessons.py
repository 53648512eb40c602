"""Lessons: batches with what a teacher makes of them, each shown as often as the recipe says.

Shown again, turned as far as the recipe allows, a batch costs neither drawing nor blurring
nor the teacher's passes (data echoing, Choi et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_fabric import Fabric
from torch import Tensor

from deblurgan.train.crops import ORIENTATIONS, integer, turn
from deblurgan.train.networks import Generator
from deblurgan.train.recipe import Recipe
from deblurgan.train.samples import generator, unit_pictures
from deblurgan.train.teacher import draw_orientations, mean_view, stretched

LAG = 8
"""Batches that are drawn between one showing of a batch and the next, once so many were: far
enough for other pictures to have moved the weights, near enough to be kept in memory.
"""


@dataclass(frozen=True)
class Lesson:
    """Blurred and sharp squares, uint8 ``[N, 2, 3, side, side]``, and the teacher's view of
    the blurred ones, ``[N, 3, side, side]`` in [-1, 1], where there is a teacher.
    """

    pairs: Tensor
    view: Tensor | None = None

    def turn(self, orientation: int) -> Lesson:
        view = None if self.view is None else turn(self.view, orientation)
        return Lesson(turn(self.pairs, orientation), view)


def oldest_shown(echo: int, step: int) -> int:
    """The number of the first batch that a run may need which goes on at ``step``."""
    return max(0, step // echo - (echo - 1) * LAG)


class Lessons(Iterator[Lesson]):
    """The lesson of each step from ``first`` on.

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
        self.step, self.echo = first, recipe.data.echo
        self.drawn = oldest_shown(self.echo, first)
        self.kept: dict[int, Lesson] = {}

    def __next__(self) -> Lesson:
        newest, showing = divmod(self.step, self.echo)
        while self.drawn <= newest:
            # A copy: what a worker made lies in shared memory, which is scarce.
            pairs = next(self.coming).to(self.fabric.device, non_blocking=True, copy=True)
            self.kept[self.drawn] = Lesson(pairs)
            self.drawn += 1
        for number in [n for n in self.kept if n < oldest_shown(self.echo, self.step)]:
            del self.kept[number]
        # At first there are fewer batches to lie between.
        number = newest - showing * min(LAG, newest // self.echo)
        lesson = self.kept[number]
        if self.teacher is not None and lesson.view is None:
            view = self.look(self.teacher, lesson.pairs, number)
            lesson = self.kept[number] = Lesson(lesson.pairs, view)
        again = lesson.turn(self.draw_turn()) if showing else lesson
        self.step += 1
        return again

    def look(self, teacher: Generator, pairs: Tensor, number: int) -> Tensor:
        """A teacher's view of the batch of that number."""
        blurred, sharp = unit_pictures(pairs)
        with self.fabric.autocast():
            view = mean_view(teacher, blurred, draw_orientations(self.recipe, number))
        return stretched(view, blurred, sharp) if self.recipe.teacher.stretch else view

    def draw_turn(self) -> int:
        """The orientation of what is shown again at this step, the same in all processes."""
        allowed = ORIENTATIONS[self.recipe.data.flips]
        random = generator(self.recipe.training.seed, "echo", self.step)
        return allowed[integer(len(allowed), random)]
