"""A model is data: it names no other file and declares no more than it brings."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deblurgan.runtime import DeblurError, console
from deblurgan.runtime.app import app
from deblurgan.runtime.contract import ModelCard, open_model
from deblurgan.runtime.onnx_file import read_onnx
from deblurgan.runtime.onnx_tensors import find_tensors
from deblurgan.runtime.tiling.whole_picture import find_whole_picture_operators

onnx = pytest.importorskip("onnx")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
ELSEWHERE = ("../../etc/passwd", "/etc/passwd", "link.bin", "beside.bin", "a/../../secret", "")


def outside(location: str, name: str = "white") -> Any:
    tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="4")
    return tensor


def branch(tensor: Any) -> Any:
    value = helper.make_tensor_value_info("z", FLOAT, None)
    return helper.make_graph([helper.make_node("Sub", ["white", "x"], ["z"])], "b", [], [value],
                             [tensor])  # fmt: skip


def put_in_weights(model: Any, tensor: Any) -> None:
    model.graph.initializer[0].CopyFrom(tensor)


def put_in_constant(model: Any, tensor: Any) -> None:
    del model.graph.initializer[:]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["white"], value=tensor))


def put_in_list(model: Any, tensor: Any) -> None:
    attribute = model.graph.node[0].attribute.add(name="list", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(tensor)


def put_in_branch(model: Any, tensor: Any) -> None:
    put_in_weights(model, helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]))
    both = {"then_branch": branch(tensor), "else_branch": branch(tensor)}
    model.graph.node[1].CopyFrom(helper.make_node("If", ["yes"], ["y"], **both))


def put_in_branch_of_branch(model: Any, tensor: Any) -> None:
    inner = branch(tensor)
    for _ in range(5):
        node = helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "b", [], inner.output)
    both = {"then_branch": inner, "else_branch": inner}
    model.graph.node[1].CopyFrom(helper.make_node("If", ["yes"], ["y"], **both))


def put_in_function(model: Any, tensor: Any) -> None:
    node = helper.make_node("Constant", [], ["white"], value=tensor)
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "White", [], ["white"], [node], opsets))


def put_in_sparse(model: Any, tensor: Any) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[1])
    sparse.values.CopyFrom(tensor)
    sparse.indices.CopyFrom(helper.make_tensor("at", onnx.TensorProto.INT64, [1], [0]))


def put_in_sparse_constant(model: Any, tensor: Any) -> None:
    node = helper.make_node("Constant", [], ["white"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.indices.CopyFrom(tensor)
    model.graph.node.insert(0, node)


def put_in_training(model: Any, tensor: Any) -> None:
    model.training_info.add().initialization.initializer.append(tensor)


PLACES: tuple[Callable[[Any, Any], None], ...] = (
    put_in_weights,
    put_in_constant,
    put_in_list,
    put_in_branch,
    put_in_branch_of_branch,
    put_in_function,
    put_in_sparse,
    put_in_sparse_constant,
    put_in_training,
)


@pytest.mark.parametrize("put", PLACES)
@pytest.mark.parametrize("location", ELSEWHERE)
def test_a_tensor_in_another_file_is_refused_wherever_it_is(
    put: Callable[[Any, Any], None], location: str, negative: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(bytes(4))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "beside.bin").write_bytes(bytes(4))
    (folder / "link.bin").symlink_to("../secret")
    model = onnx.load(negative)
    put(model, outside(location))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DeblurError, match="one file with its weights inside, found weights in"):
        open_model(path)


def test_every_tensor_is_found(negative: Path) -> None:
    model = onnx.load(negative)
    for put in (put_in_branch_of_branch, *PLACES[5:], put_in_list):
        put(model, helper.make_tensor("one", FLOAT, [1], [1.0]))
    assert model.SerializeToString().count(b"one") == len(
        [t for t in find_tensors(memoryview(model.SerializeToString())) if b"one" in bytes(t)]
    )


@pytest.mark.parametrize("how", ["bits beyond 32", "field number beyond 32 bits"])
def test_what_protobuf_cuts_off_hides_nothing(how: str, negative: Path, tmp_path: Path) -> None:
    """Its readers keep 32 bits of an enumeration and of a field's number."""
    model = onnx.load(negative)
    put_in_weights(model, outside("secret.bin"))
    content, path = model.SerializeToString(), tmp_path / "model.onnx"
    told = b"\x70\x01"  # field 14 is 1: data_location, external
    assert content.count(told) == 1
    hidden = b"\x70\x81\x80\x80\x80\x10" if how.startswith("bits") else b"\xf0\x80\x80\x80\x10\x01"
    path.write_bytes(lengthened(content, told, hidden))
    with pytest.raises(DeblurError, match=r"weights in secret|something else"):
        open_model(path)


