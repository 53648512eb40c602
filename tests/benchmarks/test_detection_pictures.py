"""Pictures with boxes: what is right, wrong and missed can be told by its colour."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("skimage", reason="the benchmarks want scikit-image")

from deblurgan.benchmarks.boxes import Detections
from deblurgan.benchmarks.coco import NAMES, class_name
from deblurgan.benchmarks.detection import BLURRED, SHARP, View, match
from deblurgan.benchmarks.detection_pictures import (
    LARGEST,
    MISSED,
    RIGHT,
    WRONG,
    caption,
    draw_detections,
)
from deblurgan.train.contact_sheet import GAP, STRIP

FOUND = Detections(
    np.array([[40.0, 40, 120, 120], [200, 40, 280, 120]]), np.array([0.9, 0.8]), np.array([0, 0])
)
REFERENCES = Detections(
    np.array([[40.0, 40, 120, 120], [40, 150, 120, 190]]), np.array([0.9, 0.8]), np.array([0, 0])
)


def views(height: int = 200, width: int = 300) -> list[View]:
    grey = np.full((height, width, 3), 128, np.uint8)
    return [
        View(BLURRED, grey, FOUND, match(FOUND, REFERENCES)),
        View(SHARP, grey, REFERENCES, match(REFERENCES, REFERENCES)),
    ]


def cell(sheet: NDArray[np.uint8], column: int, width: int = 300) -> NDArray[np.uint8]:
    left = GAP + column * (width + GAP)
    return sheet[GAP + STRIP : -GAP, left : left + width]


def test_boxes_have_the_colour_of_what_they_are() -> None:
    sheet = draw_detections(views(), 80)
    blurred, sharp = cell(sheet, 0), cell(sheet, 1)
    assert tuple(blurred[80, 40]) == tuple(blurred[120, 80]) == RIGHT
    assert tuple(blurred[80, 200]) == WRONG
    assert tuple(blurred[170, 40]) == MISSED
    assert tuple(blurred[170, 80]) == (128, 128, 128)
    assert tuple(sharp[80, 40]) == tuple(sharp[170, 40]) == RIGHT
    assert not (sharp == np.array(WRONG, np.uint8)).all(2).any()


def test_nothing_is_drawn_into_the_pictures_themselves() -> None:
    given = views()
    draw_detections(given, 80)
    assert all((view.picture == 128).all() for view in given)


def test_large_pictures_are_shown_smaller_with_their_boxes() -> None:
    sheet = draw_detections(views(1600, 3200), 80)
    assert sheet.shape[:2] == (GAP + STRIP + LARGEST // 2 + GAP, GAP + 2 * (LARGEST + GAP))
    assert tuple(cell(sheet, 0, LARGEST)[20, 10]) == RIGHT  # at a quarter of its place


def test_captions_count() -> None:
    blurred, sharp = views()
    assert caption(blurred) == "blurred: 1 right, 1 wrong, 1 missed"
    assert caption(sharp) == "sharp: 2 references"


def test_classes_have_cocos_names_where_there_are_as_many() -> None:
    assert len(NAMES) == len(set(NAMES)) == 80
    assert [class_name(n, 80) for n in (0, 4, 20, 40, 60, 67, 79)] == [
        "person", "airplane", "elephant", "wine glass", "dining table", "cell phone", "toothbrush",
    ]  # fmt: skip
    assert class_name(4, 20) == "class 4"
