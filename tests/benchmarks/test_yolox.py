"""Detectors of YOLOX's layout: what they are given, what is read out of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("onnxruntime")

from deblurgan.benchmarks.yolox import Detector, letterbox, make_grid
from deblurgan.runtime.errors import DeblurError

Picture = NDArray[np.uint8]
Write = Callable[..., Path]
Draw = Callable[..., Picture]


def test_a_letterbox_keeps_the_ratio_in_the_top_left_corner() -> None:
    canvas, scale = letterbox(np.full((100, 200, 3), 7, np.uint8), 64, 96)
    assert scale == pytest.approx(0.48)
    assert (canvas[:48, :96] == 7).all()
    assert (canvas[48:] == 114).all()
    assert canvas.shape == (64, 96, 3)


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([(64, 64), (96, 32), (32, 160)]))
def test_a_box_comes_back_from_a_letterbox(height: int, width: int, size: tuple[int, int]) -> None:
    picture = np.full((height, width, 3), 255, np.uint8)
    canvas, scale = letterbox(picture, *size)
    assert canvas.shape == (*size, 3)
    # The picture's far corner, found in the canvas and brought back, is off by a pixel of the
    # canvas at most.
    rows, columns = np.nonzero((canvas == 255).all(2))
    assert abs((rows.max() + 1) / scale - height) <= 1 / scale + 1e-6
    assert abs((columns.max() + 1) / scale - width) <= 1 / scale + 1e-6
    assert rows.min() == columns.min() == 0


def test_the_grid_goes_row_by_row_from_fine_to_coarse() -> None:
    grid, strides = make_grid(64, 96)
    assert len(grid) == len(strides) == 8 * 12 + 4 * 6 + 2 * 3
    assert grid[:2].tolist() == [[0, 0], [1, 0]]
    assert (grid[12].tolist(), strides[12]) == ([0, 1], 8)
    assert (grid[96 + 24 - 1].tolist(), strides[96]) == ([5, 3], 16)
    assert (grid[-1].tolist(), strides[-1]) == ([2, 1], 32)


def test_yoloxs_own_size_has_its_own_number_of_rows() -> None:
    assert len(make_grid(416, 416)[0]) == 3549
    assert len(make_grid(640, 640)[0]) == 8400


def test_boxes_are_where_the_blue_is(
    blue_detector: Write, blue_cells: Draw, tmp_path: Path
) -> None:
    detect = Detector(blue_detector(tmp_path / "blue.onnx"))
    found = detect(blue_cells((3, 2), (6, 7)))
    assert found.boxes.tolist() == [[24, 16, 32, 24], [48, 56, 56, 64]]
    assert found.scores.tolist() == [1, 1]
    assert found.classes.tolist() == [1, 1]
    assert detect.classes == 2


def test_red_is_not_blue_and_padding_is_nothing(blue_detector: Write, tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:24, 24:32] = (255, 0, 0)
    detect = Detector(blue_detector(tmp_path / "blue.onnx"), score=0.01)
    assert len(detect(picture)) == 0
    assert len(detect(picture[:40])) == 0


def test_boxes_of_a_larger_picture_are_in_its_own_pixels(
    blue_detector: Write, blue_cells: Draw, tmp_path: Path
) -> None:
    wide = blue_cells((3, 2), side=256)[:160]
    found = Detector(blue_detector(tmp_path / "blue.onnx"))(wide)
    assert found.boxes.tolist() == [[96, 64, 128, 96]]


def test_boxes_end_where_the_picture_does(
    blue_detector: Write, blue_cells: Draw, tmp_path: Path
) -> None:
    model = blue_detector(tmp_path / "blue.onnx", size=1.0)  # e cells a side
    (box,) = Detector(model)(blue_cells((0, 7))).boxes
    assert box == pytest.approx([0, 60 - 4 * np.e, 4 + 4 * np.e, 64])


def test_boxes_in_the_padding_are_none(
    blue_detector: Write, blue_cells: Draw, tmp_path: Path
) -> None:
    # The last row of the picture makes its cells score, whose small boxes lie below it.
    detect = Detector(blue_detector(tmp_path / "blue.onnx", size=-2.0), score=0.01)
    picture = blue_cells((0, 0), (0, 5))[:41]
    assert [box[1] < 8 for box in detect(picture).boxes] == [True]
    assert len(detect(blue_cells((0, 0), (0, 5))[:48])) == 2


def test_the_score_is_objectness_times_the_likeliest_class(
    blue_detector: Write, blue_cells: Draw, tmp_path: Path
) -> None:
    model = blue_detector(tmp_path / "blue.onnx", classes=(0.25, 0.5, 0.75, 0.1))
    picture = blue_cells((1, 1))
    (score,) = Detector(model)(picture).scores
    assert score == pytest.approx(0.75)
    assert Detector(model)(picture).classes.tolist() == [2]
    assert len(Detector(model, score=0.76)(picture)) == 0


def test_overlapping_boxes_of_a_class_are_one(
    blue_detector: Write, blue_cells: Draw, tmp_path: Path
) -> None:
    model = blue_detector(tmp_path / "blue.onnx", size=1.6)
    picture = blue_cells((3, 3), (4, 3))  # boxes of 40 pixels, 8 apart
    assert len(Detector(model)(picture)) == 1
    assert len(Detector(model, overlap=0.9)(picture)) == 2


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"shape": [1, 3, 60, 64]}, "tensor(float) 1x3x60x64"),
        ({"shape": [1, 1, 64, 64]}, "tensor(float) 1x1x64x64"),
        ({"shape": [2, 3, 64, 64]}, "tensor(float) 2x3x64x64"),
        ({"shape": [1, 3, "height", "width"]}, "tensor(float) 1x3xheightxwidth"),
        ({"half": True}, "tensor(float16) 1x3x64x64"),
        ({"rows": 85}, "1x85x7"),
        ({"classes": ()}, "1x84x5"),
    ],
)
def test_another_layout_is_refused(
    wrong: dict[str, Any], found: str, blue_detector: Write, tmp_path: Path
) -> None:
    model = blue_detector(tmp_path / "wrong.onnx", **wrong)
    with pytest.raises(DeblurError, match="YOLOX's") as caught:
        Detector(model)
    assert caught.value.found == found
    assert "export_onnx.py" in caught.value.remedy


def test_boxes_that_the_file_has_decoded_are_told(
    blue_detector: Write, blue_cells: Draw, tmp_path: Path
) -> None:
    detect = Detector(blue_detector(tmp_path / "decoded.onnx", size=40.0))  # pixels, not log
    with pytest.raises(DeblurError, match=r"decoded itself.*--decode_in_inference"):
        detect(blue_cells((1, 1)))


def test_what_is_no_detector_is_told(negative: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(DeblurError, match="does not load"):
        Detector(tmp_path / "broken.onnx")
    with pytest.raises(DeblurError, match="found nothing"):
        Detector(tmp_path / "missing.onnx")
    with pytest.raises(DeblurError, match="found a folder"):
        Detector(tmp_path)
    with pytest.raises(DeblurError, match="YOLOX's layout"):
        Detector(negative)


def test_yolox_nano_finds_the_people_of_a_street(shared: Path) -> None:
    street = cv2.imread(str(shared / "data" / "gopro" / "sharp" / "Istanbul.png"))
    found = Detector(shared / "weights" / "yolox_nano.onnx")(street[:, :, ::-1])
    people = found.boxes[found.classes == 0]
    assert 10 < len(people) < 30
    # The man in light blue in the middle of the place.
    assert (np.abs(people - [455, 255, 540, 515]).max(1) < 30).any()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= [1280, 720]).all()
