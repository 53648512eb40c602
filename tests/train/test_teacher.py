from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deblurgan.train.crops import ORIENTATIONS, turn
from deblurgan.train.networks import EdgeGenerator, EdgeSettings
from deblurgan.train.recipe import load_recipe
from deblurgan.train.teacher import draw_orientations, mean_view


@pytest.fixture
def generator() -> EdgeGenerator:
    """Sees each orientation otherwise."""
    torch.manual_seed(2)
    generator = EdgeGenerator(EdgeSettings(channels=4, blocks=2, deep_blocks=1))
    torch.nn.init.normal_(generator.tail[0].weight, std=0.05)
    return generator


@pytest.fixture
def squares() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1


def test_the_mean_of_all_orientations_prefers_none(
    generator: EdgeGenerator, squares: Tensor
) -> None:
    restored = mean_view(generator, squares, ORIENTATIONS["all"])
    for orientation in ORIENTATIONS["all"]:
        other = mean_view(generator, turn(squares, orientation), ORIENTATIONS["all"])
        torch.testing.assert_close(other, turn(restored, orientation), atol=1e-5, rtol=0)
    one = mean_view(generator, squares, [0])
    assert (mean_view(generator, squares, [1]) - one).abs().max() > 0.01


def test_a_view_is_turned_back(generator: EdgeGenerator, squares: Tensor) -> None:
    with torch.no_grad():
        views = [generator(squares), generator(squares.rot90(1, (-2, -1))).rot90(-1, (-2, -1))]
    restored = mean_view(generator, squares, [0, 1])
    torch.testing.assert_close(restored, sum(views) / 2, atol=1e-6, rtol=0)
    assert not restored.requires_grad


def test_what_is_taught_is_in_fp32_whatever_it_was_computed_in(
    generator: EdgeGenerator, squares: Tensor
) -> None:
    half = generator.bfloat16()
    assert half(squares.bfloat16()).dtype == torch.bfloat16
    assert mean_view(half, squares.bfloat16(), [0, 6]).dtype == torch.float32


def test_a_teacher_looks_as_pictures_may_lie() -> None:
    drawn = {
        flips: [
            draw_orientations(load_recipe("edge", [f"data.flips={flips}", "teacher.views=3"]), step)
            for step in range(40)
        ]
        for flips in ORIENTATIONS
    }
    assert all(views == [0] for views in drawn["none"])
    assert all(sorted(views) == [0, 4] for views in drawn["horizontal"])
    assert all(len(set(views)) == 3 for views in drawn["all"])
    assert {view for views in drawn["all"] for view in views} == set(range(8))
