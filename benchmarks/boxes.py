"""Boxes around objects: how much they overlap, and which of many are one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Detections:
    """Objects found in a picture, best score first: ``boxes`` float ``[n, 4]``, left, top,
    right and bottom in the picture's pixels; ``scores`` ``[n]`` from 0 to 1; ``classes``
    ``[n]``, their numbers.
    """

    boxes: Numbers
    scores: Numbers
    classes: Numbers

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Numbers) -> Detections:
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen])

    def above(self, score: float) -> Detections:
        """Those that score at least that."""
        return self[self.scores >= score]


def intersection_over_union(boxes: Numbers, others: Numbers) -> Numbers:
    """``[n, m]`` of ``[n, 4]`` and ``[m, 4]``; boxes without area overlap nothing."""
    start = np.maximum(boxes[:, None, :2], others[None, :, :2])
    end = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(end - start, 0, None).prod(-1)
    union = areas(boxes)[:, None] + areas(others)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def areas(boxes: Numbers) -> Numbers:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)


def suppress(found: Detections, overlap: float) -> Detections:
    """Non-maximum suppression, class by class: of boxes of one class with an IoU of more
    than ``overlap`` the one with the best score stays.
    """
    found = found[np.argsort(-found.scores, kind="stable")]
    ious = intersection_over_union(found.boxes, found.boxes)
    rivals = (ious > overlap) & (found.classes[:, None] == found.classes[None])
    kept: list[int] = []
    gone = np.zeros(len(found), bool)
    for index in range(len(found)):
        if not gone[index]:
            kept.append(index)
            gone |= rivals[index]
    return found[np.array(kept, int)]
