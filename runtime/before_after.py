"""A picture of what deblurring did: the frame that it changed most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.image_file import save_image
from deblurgan.runtime.upright import AS_STORED

DETAIL = 0.28  # of the frame's width, shown enlarged under it
LINE = 4
PAPER = (255, 255, 255)


class BeforeAfter:
    """Watches frames go by and remembers the one that changed most."""

    def __init__(self) -> None:
        self.most = -1.0
        self.pair: tuple[Frames, Frames] | None = None
        self.turn = AS_STORED

    def watch(self, blurred: Frames, sharp: Frames) -> None:
        change = float(np.abs(blurred[::8, ::8].astype(np.int16) - sharp[::8, ::8]).mean())
        if change > self.most:
            self.most, self.pair = change, (blurred, sharp)

    def save(self, path: Path) -> None:
        """Before on the left, after on the right; the most changed detail below."""
        if self.pair is not None:
            save_image(path, compose(*map(self.turn, self.pair))[:, :, ::-1])


def compose(blurred: Frames, sharp: Frames) -> Frames:
    """The before/after picture, RGB uint8."""
    height, width = blurred.shape[:2]
    box_width, box_height = max(8, round(width * DETAIL)), max(8, round(height * DETAIL))
    top, left = most_changed(blurred, sharp, box_height, box_width)
    columns = []
    for name, frame in (("before", blurred), ("after", sharp)):
        detail: NDArray[Any] = frame[top : top + box_height, left : left + box_width]
        detail = cv2.resize(
            detail, (width, round(width * box_height / box_width)), interpolation=cv2.INTER_CUBIC
        )
        whole = frame.copy()
        cv2.rectangle(whole, (left, top), (left + box_width, top + box_height), PAPER, 2)
        columns.append(np.vstack([label(whole, name), paper(LINE, width), detail]))
    return np.hstack([columns[0], paper(columns[0].shape[0], LINE), columns[1]])


def most_changed(
    blurred: Frames, sharp: Frames, box_height: int, box_width: int
) -> tuple[int, int]:
    """Top and left of the box in which the frames differ most."""
    change = np.abs(blurred.astype(np.float32) - sharp).mean(2)
    inside = cv2.boxFilter(
        change, -1, (box_width, box_height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    inside = inside[: change.shape[0] - box_height + 1, : change.shape[1] - box_width + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)


def label(frame: Frames, text: str) -> Frames:
    size = max(0.5, frame.shape[1] / 1000)
    place = (round(12 * size), round(32 * size))
    for colour, thickness in (((0, 0, 0), 4), (PAPER, 1)):
        cv2.putText(
            frame,
            text,
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            size,
            colour,
            max(1, round(thickness * size)),
            cv2.LINE_AA,
        )
    return frame


def paper(height: int, width: int) -> NDArray[Any]:
    return np.full((height, width, 3), 255, np.uint8)
