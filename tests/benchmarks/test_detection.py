"""Boxes are counted as COCO counts them, against what was found in the sharp picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("skimage", reason="the benchmarks want scikit-image")

from deblurgan.benchmarks.boxes import Detections
from deblurgan.benchmarks.detection import (
    BLURRED,
    SCORES,
    SHARP,
    Counts,
    DetectionReport,
    PictureDetection,
    View,
    match,
    measure_detection,
)
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.evaluation import EvaluationPair

Picture = NDArray[np.uint8]


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(int))


def test_half_an_overlap_is_enough_and_less_is_not() -> None:
    reference = detections((0, 0, 10, 10, 1, 0))
    half, less = (detections((0, 0, 10, height, 1, 0)) for height in (5, 4.9))
    assert match(half, reference).counts == Counts(right=1)
    assert match(less, reference).counts == Counts(wrong=1, missed=1)


def test_another_class_is_another_object() -> None:
    got = match(detections((0, 0, 10, 10, 1, 1)), detections((0, 0, 10, 10, 1, 0)))
    assert got.counts == Counts(wrong=1, missed=1)


def test_a_reference_is_found_once_by_the_best_score() -> None:
    reference = detections((0, 0, 10, 10, 1, 0))
    # The first has the better score, the second the better place.
    got = match(detections((0, 0, 10, 7, 0.9, 0), (0, 0, 10, 10, 0.8, 0)), reference)
    assert got.right.tolist() == [True, False]
    assert got.counts == Counts(right=1, wrong=1)


def test_each_box_takes_the_free_reference_that_it_overlaps_most() -> None:
    references = detections((0, 0, 10, 10, 1, 0), (0, 0, 10, 8, 1, 0))
    got = match(detections((0, 0, 10, 8, 0.9, 0), (0, 0, 10, 9, 0.8, 0)), references)
    assert got.counts == Counts(right=2)
    (first,) = (match(detections((0, 0, 10, 8, 0.9, 0)), references),)
    assert first.found.tolist() == [False, True]


def test_nothing_against_something() -> None:
    nothing, something = detections(), detections((0, 0, 10, 10, 1, 0))
    assert match(nothing, something).counts == Counts(missed=1)
    assert match(something, nothing).counts == Counts(wrong=1)
    assert match(nothing, nothing).counts == Counts()


def test_shares_are_those_of_the_counts() -> None:
    counts = Counts(6, 2, 4)
    assert counts.precision == 0.75
    assert counts.recall == 0.6
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert Counts(missed=3).precision is None
    assert (Counts(missed=3).recall, Counts(missed=3).f1) == (0, 0)
    assert Counts().f1 is None


def level_pair(name: str, blurred: int, sharp: int, length: float | None = None) -> EvaluationPair:
    """Two grey pictures."""
    made = (torch.full((3, 32, 32), level, dtype=torch.uint8) for level in (blurred, sharp))
    return EvaluationPair(name, *made, length)


# What is found in a grey picture of this level; its negative is 255 less it.
FOUND = {
    100: detections((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 1)),
    10: detections((0, 0, 10, 10, 0.9, 0)),
    245: detections((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.5, 0)),
    20: detections(),
    235: detections((20, 0, 30, 10, 0.9, 1)),
}


def detect(picture: Picture) -> Detections:
    return FOUND[int(picture[0, 0, 0])]


def test_counts_are_summed_before_shares_are_taken(negative: Path) -> None:
    heard: list[list[View]] = []
    pairs = [level_pair("a", 10, 100, 8.0), level_pair("b", 20, 100)]
    with Deblurrer(negative) as deblurrer:
        report = measure_detection(
            detect, {"negative": deblurrer}, pairs, 0.3, lambda pair, views: heard.append(views)
        )
    assert report.totals == {
        BLURRED: Counts(1, 0, 3),
        "negative": Counts(2, 1, 2),
        SHARP: Counts(4, 0, 0),
    }
    assert report.references == 4
    assert [(p.name, p.length, p.references) for p in report.pictures] == [
        ("a", 8.0, 2),
        ("b", None, 2),
    ]
    assert report.pictures[0].counts["negative"] == Counts(1, 1, 1)
    assert report.by_class["negative"] == {0: Counts(1, 1, 1), 1: Counts(1, 0, 1)}
    assert report.by_class[SHARP] == {0: Counts(2), 1: Counts(2)}
    assert [[view.name for view in views] for views in heard] == [[BLURRED, "negative", SHARP]] * 2
    sharp = report.totals[SHARP]
    assert (sharp.precision, sharp.recall, sharp.f1) == (1, 1, 1)


def test_a_threshold_is_for_the_reference_too(negative: Path) -> None:
    pairs = [level_pair("a", 10, 100)]
    with Deblurrer(negative) as deblurrer:
        report = measure_detection(detect, {"negative": deblurrer}, pairs, 0.85)
    # Of the sharp picture's two boxes one is left, and one of the negative's two.
    assert report.totals == {
        BLURRED: Counts(1, 0, 0),
        "negative": Counts(1, 0, 0),
        SHARP: Counts(1, 0, 0),
    }
    assert list(report.by_score) == list(SCORES)
    assert report.by_score[0.1]["negative"] == Counts(1, 1, 1)
    assert report.by_score[0.5][SHARP] == Counts(2)


def report_of(*pictures: tuple[Counts, Counts]) -> DetectionReport:
    """Of pictures' counts before and after."""
    return DetectionReport(
        tuple(
            PictureDetection(str(n), None, 4, {BLURRED: before, "m": after})
            for n, (before, after) in enumerate(pictures)
        )
    )


def test_a_gain_in_every_picture_is_sure_and_one_in_a_single_picture_is_not() -> None:
    better, same = (Counts(2, 0, 2), Counts(3, 0, 1)), (Counts(2, 0, 2),) * 2
    gain = 6 / 7 - 4 / 6
    assert report_of(*[better] * 10).f1_gain("m") == pytest.approx((gain, gain))
    low, high = report_of(*[same] * 9, better).f1_gain("m") or (1, 1)
    assert low == 0 < high < gain
    worse = report_of(*[(after, before) for before, after in [better] * 10])
    assert worse.f1_gain("m") == pytest.approx((-gain, -gain))


def test_of_few_pictures_nothing_is_said_and_empty_ones_do_no_harm() -> None:
    assert report_of(*[(Counts(1), Counts(1))] * 7).f1_gain("m") is None
    assert report_of(*[(Counts(), Counts())] * 8).f1_gain("m") == (0, 0)


def test_no_reference_at_all_is_told(negative: Path) -> None:
    with (
        Deblurrer(negative) as deblurrer,
        pytest.raises(DeblurError, match="found nothing in 2 of them; lower --score"),
    ):
        measure_detection(detect, {"n": deblurrer}, [level_pair("a", 20, 20)] * 2, 0.3)
