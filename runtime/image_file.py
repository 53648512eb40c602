"""Image files: written whole or not at all, and 16 bits brought to 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole


def save_image(target: Path, bgr: NDArray[Any]) -> None:
    """Write an image file atomically; JPEG at 97 of 100.

    Raises :class:`DeblurError` where there is no room or no permission, and for a picture
    that is too large for what the suffix names.
    """
    jpeg = target.suffix.lower() in (".jpg", ".jpeg")
    options = [cv2.IMWRITE_JPEG_QUALITY, 97] if jpeg else []
    is_whole, data = cv2.imencode(target.suffix, np.ascontiguousarray(bgr), options)
    if not is_whole:
        raise DeblurError(
            target,
            expected=f"a picture that {target.suffix} holds",
            found=f"one of {bgr.shape[1]}x{bgr.shape[0]}",
            remedy=f"write {target.with_suffix('.png').name}",
        )
    # A picture can be made again: waiting for the disk after each would cost more.
    write_whole(target, data.tobytes(), durable=False)


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 or uint16 pixels as uint8, rounded: 65535 is 255, and 128 is half a level."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
