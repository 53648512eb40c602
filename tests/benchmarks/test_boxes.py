"""Overlaps and suppression, by hand and for any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurgan.benchmarks.boxes import Detections, intersection_over_union, suppress

numbers = st.floats(-100, 100, width=32)
boxes = st.lists(
    st.tuples(numbers, numbers, st.floats(0.5, 90), st.floats(0.5, 90)), min_size=1, max_size=12
).map(lambda sides: np.array([(x, y, x + w, y + h) for x, y, w, h in sides]))


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(int))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 10), 1),
        ((0, 0, 10, 5), 1 / 2),
        ((5, 5, 15, 15), 25 / 175),
        ((0, 0, 20, 20), 1 / 4),
        ((10, 0, 20, 10), 0),  # side by side
        ((30, 30, 40, 40), 0),
        ((5, 5, 5, 5), 0),  # without area
    ],
)
def test_the_overlap_is_the_common_area_of_the_whole(
    other: tuple[float, ...], expected: float
) -> None:
    got = intersection_over_union(np.array([[0.0, 0, 10, 10]]), np.array([other], float))
    assert got == pytest.approx(np.array([[expected]]))


def test_boxes_without_area_overlap_not_even_themselves() -> None:
    empty = np.array([[5.0, 5, 5, 5]])
    assert intersection_over_union(empty, empty) == 0
    assert intersection_over_union(np.zeros((0, 4)), empty).shape == (0, 1)


@settings(max_examples=50)
@given(boxes, boxes)
def test_overlaps_are_shares_and_the_same_from_both_sides(
    some: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    others: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> None:
    got = intersection_over_union(some, others)
    assert got.shape == (len(some), len(others))
    assert ((got >= 0) & (got <= 1 + 1e-9)).all()
    assert np.allclose(got, intersection_over_union(others, some).T)
    assert np.allclose(np.diag(intersection_over_union(some, some)), 1)


def test_of_boxes_of_one_class_the_best_stays() -> None:
    found = detections(
        (0, 0, 10, 9, 0.5, 1),  # IoU 0.9 with the best
        (0, 0, 10, 10, 0.9, 1),
        (0, 0, 10, 10, 0.7, 2),  # another class
        (0, 0, 10, 4, 0.6, 1),  # IoU 0.4
        (20, 20, 30, 30, 0.4, 1),
    )
    kept = suppress(found, 0.45)
    assert kept.scores.tolist() == [0.9, 0.7, 0.6, 0.4]
    assert kept.classes.tolist() == [1, 2, 1, 1]
    assert len(suppress(found, 0.35)) == 3
    assert len(suppress(found, 0.95)) == 5


def test_what_is_suppressed_suppresses_nothing() -> None:
    # A chain: the second goes because of the first, and the third is far from the first.
    chain = detections((0, 0, 10, 10, 0.9, 0), (4, 0, 14, 10, 0.8, 0), (8, 0, 18, 10, 0.7, 0))
    assert suppress(chain, 0.4).scores.tolist() == [0.9, 0.7]


def test_what_scores_enough_is_above() -> None:
    found = detections((0, 0, 1, 1, 0.5, 0), (0, 0, 2, 2, 0.3, 1), (0, 0, 3, 3, 0.2, 2))
    assert found.above(0.3).classes.tolist() == [0, 1]


def test_nothing_stays_nothing() -> None:
    assert len(suppress(detections(), 0.5)) == 0


@settings(max_examples=50)
@given(boxes, st.floats(0.05, 0.95), st.integers(0, 99))
def test_no_two_that_stay_overlap_and_all_that_go_overlap_a_better_one(
    some: np.ndarray[tuple[int, int], np.dtype[np.float64]], overlap: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    found = Detections(some, random.random(len(some)), random.integers(0, 2, len(some)))
    kept = suppress(found, overlap)
    assert (np.diff(kept.scores) <= 0).all()
    for classes in (0, 1):
        mine, all_ = kept[kept.classes == classes], found[found.classes == classes]
        among = intersection_over_union(mine.boxes, mine.boxes)
        assert (among[~np.eye(len(mine), dtype=bool)] <= overlap).all()
        for box, score in zip(all_.boxes, all_.scores, strict=True):
            better = mine[mine.scores >= score]
            ious = intersection_over_union(box[None], better.boxes)[0]
            assert (ious > overlap).any() or score in mine.scores
