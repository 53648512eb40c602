"""What a picture file tells in its header: its size, read before memory is taken for its pixels,
and whether it is the only picture there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Size = tuple[int, int]  # width, height
# Markers of JPEG that begin a frame: all from C0 to CF but tables and extensions.
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
STANDALONE = {0x01, *range(0xD0, 0xD9)}
WIDTH, HEIGHT = 256, 257  # TIFF's tags
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}  # of TIFF


def read_size(data: bytes) -> Size | None:
    """Width and height of a PNG, JPEG, WebP, BMP or TIFF file in pixels; None where it does
    not tell, or is none of them.
    """
    for reader in READERS:
        try:
            size = reader(data)
        except (IndexError, struct.error):  # cut off in its header
            continue
        if size is not None:
            return size
    return None


def has_several(data: bytes) -> bool:
    """Whether it is an animation (PNG, WebP), or has several pages (TIFF)."""
    if data.startswith(b"\x89PNG"):
        return b"acTL" in data[: data.find(b"IDAT")]
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return len(data) > 20 and bool(data[20] & 2)
    order = BYTE_ORDERS.get(data[:4])
    if order is None:
        return False
    try:
        (first,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, first)
        (following,) = struct.unpack_from(f"{order}I", data, first + 2 + 12 * entries)
    except struct.error:  # cut off
        return False
    return bool(following)


def png_size(data: bytes) -> Size | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def jpeg_size(data: bytes) -> Size | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while True:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 if marker in STANDALONE else 2 + struct.unpack_from(">H", data, at + 2)[0]


def webp_size(data: bytes) -> Size | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return width, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def bmp_size(data: bytes) -> Size | None:
    if not data.startswith(b"BM"):
        return None
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2's header
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def tiff_size(data: bytes) -> Size | None:
    order = BYTE_ORDERS.get(data[:4])
    if order is None:
        return None
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    found = {}
    for index in range(count):
        tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * index)
        if tag in (WIDTH, HEIGHT):
            short_or_long = "H" if kind == 3 else "I"
            (found[tag],) = struct.unpack_from(order + short_or_long, data, at + 2 + 12 * index + 8)
    return (found[WIDTH], found[HEIGHT]) if len(found) == 2 else None


READERS: tuple[Callable[[bytes], Size | None], ...] = (
    png_size,
    jpeg_size,
    webp_size,
    bmp_size,
    tiff_size,
)
