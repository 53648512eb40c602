from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.tensorrt.profiles import Profile, Shape, choose_profile

sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


def test_one_size(tiny: Model) -> None:
    profile = choose_profile(tiny, (1280, 720))
    assert profile == Profile(*[Shape(1, 720, 1280)] * 3)
    assert profile.is_fixed
    assert profile.max.dimensions == (1, 720, 1280, 3)
    assert str(profile.max) == "1x1280x720"


def test_a_range_of_sizes(tiny: Model) -> None:
    profile = choose_profile(tiny, min=(640, 360), opt=(1280, 720), max=(1920, 1088), batch=4)
    assert profile == Profile(Shape(1, 360, 640), Shape(4, 720, 1280), Shape(4, 1088, 1920))
    assert not profile.is_fixed


def test_what_is_left_out_of_a_range(tiny: Model) -> None:
    assert tiny.card.minimum_size == 16
    profile = choose_profile(tiny, max=(640, 480))
    assert profile == Profile(Shape(1, 16, 16), Shape(1, 480, 640), Shape(1, 480, 640))


def test_a_frozen_model_needs_no_size(write_tiny: Any, tmp_path: Path) -> None:
    frozen = open_model(write_tiny(tmp_path / "frozen.onnx", size=(64, 48)))
    expected = Profile(*[Shape(1, 48, 64)] * 3)
    assert choose_profile(frozen) == choose_profile(frozen, (64, 48)) == expected
    assert choose_profile(frozen, max=(64, 48)) == choose_profile(frozen, min=(64, 48)) == expected
    for wrong in ({"size": (64, 64)}, {"max": (128, 96)}, {"min": (32, 32), "max": (64, 48)}):
        with pytest.raises(DeblurError, match=r"expected 64x48, the size .* was frozen at"):
            choose_profile(frozen, **wrong)


def test_a_frozen_batch(write_tiny: Any, tmp_path: Path) -> None:
    model = open_model(write_tiny(tmp_path / "one.onnx", batch=1))
    assert choose_profile(model, (64, 48)).max.batch == 1
    with pytest.raises(DeblurError, match=r"--batch: expected 1, at which .* found 2"):
        choose_profile(model, (64, 48), batch=2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"--size: .* found none, and .*tiny\.onnx takes any; say --size 1280x720"),
        ({"min": (64, 64)}, r"--max: .* found only --min"),
        ({"min": (64, 64), "opt": (64, 64)}, r"--max: .* found only --min, --opt"),
        ({"size": (64, 64), "max": (64, 64)}, r"found --size with --max"),
        ({"size": (15, 64)}, r"--size: expected at least 16x16, .* found 15x64"),
        ({"min": (64, 8), "max": (64, 64)}, r"--min: expected at least 16x16, .* found 64x8"),
        (
            {"min": (64, 65), "max": (640, 64)},
            r"--min: expected no wider and no higher than --opt 640x64, found 64x65",
        ),
        (
            {"opt": (100, 50), "max": (99, 50)},
            r"--opt: expected no wider and no higher than --max 99x50, found 100x50",
        ),
        ({"size": (64, 64), "batch": 0}, r"--batch: .* 1 to 16384, found 0"),
        ({"size": (64, 64), "batch": -3}, r"--batch: .* 1 to 16384, found -3"),
        ({"size": (64, 64), "batch": 16385}, r"--batch: .* 1 to 16384, found 16385"),
        ({"size": (16385, 64)}, r"--size: expected sides of at most 16384 .* found 16385x64"),
        ({"max": (64, 70000)}, r"--max: expected sides of at most 16384 .* found 64x70000"),
    ],
)
def test_what_no_plan_can_take_is_refused(given: Any, said: str, tiny: Model) -> None:
    with pytest.raises(DeblurError, match=said):
        choose_profile(tiny, **given)


@given(low=sizes, best=sizes, high=sizes, batch=st.integers(1, 16))
def test_a_profile_holds_what_it_says_and_no_more(
    low: tuple[int, int], best: tuple[int, int], high: tuple[int, int], batch: int, tiny: Model
) -> None:
    fits = all(16 <= a <= b <= c for a, b, c in zip(low, best, high, strict=True))
    if not fits:
        with pytest.raises(DeblurError):
            choose_profile(tiny, min=low, opt=best, max=high, batch=batch)
        return
    profile = choose_profile(tiny, min=low, opt=best, max=high, batch=batch)
    for width, height in (low, best, high, (low[0], high[1])):
        assert profile.contains(1, height, width)
        assert profile.contains(batch, height, width)
        assert not profile.contains(batch + 1, height, width)
    assert not profile.contains(1, high[1] + 1, high[0])
    assert not profile.contains(1, high[1], high[0] + 1)
    assert not profile.contains(1, low[1], low[0] - 1)