def lengthened(content: bytes, old: bytes, new: bytes) -> bytes:
    """With ``new`` for ``old`` in the tensor of the graph, and the lengths around it."""
    model = onnx.ModelProto.FromString(content)
    tensor = model.graph.initializer[0].SerializeToString().replace(old, new)
    graph_without = onnx.GraphProto()
    graph_without.CopyFrom(model.graph)
    del graph_without.initializer[:]
    graph = graph_without.SerializeToString() + b"\x2a" + varint(len(tensor)) + tensor
    model.ClearField("graph")
    return model.SerializeToString() + b"\x3a" + varint(len(graph)) + graph


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize("put", PLACES)
@pytest.mark.parametrize("dims", [[1 << 20, 1 << 14], [1 << 62, 4], [-1], [1 << 31] * 40])
def test_a_tensor_of_more_than_the_file_has_is_refused(
    put: Callable[[Any, Any], None], dims: list[int], negative: Path, tmp_path: Path
) -> None:
    tensor = onnx.TensorProto(name="white", data_type=FLOAT, dims=dims, raw_data=bytes(4))
    model, path = onnx.load(negative), tmp_path / "model.onnx"
    put(model, tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DeblurError, match=r"found a tensor of [\d,]+ values in \d+ bytes"):
        open_model(path)


def test_dimensions_may_be_packed(negative: Path, tmp_path: Path) -> None:
    model, path = onnx.load(negative), tmp_path / "model.onnx"
    tensor = onnx.TensorProto(name="white", data_type=FLOAT, raw_data=bytes(4))
    packed = b"".join(map(varint, (1 << 20, 1 << 20)))
    tensor.MergeFromString(b"\x0a" + varint(len(packed)) + packed)
    put_in_weights(model, tensor)
    path.write_bytes(lengthened(model.SerializeToString(), b"", b""))
    with pytest.raises(DeblurError, match="a tensor of"):
        open_model(path)


def test_graphs_in_graphs_without_end_are_no_recursion(negative: Path, tmp_path: Path) -> None:
    model, graph = onnx.load(negative), b""
    for _ in range(3000):
        for number in (0x32, 0x2A, 0x0A):  # an attribute's graph, a node's, a graph's
            graph = bytes([number]) + varint(len(graph)) + graph
    content = model.SerializeToString() + b"\x3a" + varint(len(graph)) + graph
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(DeblurError, match="graphs in graphs, more than"):
        open_model(path)


def test_what_is_read_can_be_searched_for_operators(negative: Path, tmp_path: Path) -> None:
    model, path = onnx.load(negative), tmp_path / "model.onnx"
    put_in_branch_of_branch(model, helper.make_tensor("white", FLOAT, [1], [1.0]))
    path.write_bytes(model.SerializeToString())
    read_onnx(path)
    assert find_whole_picture_operators(path) == []


def test_more_parts_than_any_network_has(negative: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(negative.read_bytes() + b"\x28\x01" * 1_100_000)
    with pytest.raises(DeblurError, match="more than 1,000,000 parts"):
        open_model(path)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("generator", "[" * 100_000, "metadata that does not fit"),
        ("generator", '{"a":' * 100_000, "metadata that does not fit"),
        ("licence", "x" * 100_000_000, "a text of 100,000,000 bytes in it"),
        ("stride", "0", "metadata that does not fit"),
        ("stride", "-4", "metadata that does not fit"),
        ("stride", "true", "metadata that does not fit"),
        ("stride", "1e400", "metadata that does not fit"),
        ("stride", str(10**30), "metadata that does not fit"),
        ("stride", "9" * 5000, "metadata that does not fit"),
        ("minimum_size", str(1 << 40), "metadata that does not fit"),
        ("minimum_size", "-1", "metadata that does not fit"),
        ("precision", "fp7", "precision 'fp7'"),
        ("contract", "2", "contract version 2"),
        ("contract", "1.0", "contract version 1.0"),
    ],
)
def test_a_card_that_lies_is_one_line(
    key: str,
    value: str,
    found: str,
    card: ModelCard,
    write_negative: Callable[..., Path],
    tmp_path: Path,
) -> None:
    metadata = {**card.to_metadata(), f"deblurgan.{key}": value}
    path = write_negative(tmp_path / "model.onnx", metadata=metadata)
    with pytest.raises(DeblurError, match=found) as error:
        open_model(path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("kind", ["random", "cut", "html", "pickle", "zip", "json", "folder"])
def test_a_model_that_is_none_is_one_line_and_nothing_is_unpickled(
    kind: str, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    model = tmp_path / {"pickle": "model.pth", "zip": "model.pt"}.get(kind, "model.onnx")
    if kind == "random":
        model.write_bytes(random.Random(3).randbytes(5000))
    elif kind == "cut":
        model.write_bytes(negative.read_bytes()[:-40])
    elif kind == "html":
        model.write_text("<!DOCTYPE html><html><body>404</body></html>")
    elif kind == "pickle":
        model.write_bytes(pickle.dumps(Trap()))
    elif kind == "zip":
        with zipfile.ZipFile(model, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    elif kind == "json":
        model.write_text(json.dumps({"model": 1}))
    else:
        model.mkdir()
    still = tmp_path / "in.png"
    cv2.imwrite(str(still), np.zeros((32, 32, 3), np.uint8))
    before = sorted(tmp_path.iterdir())
    assert console.run(app, [str(still), str(tmp_path / "out.png"), "--model", str(model)]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert str(model) in said
    assert "deblur-export onnx" in said
    assert not trap.exists()
    assert sorted(tmp_path.iterdir()) == before
