"""A detector of YOLOX's layout that a picture can be made for: it finds blue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SIDE = 64  # pixels of its input
ROWS = (SIDE // 8) ** 2 + (SIDE // 16) ** 2 + (SIDE // 32) ** 2


@pytest.fixture(scope="session")
def blue_detector() -> Callable[..., Path]:
    """Writes it, as :func:`write_blue_detector` says."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return write_blue_detector


@pytest.fixture(scope="session")
def blue_cells() -> Callable[..., NDArray[np.uint8]]:
    """Makes pictures for it, as :func:`draw_blue_cells` says."""
    return draw_blue_cells


def write_blue_detector(
    path: Path,
    *,
    shape: list[Any] | None = None,
    half: bool = False,
    rows: int = ROWS,
    size: float = 0.0,
    classes: tuple[float, ...] = (0.25, 1.0),
) -> Path:
    """Each cell of stride 8 scores (mean of its first channel - 128) / 127 as class 1, with a
    box that is e^``size`` cells a side; the other strides' cells score nothing.
    """
    import onnx
    from onnx import TensorProto, helper

    type_ = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    fine = (SIDE // 8) ** 2
    before = np.tile(np.array([0.5, 0.5, size, size], np.float32), (1, fine, 1))
    after = np.tile(np.array(classes, np.float32), (1, fine, 1))
    rest = np.zeros((1, rows - fine, 5 + len(classes)), np.float32)
    constants = {
        "first": np.array([0], np.int64),
        "shape": np.array([1, fine, 1], np.int64),
        "middle": np.array(128, np.float32),
        "range": np.array(127, np.float32),
        "before": before,
        "after": after,
        "rest": rest,
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "first"], ["blue"], axis=1),
        helper.make_node("AveragePool", ["blue"], ["mean"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("Sub", ["column", "middle"], ["above"]),
        helper.make_node("Div", ["above", "range"], ["share"]),
        helper.make_node("Relu", ["share"], ["objectness"]),
        helper.make_node("Concat", ["before", "objectness", "after"], ["found"], axis=2),
        helper.make_node("Concat", ["found", "rest"], ["output"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "blue",
        [helper.make_tensor_value_info("images", type_, shape or [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, rows, 5 + len(classes)])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def draw_blue_cells(*cells: tuple[int, int], side: int = SIDE) -> NDArray[np.uint8]:
    """RGB, black but for these cells (column, row) of 8 pixels a side in ``SIDE``."""
    picture = np.zeros((side, side, 3), np.uint8)
    cell = 8 * side // SIDE
    for column, row in cells:
        picture[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = (0, 0, 255)
    return picture
