"""The wire format of protobuf: numbered fields, each a number or bytes.

Read as strictly as the engines' own readers, or more so: what they would read in one way and
this in another could get something past the checks here.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LARGEST_KEY = 1 << 32  # beyond it protobuf drops bits, and reads another field
LARGEST_TEXT = 1 << 24  # bytes; a card's longest is some ten thousand


class TooLarge(ValueError):
    """More than any file of its kind has: the message says what, and is fit to be shown."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message, in order: number, and value or bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        if key >= LARGEST_KEY:
            raise ValueError("not protobuf")
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
    """Raises :class:`TooLarge` for what nobody would read."""
    message = as_bytes(value)
    if len(message) > LARGEST_TEXT:
        raise TooLarge(f"a text of {len(message):,} bytes in it")
    return bytes(message).decode()
