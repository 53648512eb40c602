from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime.image_file import to_8_bits
from deblurgan.runtime.video.colour import refine

Levels = st.integers(0, 65535)


@given(Levels, st.integers(0, 255))
def test_a_finer_frame_changes_as_the_coarse_one_does(fine: int, sharp: int) -> None:
    before = np.full((1, 1, 3), fine, np.uint16)
    blurred = to_8_bits(before)
    after = refine(before, blurred, np.full((1, 1, 3), sharp, np.uint8))
    assert after.dtype == np.uint16
    if sharp == blurred[0, 0, 0]:
        assert (after == before).all(), "unchanged to the last bit"
    assert abs(int(to_8_bits(after)[0, 0, 0]) - sharp) <= 1
