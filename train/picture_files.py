"""Picture files: what a folder holds, and a file as RGB pixels or an error that names it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import to_8_bits

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, sorted by name.

    Raises ``DeblurError`` for what is no folder, or one without pictures.
    """
    pictures = [path for path in list_files(folder) if path.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise DeblurError(
            folder,
            expected=f"pictures ({', '.join(PICTURE_SUFFIXES)})",
            found="none",
            remedy="name a folder that holds pictures",
        )
    return pictures


def list_files(folder: Path) -> list[Path]:
    """The files in a folder, sorted by name, hidden ones left out: archives made on
    a Mac bring a ``._picture.png`` with every picture.
    """
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file())
    except OSError as error:
        raise DeblurError(
            folder,
            expected="a folder of pictures",
            found="none" if not folder.is_dir() else (error.strerror or str(error)).lower(),
            remedy="check the path",
        ) from None


def read_picture(path: Path) -> Tensor:
    """A picture as uint8 ``[3, H, W]``, RGB, upright as its EXIF says. Grey is
    repeated, 16 bits are rounded to 8, and alpha is left out.

    Raises ``DeblurError`` for a file that is missing, damaged or cut off.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise broken(path, (error.strerror or str(error)).lower()) from None
    if is_cut_off(data):
        raise broken(path, "a file that does not decode: its end is missing")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # an empty file, or more pixels than OpenCV takes
        bgr = None
    if bgr is None:
        raise broken(path, "a file that does not decode")
    if bgr.dtype not in (np.uint8, np.uint16):
        raise broken(path, f"one of {bgr.dtype}")
    return torch.from_numpy(np.stack(cv2.split(to_8_bits(bgr))[::-1]))


def broken(path: Path, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected="a picture of 8 or 16 bits",
        found=found,
        remedy="remove it from the folder, or put a whole copy in its place",
    )


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG lacks its end-of-image marker, or a PNG its last chunk: older
    OpenCV fills the missing part of a JPEG with grey and says nothing.
    """
    if data.startswith(b"\x89PNG"):
        return b"IEND\xaeB`\x82" not in data  # the chunk's name and its checksum
    if not data.startswith(b"\xff\xd8"):
        return False
    # Thumbnails in the segments before the picture have end markers of their own.
    place = 2
    while data[place : place + 1] == b"\xff":
        marker = data[place + 1 : place + 2]
        if marker == b"\xda":
            return b"\xff\xd9" not in data[place:]
        fill = marker == b"\xff"
        place += 1 if fill else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def shrink(picture: Tensor, largest: int = 2048, smallest: int = 0) -> Tensor:
    """At most ``largest`` pixels a side: beyond it lenses show, not edges. A panorama's shorter
    side keeps ``smallest``, where it has them.
    """
    sides = picture.shape[-2:]
    return scale_picture(picture, min(1.0, max(largest / max(sides), smallest / min(sides))))


def scale_picture(picture: Tensor, scale: float) -> Tensor:
    """uint8 ``[3, H, W]`` at ``scale`` of its size: the mean over each new pixel's area."""
    height, width = picture.shape[-2:]
    return fit_picture(picture, max(1, round(height * scale)), max(1, round(width * scale)))


def fit_picture(picture: Tensor, height: int, width: int) -> Tensor:
    """uint8 ``[3, H, W]`` at another size, the ratio of its sides given up where need be."""
    before = picture.shape[-2:]
    if before == (height, width):
        return picture
    smaller = height <= before[0] and width <= before[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    planes = [cv2.resize(p, (width, height), interpolation=how) for p in picture.cpu().numpy()]
    return torch.from_numpy(np.stack(planes)).to(picture.device)
