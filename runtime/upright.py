"""Pictures the way they are shown: phones store them on their side, and tell how to turn them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Turn:
    """By quarter turns, or mirrored: rows become columns, then either may be turned round."""

    swaps: bool = False
    flips_rows: bool = False
    flips_columns: bool = False

    @classmethod
    def of(cls, matrix: list[int] | None) -> Turn:
        """What a display matrix (nine numbers, row by row) says; of one that turns by anything
        else none.
        """
        if matrix is None:
            return cls()
        across_x, across_y, _, down_x, down_y = matrix[:5]
        if across_y == down_x == 0:
            return cls(False, down_y < 0, across_x < 0)
        if across_x == down_y == 0:
            return cls(True, across_y < 0, down_x < 0)
        return cls()

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Of a picture (width, height) when it is turned."""
        return (height, width) if self.swaps else (width, height)

    def __call__(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """``[height, width, 3]``, turned; the same pixels where there is nothing to turn."""
        if self == AS_STORED:
            return pixels
        turned = pixels.swapaxes(0, 1) if self.swaps else pixels
        turned = turned[::-1] if self.flips_rows else turned
        return np.ascontiguousarray(turned[:, ::-1] if self.flips_columns else turned)


AS_STORED = Turn()
