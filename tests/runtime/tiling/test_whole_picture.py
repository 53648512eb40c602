from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deblurgan.runtime.model_store import DEFAULT, find_model
from deblurgan.runtime.tiling.whole_picture import find_whole_picture_operators

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
FLOAT = onnx.TensorProto.FLOAT


def find(path: Path, nodes: list[Any], functions: list[Any] = []) -> list[str]:  # noqa: B006
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", FLOAT, [1, 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("y", FLOAT, None)],
        [
            onnx.helper.make_tensor("ones", FLOAT, [3], [1.0] * 3),
            onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3]),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=functions)
    onnx.save(model, path)
    return find_whole_picture_operators(path)


@pytest.mark.parametrize(
    "statistics",
    [
        node("InstanceNormalization", ["x", "ones", "ones"], ["y"]),
        node("GlobalAveragePool", ["x"], ["y"]),
        node("ReduceMean", ["x", "axes"], ["y"]),
        node("MatMul", ["x", "x"], ["y"]),
    ],
    ids=lambda n: n.op_type,
)
def test_what_looks_at_the_whole_picture_is_found(statistics: Any, tmp_path: Path) -> None:
    assert find(tmp_path / "m.onnx", [statistics]) == [statistics.op_type]


def test_arithmetic_on_sizes_does_not_count(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["size"]),
        node("ReduceProd", ["size"], ["count"]),
        node("Cast", ["count"], ["number"], to=FLOAT),
        node("MatMul", ["number", "ones"], ["scaled"]),
        node("ReduceMax", ["ones"], ["most"]),
        node("MatMul", ["x", "ones"], ["product"]),
        node("Mul", ["product", "scaled"], ["y"]),
    ]
    assert find(tmp_path / "m.onnx", nodes) == []


def test_branches_and_functions_are_searched(tmp_path: Path) -> None:
    branch = onnx.helper.make_graph(
        [node("GlobalMaxPool", ["x"], ["b"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("b", FLOAT, None)],
    )
    condition = node("Constant", [], ["c"], value=onnx.helper.make_tensor("c", 9, [], [True]))
    choice = node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    assert find(tmp_path / "if.onnx", [condition, choice]) == ["GlobalMaxPool"]
    function = onnx.helper.make_function(
        "mine",
        "Norm",
        ["a"],
        ["b"],
        [node("ReduceL2", ["a"], ["b"])],
        [onnx.helper.make_opsetid("", 18)],
    )
    call = node("Norm", ["x"], ["y"], domain="mine")
    assert find(tmp_path / "function.onnx", [call], [function]) == ["ReduceL2"]


def test_the_shipped_model_can_work_in_tiles() -> None:
    assert find_whole_picture_operators(find_model(DEFAULT).path) == []
