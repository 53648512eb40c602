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


@pytest.fixture
def noise() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(7)) - 0.5


@given(height=st.integers(3, 40), width=st.integers(3, 40), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_bands_make_up_the_picture(height: int, width: int, seed: int) -> None:
    picture = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    bands = pyramid(picture)
    assert len(bands) == BANDS + 1
    whole = bands.pop()
    for band in reversed(bands):
        whole = enlarged(whole, band) + band
    torch.testing.assert_close(whole, picture, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("strength", "factor"), [(0.8, 1.25), (1.25, 0.8), (0.5, 1.6), (4, 0.25)])
def test_a_change_is_scaled_to_come_nearest(
    strength: float, factor: float, squares: Tensor
) -> None:
    blurred = squares * 0.2
    fine = blurred - enlarged(F.avg_pool2d(blurred, 2), blurred)
    restored = stretched(blurred + strength * fine, blurred, blurred + fine)
    expected = blurred + factor * strength * fine
    # The pyramid puts a little of the finest band into the coarser ones, each with its own factor.
    assert (restored - expected).square().mean() < 0.01 * fine.square().mean()


def test_each_band_of_each_picture_has_its_own_factor(squares: Tensor, noise: Tensor) -> None:
    blurred, change = squares * 0.2, noise * 0.4
    coarse = enlarged(F.avg_pool2d(change, 2), change)
    coarse, fine = 2 * coarse, change - coarse
    sharp = blurred + coarse + fine
    strengths = torch.tensor([[0.7, 1.25], [1.25, 0.7]])[..., None, None, None]
    view = blurred + strengths[:, 0] * coarse + strengths[:, 1] * fine

    def distances(picture: Tensor) -> Tensor:
        return (picture - sharp).square().mean((1, 2, 3))

    factors = torch.linspace(0, 1.6, 161)
    best_of_one = torch.stack([distances(blurred + f * (view - blurred)) for f in factors])
    assert (distances(stretched(view, blurred, sharp)) < best_of_one.amin(0) / 2).all()


def test_a_change_of_a_sharp_picture_is_taken_back(squares: Tensor, noise: Tensor) -> None:
    sharp = squares * 0.5
    restored = stretched(sharp + 0.1 * noise, sharp, sharp)
    coarse = pyramid(0.1 * noise)[-1]
    assert (restored - sharp).abs().max() <= coarse.abs().max() + 1e-6


def test_a_change_without_a_direction_stays(squares: Tensor, noise: Tensor) -> None:
    view = squares * 0.9 + 1e-4 * noise
    restored = stretched(view, squares * 0.9, squares)
    torch.testing.assert_close(restored, view, atol=1e-6, rtol=0)
    assert torch.equal(stretched(squares, squares, -squares), squares)


def test_a_scaled_change_stays_in_range(squares: Tensor, noise: Tensor) -> None:
    """A change that is too weak in the mean and strong enough in places."""
    sharp = squares.sign()
    blurred = 0.7 * sharp
    view = blurred + (sharp - blurred) * (0.5 + noise)
    assert stretched(view, blurred, sharp).abs().max() <= 1
