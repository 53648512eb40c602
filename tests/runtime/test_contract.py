from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import Model, ModelCard, open_model
from deblurgan.runtime.onnx_file import read_onnx


def test_a_card_survives_the_metadata(card: ModelCard) -> None:
    assert ModelCard.from_metadata(card.to_metadata()) == card
    assert all(key.startswith("deblurgan.") for key in card.to_metadata())


def test_open_model_reads_what_the_file_says(negative: Path, card: ModelCard) -> None:
    assert open_model(negative) == Model(negative, card, size=None)


def test_our_reader_agrees_with_onnx(negative: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model, ours = onnx.load(negative), read_onnx(negative)
    assert ours.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert ours.opset == model.opset_import[0].version
    assert [tensor.name for tensor in ours.inputs] == [v.name for v in model.graph.input]
    assert ours.inputs[0].shape == ("batch", "height", "width", 3)
    assert ours.inputs[0].element_type == "uint8"


def test_a_frozen_file_knows_its_size(write_negative: Callable[..., Path], tmp_path: Path) -> None:
    model = open_model(write_negative(tmp_path / "frozen.onnx", size=(64, 48)))
    assert model.size == (64, 48)
    model.check_frame(64, 48)
    with pytest.raises(DeblurError, match="frozen at, found 66x48"):
        model.check_frame(66, 48)


def test_a_frame_below_the_smallest_size_is_refused_with_that_size(negative: Path) -> None:
    with pytest.raises(DeblurError, match="at least 16x16 pixels, found 100x15"):
        open_model(negative).check_frame(100, 15)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no such file"),
        (b"", "something else"),
        (b"<html>not a model</html>", "something else|without inputs"),
        (bytes(range(256)) * 8, "something else|without inputs"),
    ],
)
def test_what_is_not_onnx_is_said(content: bytes | None, found: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeblurError, match=found) as error:
        open_model(path)
    assert str(path) in str(error.value)
    assert "deblur-export onnx" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("deblurgan.contract", None, "without the contract's metadata"),
        ("deblurgan.contract", "7", "contract version 7"),
        ("deblurgan.precision", "fp8", "precision 'fp8'"),
        ("deblurgan.stride", None, "metadata that does not fit"),
        ("deblurgan.stride", '"four"', "metadata that does not fit"),
        ("deblurgan.generator", "{", "metadata that does not fit"),
        ("deblurgan.generator", "[" * 100_000, "metadata that does not fit"),
        ("deblurgan.quantisation", '{"layers": 3}', "metadata that does not fit"),
        ("deblurgan.quantisation", '{"layers": ["head"]}', "metadata that does not fit"),
        ("deblurgan.quantisation", '{"layers": [{"name": "head"}]}', "does not fit"),
        ("deblurgan.golden", '{"width": 9}', "metadata that does not fit"),
        ("deblurgan.golden", '{"width": 9, "height": "9", "engine": "x"}', "does not fit"),
    ],
)
def test_metadata_that_lies_or_lacks_is_said(
    key: str,
    value: str | None,
    found: str,
    card: ModelCard,
    write_negative: Callable[..., Path],
    tmp_path: Path,
) -> None:
    metadata = card.to_metadata()
    metadata.pop(key)
    if value is not None:
        metadata[key] = value
    path = write_negative(tmp_path / "model.onnx", metadata=metadata)
    with pytest.raises(DeblurError, match=found):
        open_model(path)


@given(st.data())
def test_no_damage_makes_the_reader_crash(negative: Path, data: st.DataObject) -> None:
    content = bytearray(negative.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    damaged = negative.with_name("damaged.onnx")
    damaged.write_bytes(content)
    with contextlib.suppress(DeblurError):
        open_model(damaged)


def test_a_batch_frozen_at_more_than_one_is_refused(
    write_negative: Callable[..., Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    path = write_negative(tmp_path / "two.onnx", size=(64, 48))
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)
    with pytest.raises(DeblurError, match="a batch frozen at 2"):
        open_model(path)


def test_weights_in_another_file_are_refused(
    negative: Path, write_negative: Callable[..., Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    assert read_onnx(negative).weights == ""
    path = write_negative(tmp_path / "outside.onnx")
    model = onnx.load(path)
    white = onnx.numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(white, "white"))
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(DeblurError, match=r"weights inside, found weights in w\.bin; onnx\.save"):
        open_model(path)


def test_an_opset_that_no_engine_knows_is_refused(
    write_negative: Callable[..., Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    path = write_negative(tmp_path / "new.onnx")
    model = onnx.load(path)
    for opset in (25, 26):
        model.opset_import[0].version = opset
        onnx.save(model, path)
        if opset == 25:
            assert open_model(path).size is None
    with pytest.raises(DeblurError, match="opset 25 or older, found opset 26"):
        open_model(path)
