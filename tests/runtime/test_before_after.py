from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.before_after import BeforeAfter, compose, most_changed


def test_the_box_stands_where_the_frames_differ_most(photo: NDArray[np.uint8]) -> None:
    changed = photo.copy()
    changed[60:70, 100:110] ^= 128
    top, left = most_changed(photo, changed, 20, 30)
    assert 50 <= top <= 60
    assert 80 <= left <= 100


def test_the_frame_that_changed_most_is_kept(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    picture = BeforeAfter()
    for change in (3, 40, 10):
        picture.watch(photo, photo // 2 + np.uint8(change))
    assert picture.pair is not None
    most = max((3, 40, 10), key=lambda c: np.abs(photo // 2 + c - photo.astype(int)).mean())
    assert np.array_equal(picture.pair[1], photo // 2 + np.uint8(most))
    picture.save(tmp_path / "look.png")
    saved = cv2.imread(str(tmp_path / "look.png"))
    assert np.array_equal(saved[:, :, ::-1], compose(*picture.pair))


def test_frames_themselves_are_not_drawn_on(photo: NDArray[np.uint8]) -> None:
    before = photo.copy()
    compose(photo, 255 - photo)
    assert np.array_equal(photo, before)
