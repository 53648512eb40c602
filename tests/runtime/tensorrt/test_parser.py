"""Real refusals: each of these files is written wrong, and given to the real parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import INPUT, OUTPUT, Model
from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.builder import open_builder
from deblurgan.runtime.tensorrt.parser import (
    Parsed,
    check_opset,
    find_newest_opset,
    parse_onnx,
)

onnx = pytest.importorskip("onnx")
node, kind = onnx.helper.make_node, onnx.TensorProto

IN = node("Cast", [INPUT], ["x"], to=kind.FLOAT, name="in")
OUT = node("Cast", ["y"], [OUTPUT], to=kind.UINT8, name="out")
MULTIPLY = node("Mul", ["x", "w"], ["y"], name="multiply")


@pytest.fixture
def parse(rtx: Bindings) -> Callable[[Path], Parsed]:
    return lambda path: parse_onnx(rtx, open_builder(rtx), path)


def weights(values: Any, dtype: Any = np.float32) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values, dtype), "w")


def test_a_contract_file_becomes_a_strongly_typed_network(
    rtx: Bindings, parse: Callable[[Path], Parsed], tiny: Model
) -> None:
    parsed = parse(tiny.path)
    assert parsed.network.get_flag(rtx.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert parsed.parser.get_flag(rtx.trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    assert parsed.network.get_input(0).dtype == rtx.trt.DataType.UINT8
    assert parsed.network.num_layers > 8


@pytest.mark.parametrize(
    ("nodes", "constants", "domains", "said"),
    [
        (
            [
                node("Transpose", [INPUT], ["t"], perm=[0, 3, 1, 2], name="turn"),
                node("Transpose", ["t"], [OUTPUT], perm=[0, 2, 3, 1]),
            ],
            [],
            [],
            r"node turn \(Transpose\): it works on uint8.*Cast to float before it",
        ),
        (
            [node("Add", [INPUT, INPUT], [OUTPUT], name="twice")],
            [],
            [],
            r"node twice \(Add\): it works on uint8",
        ),
        (
            [
                IN,
                node("Cast", ["x"], ["y"], to=kind.UINT8, name="down"),
                node("Transpose", ["y"], [OUTPUT], perm=[0, 2, 1, 3]),
            ],
            [],
            [],
            r"node down \(Cast\): it works on uint8, .*Cast to float before it",
        ),
        (
            [IN, node("Sharpen", ["x"], ["y"], name="magic"), OUT],
            [],
            [],
            r"node magic \(Sharpen\): an operator that it does not know.*--backend onnxruntime",
        ),
        (
            [IN, node("Sharpen", ["x"], ["y"], domain="com.acme"), OUT],
            [],
            ["com.acme"],
            r"node number 1 \(Sharpen\): an operator that it does not know, and no plugin",
        ),
        (
            [IN, node("Unique", ["x"], ["y"], name="once"), OUT],
            [],
            [],
            r"node once \(Unique\): an operator that it does not know",
        ),
        (
            [IN, MULTIPLY, OUT],
            [weights(np.ones(7))],
            [],
            r"node multiply \(Mul\): its inputs do not fit in shape \(broadcast dimensions",
        ),
        (
            [IN, MULTIPLY, OUT],
            [weights(np.ones(3), np.float16)],
            [],
            r"multiply \(Mul\): its inputs differ in type \(.*Float and Half\.\); .* Cast one",
        ),
        (
            [IN, MULTIPLY, OUT],
            [],
            [],
            r"node multiply \(Mul\): a broken graph: a node reads what none before it makes",
        ),
        (
            [IN, node("Add", ["x", "y"], ["y"]), OUT],
            [],
            [],
            r"found a broken graph: .*; run onnx\.checker\.check_model",
        ),
    ],
    ids=[
        "transpose on uint8",
        "add on uint8",
        "cast to uint8 too early",
        "unknown operator",
        "unknown domain",
        "unsupported operator",
        "shapes",
        "types",
        "no such tensor",
        "circle",
    ],
)
def test_a_refusal_names_node_operator_reason_and_what_helps(
    nodes: list[Any],
    constants: list[Any],
    domains: list[str],
    said: str,
    parse: Callable[[Path], Parsed],
    write_graph: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = write_graph(tmp_path / "wrong.onnx", nodes, constants, domains=domains)
    with pytest.raises(DeblurError, match=said) as error:
        parse(path)
    assert str(error.value).startswith(f"{path}: expected a graph that TensorRT for RTX")
    assert "\n" not in str(error.value)
    assert ".cpp" not in str(error.value)


def test_external_data_that_is_missing_is_named(
    parse: Callable[[Path], Parsed], write_graph: Callable[..., Path], tmp_path: Path
) -> None:
    outside = onnx.TensorProto(
        name="w", data_type=kind.FLOAT, dims=[3], data_location=kind.EXTERNAL
    )
    outside.external_data.add(key="location", value="weights.bin")
    path = write_graph(tmp_path / "outside.onnx", [IN, MULTIPLY, OUT], [outside])
    with pytest.raises(DeblurError, match=r"another file \(.*weights\.bin\), which is not there"):
        parse(path)
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    assert parse(path).network.num_layers >= 3


def test_an_opset_of_the_future_is_refused(
    rtx: Bindings,
    parse: Callable[[Path], Parsed],
    write_graph: Callable[..., Path],
    tmp_path: Path,
) -> None:
    newest = find_newest_opset(rtx)
    nodes = [IN, node("Relu", ["x"], ["y"]), OUT]
    parse(write_graph(tmp_path / "new.onnx", nodes, opset=newest))
    with pytest.raises(DeblurError, match=rf"opset {newest} or older, .* found opset {newest + 1}"):
        parse(write_graph(tmp_path / "newer.onnx", nodes, opset=newest + 1))


@pytest.mark.parametrize(
    ("version", "newest"),
    [
        ("10.3.0", 20),
        ("10.3.0.30", 20),
        ("10.14.1.48", 20),
        ("10.15.1", 24),
        ("10.16.1.11", 24),
        ("11.4.0.106", 25),
    ],
)
def test_what_a_release_knows_is_the_newest_it_takes(
    version: str, newest: int, write_graph: Callable[..., Path], tmp_path: Path
) -> None:
    bindings = Bindings(None, "tensorrt", version)
    nodes = [IN, node("Relu", ["x"], ["y"]), OUT]
    check_opset(bindings, write_graph(tmp_path / "new.onnx", nodes, opset=newest))
    newer = write_graph(tmp_path / "newer.onnx", nodes, opset=newest + 1)
    with pytest.raises(DeblurError, match=rf"opset {newest} or older, .*TensorRT {version}"):
        check_opset(bindings, newer)


@pytest.mark.parametrize("content", [b"", b"<html>", b"hello world this is not onnx", None])
def test_what_is_no_model_is_said(
    content: bytes | None, parse: Callable[[Path], Parsed], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeblurError, match=r"model\.onnx: expected an ONNX model, found"):
        parse(path)


def test_a_cut_file_is_refused_wherever_it_is_cut(
    parse: Callable[[Path], Parsed], tiny: Model, tmp_path: Path
) -> None:
    content, path = tiny.path.read_bytes(), tmp_path / "cut.onnx"
    for length in range(1, len(content), len(content) // 12):
        path.write_bytes(content[:length])
        with pytest.raises(DeblurError):
            parse(path)


def test_another_input_than_frames_is_refused(
    parse: Callable[[Path], Parsed], tiny: Model, tmp_path: Path
) -> None:
    model = onnx.load(tiny.path)
    model.graph.input[0].name = model.graph.node[0].input[0] = "pictures"
    path = tmp_path / "renamed.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DeblurError, match=r"one input, frames, .* found pictures"):
        parse(path)
