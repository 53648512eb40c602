"""A picture's size, read off its header, agrees with what the decoder makes of it."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.picture_size import has_several, read_size
from deblurgan.runtime.pictures import read_picture

KINDS: list[tuple[str, list[int]]] = [
    (".png", []),
    (".jpg", []),
    (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
    (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),  # lossless
    (".bmp", []),
    (".tiff", []),
]


@given(st.integers(1, 400), st.integers(1, 300), st.sampled_from(KINDS), st.booleans())
def test_every_kind_tells_its_size(
    width: int, height: int, kind: tuple[str, list[int]], alpha: bool
) -> None:
    suffix, options = kind
    channels = 4 if alpha and suffix in (".png", ".webp", ".tiff") else 3
    picture = np.full((height, width, channels), 90, np.uint8)
    data = cv2.imencode(suffix, picture, options)[1].tobytes()
    assert read_size(data) == (width, height)
    assert not has_several(data)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_animations_and_pages_are_told_and_said_to_be_left_out(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"several{suffix}"
    frames = [np.full((40, 60, 3), level, np.uint8) for level in (10, 90)]
    if suffix == ".tiff":
        assert cv2.imwritemulti(str(path), frames)
    else:
        animation = cv2.Animation()
        animation.frames, animation.durations = frames, np.array([100, 100], np.int32)
        assert cv2.imwriteanimation(str(path), animation)
    assert has_several(path.read_bytes())
    assert "all but the first" in read_picture(path, tmp_path / "out.png").left_out[-1]


@given(st.sampled_from(KINDS), st.data())
def test_no_damage_makes_it_crash(kind: tuple[str, list[int]], data: st.DataObject) -> None:
    content = bytearray(cv2.imencode(kind[0], np.zeros((40, 60, 3), np.uint8), kind[1])[1])
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, min(len(content), 60) - 1))] = data.draw(
            st.integers(0, 255)
        )
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))])
    read_size(damaged)
    has_several(damaged)


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a\x10\x00\x10\x00"])
def test_what_tells_none(content: bytes) -> None:
    assert read_size(content) is None


def png_that_says(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + end

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def bmp_that_says(width: int, height: int) -> bytes:
    return b"BM" + struct.pack(
        "<IHHIIiiHHIIIIII", 154, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6
    )


@pytest.mark.parametrize("write", [png_that_says, bmp_that_says])
@pytest.mark.parametrize("size", [(60_000, 60_000), (2_000_000, 10), (31_000, 31_000)])
def test_a_size_beyond_reason_is_said_and_nothing_is_decoded(
    write: Callable[[int, int], bytes],
    size: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deblurgan.runtime.pictures.free_memory", lambda: 4 << 30)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    path = tmp_path / "in.png"
    path.write_bytes(write(*size))
    with pytest.raises(DeblurError, match=f"fits into the memory, found {size[0]}x{size[1]}"):
        read_picture(path, path)


def test_a_picture_without_pixels_is_said(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(png_that_says(0, 5))
    with pytest.raises(DeblurError, match="a file that does not decode"):
        read_picture(path, path)


def test_less_data_than_told_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(png_that_says(9_000, 2))
    with contextlib.suppress(DeblurError):
        assert read_picture(path, path).pixels.shape == (2, 9_000, 3)
