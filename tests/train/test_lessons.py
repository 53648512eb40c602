from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deblurgan.train import lessons
from deblurgan.train.crops import ORIENTATIONS, turn
from deblurgan.train.devices import Devices, make_fabric
from deblurgan.train.lessons import LAG, Lessons, oldest_shown
from deblurgan.train.networks import EdgeGenerator, EdgeSettings
from deblurgan.train.recipe import Recipe, load_recipe
from deblurgan.train.samples import unit_pictures
from deblurgan.train.teacher import draw_orientations, mean_view, stretched

SIDE = 32


def batch(number: int) -> Tensor:
    """Batches that differ, and of which no two orientations look alike."""
    random = torch.Generator().manual_seed(number)
    pairs = torch.randint(256, (2, 2, 3, SIDE, SIDE), generator=random, dtype=torch.uint8)
    pairs[0, 0, 0, 0, 0], pairs[0, 0, 0, SIDE // 2, SIDE // 2] = 255, number
    return pairs


def start(recipe: Recipe, first: int, teacher: EdgeGenerator | None = None) -> Lessons:
    fabric = make_fabric(Devices("cpu"), recipe.training)
    coming: Iterator[Tensor] = map(batch, itertools.count(oldest_shown(recipe.data.echo, first)))
    return Lessons(fabric, recipe, teacher, coming, first)


def recipe_of(*changes: str) -> Recipe:
    return load_recipe("edge", ["training.precision=fp32", *changes])


def number_of(pairs: Tensor) -> int:
    """Of a batch in whichever orientation: the middle's four pixels hold it, and a corner 255."""
    for orientation in ORIENTATIONS["all"]:
        back = turn(pairs, orientation)
        number = int(back[0, 0, 0, SIDE // 2, SIDE // 2])
        if torch.equal(back, batch(number)):
            return number
    raise AssertionError("no orientation of a batch")


@pytest.fixture
def teacher() -> EdgeGenerator:
    torch.manual_seed(2)
    teacher = EdgeGenerator(EdgeSettings(channels=4, blocks=2, deep_blocks=1))
    torch.nn.init.normal_(teacher.tail[0].weight, std=0.05)
    return teacher.eval()


def test_without_an_echo_every_batch_is_shown_once_as_it_was_drawn() -> None:
    shown = start(recipe_of(), 5)
    for number in range(5, 9):
        lesson = next(shown)
        assert torch.equal(lesson.pairs, batch(number))
        assert lesson.view is None
        assert list(shown.kept) == [number]


@pytest.mark.parametrize("echo", [2, 3])
def test_a_batch_is_shown_so_often_and_others_between(echo: int) -> None:
    shown = start(recipe_of(f"data.echo={echo}"), 0)
    steps: dict[int, list[int]] = {}
    for step in range(echo * (2 * LAG * echo + 6)):
        steps.setdefault(number_of(next(shown).pairs), []).append(step)
        assert len(shown.kept) <= (echo - 1) * LAG + 1
    lag = LAG * echo + 1  # a step later than its batch was drawn, for each showing
    full = echo * LAG  # batches lie between from then on
    for number in range(full, full + 4):
        assert steps[number] == [echo * number + lag * showing for showing in range(echo)]
    assert all(1 <= len(steps[number]) <= 2 * echo for number in range(full))


def test_what_is_shown_again_is_turned_as_the_recipe_allows() -> None:
    seen = {}
    for flips, allowed in ORIENTATIONS.items():
        shown = start(recipe_of("data.echo=2", f"data.flips={flips}"), 0)
        seen[flips] = set()
        for step in range(120):
            again = next(shown).pairs
            drawn = batch(number_of(again))
            if step % 2 == 0:
                assert torch.equal(again, drawn)
            else:
                seen[flips] |= {
                    o for o in ORIENTATIONS["all"] if torch.equal(turn(drawn, o), again)
                }
        assert seen[flips] == set(allowed)


@given(echo=st.integers(1, 4), first=st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_a_run_that_goes_on_shows_what_it_would_have_shown(echo: int, first: int) -> None:
    recipe = recipe_of(f"data.echo={echo}", "data.crop=32")
    whole, resumed = start(recipe, 0), start(recipe, first)
    for _ in range(first):
        next(whole)
    for _ in range(2 * echo + 3):
        assert torch.equal(next(resumed).pairs, next(whole).pairs)


def test_a_teacher_looks_once_and_its_view_is_turned_with_the_pictures(
    teacher: EdgeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look(*arguments: object) -> Tensor:
        looks.append(arguments)
        return mean_view(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lessons, "mean_view", look)
    recipe = recipe_of("data.echo=3", "data.crop=32", "teacher.views=2")
    shown = start(recipe, 0, teacher)
    for _ in range(3 * LAG + 9):
        lesson = next(shown)
        view, pairs = lesson.view, lesson.pairs
        number = number_of(pairs)
        blurred, _ = unit_pictures(batch(number))
        expected = mean_view(teacher, blurred, draw_orientations(recipe, number))
        orientation = next(
            o for o in ORIENTATIONS["all"] if torch.equal(turn(batch(number), o), pairs)
        )
        assert view is not None
        torch.testing.assert_close(view, turn(expected, orientation), atol=1e-6, rtol=0)
    assert len(looks) == LAG + 3


@pytest.mark.parametrize("stretch", [True, False])
def test_a_teachers_change_is_stretched_where_the_recipe_says(
    stretch: bool, teacher: EdgeGenerator
) -> None:
    recipe = recipe_of("data.crop=32", f"teacher.stretch={str(stretch).lower()}")
    blurred, sharp = unit_pictures(batch(0))
    view = mean_view(teacher, blurred, draw_orientations(recipe, 0))
    changed = stretched(view, blurred, sharp)
    assert (changed - view).abs().max() > 0.01
    assert torch.equal(next(start(recipe, 0, teacher)).view, changed if stretch else view)  # type: ignore[arg-type]
