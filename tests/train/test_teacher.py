from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from deblurgan.train.crops import ORIENTATIONS, turn
from deblurgan.train.networks import EdgeGenerator, EdgeSettings
from deblurgan.train.recipe import load_recipe
from deblurgan.train.teacher import (
    BANDS,
    draw_orientations,
    enlarged,
    mean_view,
    pyramid,
    stretched,
)


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


@given(height=st.integers(3, 40), width=st.integers(3, 40))
@settings(max_examples=20, deadline=None)
def test_bands_make_up_the_picture(height: int, width: int) -> None:
    picture = torch.rand(2, 3, height, width)
    bands = pyramid(picture)
    assert len(bands) == BANDS + 1
    whole = bands.pop()
    for band in reversed(bands):
        whole = enlarged(whole, band) + band
    torch.testing.assert_close(whole, picture, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("strength", "factor"), [(0.8, 1.25), (1.25, 0.8), (0.5, 1.6), (4, 0.6)])
def test_a_change_in_the_right_direction_gets_the_truths_size(
    strength: float, factor: float, squares: Tensor
) -> None:
    blurred = squares * 0.5
    fine = squares - blurred
    fine = fine - enlarged(F.avg_pool2d(fine, 2), fine)
    sharp = blurred + fine
    restored = stretched(blurred + strength * fine, blurred, sharp)
    expected = blurred + factor * strength * fine
    # The pyramid puts a little of the finest band into the coarser ones, each with its own factor.
    assert (restored - expected).square().mean() < 0.01 * fine.square().mean()


def test_each_picture_and_band_gets_its_own_size_and_comes_nearer(squares: Tensor) -> None:
    blurred, noise = squares * 0.5, torch.rand(squares.shape) - 0.5
    sharp = squares.clone()
    view = blurred + (sharp - blurred) * torch.tensor([0.7, 1.2]).view(2, 1, 1, 1) + 0.3 * noise
    restored = stretched(view, blurred, sharp)
    before, after = ((x - sharp).square().mean((1, 2, 3)) for x in (view, restored))
    assert (after < before).all()


def test_a_teacher_that_changes_nothing_stays_so(squares: Tensor) -> None:
    assert torch.equal(stretched(squares, squares, -squares), squares)
