"""Just enough of the ONNX format to ask a file what it is.

A device that runs plans has neither ``onnx`` nor an engine that opens ONNX
files, and must still be able to read a model's metadata. An ONNX file is one
protobuf message (onnx.proto, ``ModelProto``); this reads the few fields that
matter and steps over the rest, so that a large model costs nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deblurgan.runtime.errors import DeblurError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16"}


@dataclass(frozen=True)
class Tensor:
    """A graph's input or output; a dimension that is not fixed is its name."""

    name: str
    element_type: str
    shape: tuple[int | str, ...]


@dataclass
class OnnxFile:
    """What a model file says of itself."""

    metadata: dict[str, str] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    opset: int = 0  # of the default domain
    weights: str = ""  # the other file that weights lie in, if any do
    producer: str = ""


def read_onnx(path: Path) -> OnnxFile:
    """Read a model's metadata, inputs and outputs.

    Raises :class:`DeblurError` when there is no such file or it is no ONNX.
    """
    remedy = "write one with: deblur-export onnx CHECKPOINT -o MODEL.onnx"
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Not closed by hand: views of it live on in the traceback of a bad file.
        model = parse_model(memoryview(data))
    except FileNotFoundError:
        raise DeblurError(
            path, expected="an ONNX model", found="no such file", remedy=remedy
        ) from None
    except OSError as error:
        raise DeblurError(
            path,
            expected="an ONNX model",
            found=f"a file that cannot be read ({error.strerror})",
            remedy=remedy,
        ) from None
    except (ValueError, IndexError, KeyError):  # mmap refuses an empty file with ValueError
        raise DeblurError(
            path, expected="an ONNX model", found="something else, or a part of one", remedy=remedy
        ) from None
    if not model.inputs or not model.outputs:
        raise DeblurError(
            path, expected="an ONNX model", found="a file without inputs and outputs", remedy=remedy
        )
    return model


def parse_model(message: memoryview) -> OnnxFile:
    model = OnnxFile()
    for number, value in fields(message):
        if number == 2:
            model.producer = text(value)
        elif number == 7:
            for part, content in fields(as_bytes(value)):
                if part == 5:
                    model.weights = model.weights or find_other_file(as_bytes(content))
                elif part == 11:
                    model.inputs.append(parse_tensor(as_bytes(content)))
                elif part == 12:
                    model.outputs.append(parse_tensor(as_bytes(content)))
        elif number == 8:
            opset = dict(fields(as_bytes(value)))
            if not opset.get(1):  # the default domain
                model.opset = as_int(opset.get(2, 0))
        elif number == 14:
            entry = dict(fields(as_bytes(value)))
            model.metadata[text(entry[1])] = text(entry.get(2, memoryview(b"")))
    return model


def find_other_file(message: memoryview) -> str:
    """The file that a ``TensorProto`` keeps its values in, empty for the model's own."""
    external, location = False, "another file"
    for number, value in fields(message):
        if number == 13:
            entry = dict(fields(as_bytes(value)))
            if text(entry[1]) == "location":
                location = text(entry.get(2, memoryview(b"")))
        elif number == 14:
            external = as_int(value) == 1
    return location if external else ""


def parse_tensor(message: memoryview) -> Tensor:
    """``ValueInfoProto``: a name, and a type that holds an element type and a shape."""
    info = dict(fields(message))
    tensor = dict(fields(as_bytes(dict(fields(as_bytes(info[2]))).get(1, memoryview(b"")))))
    shape: list[int | str] = []
    for _, dimension in fields(as_bytes(tensor.get(2, memoryview(b"")))):
        size = dict(fields(as_bytes(dimension)))
        shape.append(as_int(size[1]) if 1 in size else text(size.get(2, memoryview(b""))))
    element = as_int(tensor.get(1, 0))
    return Tensor(text(info[1]), ELEMENT_TYPES.get(element, f"type {element}"), tuple(shape))


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message, in order: number, and value or bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("not protobuf")
        if number == 0 or at + length > len(message):
            raise ValueError("not protobuf")
        yield number, message[at : at + length]
        at += length


def varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not protobuf")


def as_bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("not protobuf")
    return value


def as_int(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("not protobuf")
    return value


def text(value: int | memoryview) -> str:
    return bytes(as_bytes(value)).decode()
