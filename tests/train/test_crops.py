"""Random parts of pictures stay inside them, and come up as often as each other."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurgan.train.crops import (
    ORIENTATIONS,
    cut,
    integer,
    random_region,
    turn,
    turn_back,
    turned,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(height: int, width: int) -> torch.Tensor:
    """Every pixel tells where it is: ``[2, H, W]`` of rows and columns."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return torch.stack([rows.expand(height, width), columns.expand(height, width)])


@given(
    side=st.integers(1, 20), above=st.integers(0, 9), beside=st.integers(0, 9), seed=st.integers(0)
)
def test_a_cut_is_a_place_of_the_picture(side: int, above: int, beside: int, seed: int) -> None:
    picture = places(side + above, side + beside)
    part = cut(picture, side, seeded(seed % 2**32))
    top, left = part[:, 0, 0].tolist()
    assert torch.equal(part, picture[:, top : top + side, left : left + side])


def test_every_place_is_as_likely() -> None:
    random = seeded(1)
    seen = Counter(tuple(cut(places(6, 7), 4, random)[:, 0, 0].tolist()) for _ in range(1200))
    assert len(seen) == 3 * 4
    assert max(seen.values()) < 2 * min(seen.values())


@pytest.mark.parametrize(("flips", "count"), [("none", 1), ("horizontal", 2), ("all", 8)])
def test_every_orientation_is_as_likely(flips: str, count: int) -> None:
    random = seeded(1)
    square = torch.arange(4).reshape(2, 2)
    seen = Counter(tuple(turned(square, flips, random).flatten().tolist()) for _ in range(800))
    assert len(seen) == count
    assert max(seen.values()) < 2 * min(seen.values())
    assert (0, 1, 2, 3) in seen
    assert ((1, 0, 3, 2) in seen) == (flips != "none")


@settings(max_examples=40)
@given(height=st.integers(16, 60), width=st.integers(16, 60), side=st.integers(8, 40))
def test_a_region_is_as_large_as_asked_or_as_the_picture_is(
    height: int, width: int, side: int
) -> None:
    ramp = torch.arange(width).expand(3, height, width).to(torch.uint8) * 4
    region = random_region(ramp, side, seeded(height * width))
    assert region.shape == (3, *[min(side, height, width)] * 2)
    step = float(region[0].float().diff(dim=1).mean()) / 4
    assert 0.9 < step < 2.2  # pixels of the photograph to one of the region


def test_integers_stay_below_their_bound() -> None:
    random = seeded(1)
    assert {integer(3, random) for _ in range(60)} == {0, 1, 2}


@given(side=st.integers(1, 9), orientation=st.sampled_from(ORIENTATIONS["all"]))
def test_turning_back_undoes_turning(side: int, orientation: int) -> None:
    squares = torch.arange(2.0 * side * side).view(2, 1, side, side)
    assert torch.equal(turn_back(turn(squares, orientation), orientation), squares)


def test_a_square_has_eight_orientations() -> None:
    square = torch.arange(9).view(3, 3)
    found = {
        tuple(turn(square, orientation).flatten().tolist()) for orientation in ORIENTATIONS["all"]
    }
    assert len(found) == 8
    assert torch.equal(turn(square, 0), square)


@pytest.mark.parametrize("flips", list(ORIENTATIONS))
def test_crops_are_turned_as_the_setting_allows(flips: str) -> None:
    square = torch.arange(9).view(3, 3)
    allowed = {tuple(turn(square, o).flatten().tolist()) for o in ORIENTATIONS[flips]}
    drawn = {tuple(turned(square, flips, seeded(n)).flatten().tolist()) for n in range(200)}
    assert drawn == allowed
