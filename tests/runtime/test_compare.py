from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.compare import Comparison, check_layout


@given(
    layout=st.sampled_from(["side", "split"]),
    width=st.integers(16, 300),
    height=st.integers(16, 200),
    kind=st.sampled_from([np.uint8, np.uint16]),
)
def test_both_are_shown_below_the_labels(layout: str, width: int, height: int, kind: type) -> None:
    comparison = Comparison(layout, width, height)
    before, after = np.full((height, width, 3), 50, kind), np.full((height, width, 3), 90, kind)
    made = comparison.compose(before, after)
    assert made.shape == (height, *comparison.size[:1], 3)
    assert made.dtype == kind
    assert (made[-1, : width // 4] == 50).all()
    assert (made[-1, -width // 4 :] == 90).all()
    if layout == "side":
        assert (made[-1, :width] == 50).all()
        assert (made[-1, width:] == 90).all()
    assert (before == 50).all()


def test_labels_are_legible_and_small() -> None:
    frame = np.full((360, 640, 3), 100, np.uint8)
    made = Comparison("side", 640, 360).compose(frame, frame)
    for left in (0, 640):
        label = made[:30, left : left + 80]
        assert label.max() == 255
        assert label.min() == 0
    assert (made[40:] == 100).all()


def test_another_layout_is_refused() -> None:
    with pytest.raises(DeblurError, match="--compare: expected side or split, found diagonal"):
        check_layout("diagonal")
    check_layout(None)
