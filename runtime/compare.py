"""Before and after in one frame: side by side, or the left half and the right."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.upright import AS_STORED, Turn

LAYOUTS = ("side", "split")
LINE = 2
MARGIN = 0.02  # of the height, around a label
Pixels = NDArray[Any]  # uint8 or uint16, [height, width, 3]


class Comparison:
    """Puts two frames of ``width`` x ``height`` into one, which is upright; ``side`` is twice
    as wide, ``split`` shows the blurred left half and the deblurred right one.
    """

    def __init__(self, layout: str, width: int, height: int, turn: Turn = AS_STORED) -> None:
        self.turn = turn
        width, height = turn.size(width, height)
        self.size = (2 * width if layout == "side" else width, height)
        self.is_side = layout == "side"
        self.middle = self.size[0] // 2
        self.labels = [draw_label(word, height, self.middle) for word in ("before", "after")]

    def pixel_aspect(self, aspect: Fraction | None) -> Fraction | None:
        """The shape of its pixels, of frames whose pixels are of this one."""
        return 1 / aspect if aspect and self.turn.swaps else aspect

    def compose(self, before: Pixels, after: Pixels) -> Pixels:
        """Both as uint8 or both as uint16; so is the result."""
        before, after = self.turn(before), self.turn(after)
        if self.is_side:
            made = np.hstack([before, after])
        else:
            made = np.hstack([before[:, : self.middle], after[:, self.middle :]])
            made[:, self.middle - LINE // 2 : self.middle + LINE // 2] = np.iinfo(made.dtype).max
        write(made, self.labels[0], 0)
        write(made, self.labels[1], self.middle)
        return made


def check_layout(layout: str | None) -> None:
    """Raises :class:`DeblurError` for what is neither a layout nor none."""
    if layout is not None and layout not in LAYOUTS:
        raise DeblurError(
            "--compare",
            expected=" or ".join(LAYOUTS),
            found=layout,
            remedy="write it like --compare side",
        )


def draw_label(word: str, height: int, width: int) -> NDArray[np.uint8]:
    """White letters on black in a box of its own, small enough for both sides."""
    scale = max(0.35, height / 900)
    thickness = max(1, round(scale * 1.5))
    (wide, high), below = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    pad = max(2, round(MARGIN * height / 2))
    box = np.zeros((high + below + 2 * pad, wide + 2 * pad), np.uint8)
    place = (pad, pad + high)
    cv2.putText(
        box, word, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA
    )  # fmt: skip
    return box[:height, :width]


def write(made: Pixels, label: NDArray[np.uint8], left: int) -> None:
    rows, columns = label.shape
    most = np.iinfo(made.dtype).max
    made[:rows, left : left + columns] = (label.astype(np.uint32) * most // 255)[..., None]
