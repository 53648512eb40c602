"""Every tensor that an ONNX file declares, wherever it is: weights, constants, bodies of If and
Loop, functions. Each one may name another file that an engine opens, or a size that it
takes memory for.
"""

from __future__ import annotations

from collections.abc import Iterator

from deblurgan.runtime.protobuf import TooLarge, as_bytes, as_int, fields, text, varint

# Which fields of a message hold which other messages, on the way to a TensorProto.
HOLDERS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
DIMS, EXTERNAL_DATA, DATA_LOCATION = 1, 13, 14
DEEPEST = 64  # messages in one another; engines give up at a hundred
# A trained network of the size has a tenth of them; a second or two for this reader.
MOST_MESSAGES = 1_000_000
VALUES_A_BYTE = 4  # of the smallest types


def find_tensors(model: memoryview) -> Iterator[memoryview]:
    """The ``TensorProto`` messages of a ``ModelProto``.

    Raises ``ValueError`` where it is no protobuf, and :class:`TooLarge` where it is
    deeper, or of more parts, than any network.
    """
    waiting, seen = [("model", model, 0)], 0
    while waiting:
        kind, message, depth = waiting.pop()
        if depth > DEEPEST:
            raise TooLarge(f"graphs in graphs, more than {DEEPEST // 3} deep")
        held = HOLDERS[kind]
        for number, value in fields(message):
            seen += 1
            if seen > MOST_MESSAGES:
                raise TooLarge(f"more than {MOST_MESSAGES:,} parts")
            if number not in held:
                continue
            if held[number] == "tensor":
                yield as_bytes(value)
            else:
                waiting.append((held[number], as_bytes(value), depth + 1))


def find_other_file(tensor: memoryview) -> str:
    """The file that a tensor keeps its values in, empty for the model's own."""
    external, location = False, ""
    for number, value in fields(tensor):
        if number == EXTERNAL_DATA:
            entry = dict(fields(as_bytes(value)))
            if text(entry[1]) == "location":
                location = text(entry.get(2, memoryview(b"")))
        elif number == DATA_LOCATION:
            # An engine keeps 32 bits of it.
            external = external or as_int(value) & 0xFFFFFFFF != 0
    return (location or "another file") if external else ""


def check_size(tensor: memoryview) -> None:
    """Raise :class:`TooLarge` for one that declares more values than it brings, before an
    engine takes memory for them.
    """
    values, is_outside = 1, False
    for number, value in fields(tensor):
        if number == DIMS:
            sizes = [value] if isinstance(value, int) else packed(value)
            for size in sizes:
                values *= size
        is_outside = is_outside or number == EXTERNAL_DATA
    # Counted in its own bytes, names and all: what is far too much is found, not what is off
    # by one, which engines refuse.
    if values > VALUES_A_BYTE * len(tensor) and not is_outside:
        raise TooLarge(f"a tensor of {values:,} values in {len(tensor):,} bytes")


def packed(message: memoryview) -> Iterator[int]:
    at = 0
    while at < len(message):
        value, at = varint(message, at)
        yield value
