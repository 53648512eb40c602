from __future__ import annotations

import math

import numpy as np
import pytest

from deblurgan.runtime.difference import Difference, Tolerance, measure_difference


def test_differences_are_in_levels_and_decibels() -> None:
    black = np.zeros((1, 2, 2, 3), np.uint8)
    assert measure_difference([(black, black)]) == Difference(0, 0, 0, math.inf)
    one_off = black.copy()
    one_off[0, 0, 0, 0] = 255
    found = measure_difference([(black, one_off), (black, black)])
    assert (found.largest, found.mean, found.differing) == (255, 255 / 24, 1 / 24)
    assert found.psnr == pytest.approx(10 * math.log10(24))


def test_a_difference_within_its_tolerance() -> None:
    found = Difference(largest=3, mean=0.2, differing=0.5, psnr=50)
    assert found.within(Tolerance(3, 0.2))
    assert not found.within(Tolerance(2, 0.2))
    assert not found.within(Tolerance(3, 0.1))
