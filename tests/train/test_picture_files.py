"""Pictures are read whatever they are, and what is not whole is named."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import picture_files
from deblurgan.train.picture_files import (
    fit_picture,
    is_cut_off,
    list_pictures,
    read_picture,
    scale_picture,
    shrink,
)

FORMATS = {
    "png": [],
    "jpg": [],
    "progressive.jpg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "webp": [],
    "bmp": [],
    "tif": [],
}


def encode(name: str, pixels: NDArray[np.uint8]) -> bytes:
    suffix = "." + name.rpartition(".")[2]
    return cv2.imencode(suffix, np.ascontiguousarray(pixels[:, :, ::-1]), FORMATS[name])[
        1
    ].tobytes()


# Listing


def test_pictures_are_listed_by_name_and_other_files_left_out(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.tiff", "notes.txt", "d.webp", "._a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    names = [path.name for path in list_pictures(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "c.tiff", "d.webp"]


def test_a_missing_or_empty_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeblurError, match="missing: expected a folder of pictures, found none"):
        list_pictures(tmp_path / "missing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DeblurError, match=r"expected pictures \(\.jpg, .*, found none"):
        list_pictures(tmp_path)
    with pytest.raises(DeblurError, match="expected a folder"):
        list_pictures(tmp_path / "notes.txt")

    def forbidden(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(DeblurError, match="found permission denied"):
        list_pictures(tmp_path)


# Reading


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_off_is_told(
    tmp_path: Path, photo: NDArray[np.uint8], name: str, kept: float
) -> None:
    whole = encode(name, photo)
    path = tmp_path / f"broken.{name}"
    path.write_bytes(whole)
    assert read_picture(path).shape == (3, 96, 160)
    for content in (whole[: int(len(whole) * kept)], whole[:-1] if kept > 0.9 else b""):
        path.write_bytes(content)
        with pytest.raises(DeblurError, match=r"broken\..*does not decode"):
            read_picture(path)


@pytest.mark.parametrize("name", ["png", "jpg", "progressive.jpg"])
def test_a_download_that_stopped_is_told_even_where_opencv_says_nothing(
    photo: NDArray[np.uint8], name: str
) -> None:
    """Some tools fill the rest of the file with zeros; others have a thumbnail in front."""
    whole = encode(name, photo)
    assert not is_cut_off(whole)
    assert not is_cut_off(whole + b"a trailer, as phones write it")
    assert is_cut_off(whole[: len(whole) // 2] + bytes(len(whole) // 2))


def test_the_end_of_a_thumbnail_is_not_the_picture_s(photo: NDArray[np.uint8]) -> None:
    whole, thumbnail = encode("jpg", photo), encode("jpg", photo[::4, ::4])
    length = (len(thumbnail) + 2).to_bytes(2, "big")
    with_thumbnail = whole[:2] + b"\xff\xe1" + length + thumbnail + b"\xff" + whole[2:]
    assert not is_cut_off(with_thumbnail)
    assert is_cut_off(with_thumbnail[:-40])


def test_a_flipped_bit_in_a_png_is_told(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    data = bytearray(encode("png", photo))
    data[len(data) // 2] ^= 1
    path = tmp_path / "flipped.png"
    path.write_bytes(data)
    with pytest.raises(DeblurError, match=r"flipped\.png.*does not decode"):
        read_picture(path)


def test_what_is_no_picture_or_missing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "words.png"
    path.write_bytes(b"no picture")
    with pytest.raises(DeblurError, match=r"words\.png.*does not decode"):
        read_picture(path)
    with pytest.raises(DeblurError, match="found no such file"):
        read_picture(tmp_path / "missing.png")
    path = tmp_path / "float.tif"
    cv2.imwrite(str(path), np.ones((8, 8, 3), np.float32))
    with pytest.raises(DeblurError, match="of 8 or 16 bits, found one of float32"):
        read_picture(path)


def test_colour_grey_alpha_and_16_bits_become_the_same_three_planes(
    tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    bgr, grey = photo[:, :, ::-1], photo[:, :, 1]
    kinds = {
        "colour": (bgr, photo),
        "alpha": (np.dstack([bgr, grey]), photo),
        "deep": (bgr.astype(np.uint16) * 257, photo),
        "deep-alpha": (np.dstack([bgr, grey]).astype(np.uint16) * 257, photo),
        "grey": (grey, np.dstack([grey] * 3)),
        "deep-grey": (grey.astype(np.uint16) * 257, np.dstack([grey] * 3)),
    }
    for name, (stored, expected) in kinds.items():
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), stored)
        picture = read_picture(path)
        assert (picture.dtype, picture.shape) == (torch.uint8, (3, *photo.shape[:2])), name
        assert picture.is_contiguous()
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), expected), name


def test_16_bits_are_rounded_not_cut(tmp_path: Path) -> None:
    deep = np.arange(0, 65536, 7, dtype=np.uint16)[: 96 * 97].reshape(96, 97)
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), deep)
    expected = np.rint(deep.astype(np.float64) * 255 / 65535)
    assert np.array_equal(read_picture(path)[0].numpy(), expected)


def test_a_photograph_held_upright_stands_upright(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    """EXIF's orientation 6: turn by a quarter, clockwise."""
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    whole = encode("jpg", photo)
    path = tmp_path / "upright.jpg"
    path.write_bytes(
        whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]
    )
    picture = read_picture(path).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(picture - np.rot90(photo, -1)).mean() < 6


# Sizes


def test_half_the_size_is_the_mean_of_four_pixels(picture: Tensor) -> None:
    half = scale_picture(picture, 0.5)
    blocks = picture.double().reshape(3, 48, 2, 80, 2).mean((2, 4))
    assert half.shape == (3, 48, 80)
    assert (half.double() - blocks).abs().max() <= 0.5
    assert torch.equal(scale_picture(picture, 1.0), picture)


@settings(max_examples=25)
@given(height=st.integers(1, 120), width=st.integers(1, 200))
def test_a_picture_is_brought_to_any_size(height: int, width: int) -> None:
    ramp = torch.arange(160).repeat(3, 96, 1).to(torch.uint8)
    fitted = fit_picture(ramp, height, width)
    assert (fitted.dtype, fitted.shape) == (torch.uint8, (3, height, width))
    assert (fitted.int().diff(dim=-1) >= 0).all()
    assert float(fitted.double().mean()) == pytest.approx(79.5, abs=1.1)


def test_only_what_is_larger_is_shrunk(picture: Tensor) -> None:
    assert shrink(picture) is picture
    assert shrink(picture, 80).shape == (3, 48, 80)


def test_the_module_lists_what_the_runtime_reads_too() -> None:
    from deblurgan.runtime.pictures import SUFFIXES

    assert set(picture_files.PICTURE_SUFFIXES) == set(SUFFIXES)
