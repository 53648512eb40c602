"""Image files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image, to_8_bits


def test_a_png_holds_the_pixels_and_a_jpeg_nearly(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    for name, difference in (("a.png", 0), ("a.JPG", 4)):
        save_image(tmp_path / name, photo[:, :, ::-1])
        read = cv2.imread(str(tmp_path / name))
        assert np.abs(read[:, :, ::-1].astype(int) - photo).mean() <= difference
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.JPG", "a.png"]


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "a.png"
    save_image(target, photo)
    before = target.read_bytes()
    if step == "write":
        monkeypatch.setattr(Path, "open", full)
    else:
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DeblurError, match=r"a\.png: .*found no space left on device"):
        save_image(target, 255 - photo)
    monkeypatch.undo()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_every_level_of_16_bits_is_rounded() -> None:
    levels = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_8_bits(levels), np.rint(levels * (255 / 65535)).astype(np.uint8))
    small = np.arange(256, dtype=np.uint8)
    assert to_8_bits(small) is small
