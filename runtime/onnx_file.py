"""Just enough of the ONNX format to ask a file what it is.

A device that runs plans has neither ``onnx`` nor an engine that opens ONNX
files, and must still be able to read a model's metadata. An ONNX file is one
protobuf message (onnx.proto, ``ModelProto``); this reads the few fields that
matter and steps over the rest, so that a large model costs nothing. A file may come
from anyone: what it declares is checked before an engine takes memory for it, or opens
another file that it names.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.onnx_tensors import check_size, find_other_file, find_tensors
from deblurgan.runtime.protobuf import TooLarge, as_bytes, as_int, fields, text

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

    Raises :class:`DeblurError` when there is no such file, it is no ONNX, or it declares
    more than it has.
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
    except TooLarge as error:
        raise DeblurError(path, expected="an ONNX model", found=str(error), remedy=remedy) from None
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
                if part == 11:
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
    for tensor in find_tensors(message):
        check_size(tensor)
        model.weights = model.weights or find_other_file(tensor)
    return model


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
