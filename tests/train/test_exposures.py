"""Long exposures of a clip: what a shutter sees that stays open over its frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train import exposures
from deblurgan.train.exposures import expose, tracks

SPEED = 6  # pixels a frame
INSIDE = (slice(None), slice(24, -24), slice(40, -40))  # where nothing comes in from the side


@pytest.fixture
def moving(photo: NDArray[np.uint8]) -> list[Tensor]:
    """Five frames of ``photo`` moving to the right."""
    return [shifted(photo, SPEED * index) for index in range(5)]


def shifted(photo: NDArray[np.uint8], by: int) -> Tensor:
    return torch.from_numpy(np.roll(photo, by, 1)).permute(2, 0, 1).contiguous()


def mean_light(frames: list[Tensor]) -> Tensor:
    light = torch.stack([(frame.double() / 255) ** 2.2 for frame in frames]).mean(0)
    return light ** (1 / 2.2) * 255


def error(exposed: Tensor, expected: Tensor) -> float:
    return float((exposed.double() - expected)[INSIDE].abs().mean())


def test_an_exposure_is_the_mean_light_of_every_pixel_on_the_way(
    moving: list[Tensor], photo: NDArray[np.uint8]
) -> None:
    expected = mean_light([shifted(photo, by) for by in range(4 * SPEED + 1)])
    exposed = expose(moving, 2.2)
    assert (exposed.dtype, exposed.shape) == (torch.uint8, moving[0].shape)
    found = error(exposed, expected)
    assert found < 2.5
    assert found < error(mean_light(moving), expected) / 2  # of the frames alone
    coded = torch.stack([frame.double() for frame in moving]).mean(0)
    assert found < error(coded, expected) / 2


def test_rest_leaves_as_much_light_as_motion(photo: NDArray[np.uint8]) -> None:
    """However many moments the motion has: both last as long."""
    frames = [shifted(photo, by) for by in (0, 0, 2 * SPEED)]
    moving = [shifted(photo, by) for by in range(2 * SPEED + 1)]
    expected = mean_light([frames[0]] * len(moving) + moving)
    found = error(expose(frames, 2.2), expected)
    assert found < 3
    assert found < error(mean_light(moving), expected) / 3


def test_what_stands_still_stays_sharp(photo: NDArray[np.uint8]) -> None:
    frame = shifted(photo, 0)
    difference = (expose([frame] * 3, 2.2).int() - frame.int()).abs()
    assert int(difference.max()) <= 1


def test_black_and_white_stay_so() -> None:
    for level in (0, 255):
        frame = torch.full((3, 48, 64), level, dtype=torch.uint8)
        assert int((expose([frame] * 3, 2.2).int() - level).abs().max()) <= 1


def test_there_is_a_moment_for_each_pixel_of_the_motion(moving: list[Tensor]) -> None:
    moments = list(exposures.between(*moving[:2]))
    assert SPEED <= len(moments) <= SPEED + 2
    assert np.array_equal(moments[0], moving[0].permute(1, 2, 0))


def test_leaps_take_no_more_than_so_many_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    leap = np.full((48, 64, 2), 1000, np.float32)
    monkeypatch.setattr(exposures, "optical_flow", lambda before, after: leap)
    frame = torch.zeros(3, 48, 64, dtype=torch.uint8)
    assert len(list(exposures.between(frame, frame))) == exposures.MOST_MOMENTS


def test_points_are_followed_to_both_sides_of_the_middle(moving: list[Tensor]) -> None:
    places = [(80, 48), (70, 30), (95, 60)]
    found = tracks(moving, places)
    assert found.shape == (5, 3, 2)
    assert np.array_equal(found[2], places)
    went = found - found[2]
    for index in range(5):
        assert np.abs(went[index, :, 0] - SPEED * (index - 2)).max() < 1.5
    assert np.abs(went[..., 1]).max() < 1.5


@settings(max_examples=15)
@given(height=st.integers(33, 90), width=st.integers(33, 90), count=st.integers(2, 4))
def test_frames_of_any_size_are_exposed(height: int, width: int, count: int) -> None:
    random = torch.Generator().manual_seed(height * width)
    frames = [
        torch.randint(0, 256, (3, height, width), generator=random).to(torch.uint8)
        for _ in range(count)
    ]
    exposed = expose(frames, 2.2)
    assert (exposed.dtype, exposed.shape) == (torch.uint8, frames[0].shape)
    low, high = (min(int(f.min()) for f in frames), max(int(f.max()) for f in frames))
    assert low <= int(exposed.min()) <= int(exposed.max()) <= high
