"""Pictures of what a detector found: every version of a picture with its boxes."""

from __future__ import annotations

import cv2
import numpy as np

from deblurgan.benchmarks.boxes import Numbers
from deblurgan.benchmarks.coco import class_name
from deblurgan.benchmarks.detection import SHARP, View
from deblurgan.train.contact_sheet import BACKGROUND, GAP, Pixels, under_caption

LARGEST = 800  # pixels of a version's longer side
Colour = tuple[int, int, int]
# RGB; told apart by people who see no red as well.
RIGHT, WRONG, MISSED = (0, 158, 115), (230, 60, 0), (255, 220, 0)
LEGEND = "green: as in the sharp picture; red: not there; yellow: missed"


def draw_detections(views: list[View], classes: int) -> Pixels:
    """RGB uint8: blurred, deblurred and sharp side by side; ``classes`` is how many the
    detector knows. In the sharp picture are the references.
    """
    references = views[-1].boxes
    cells = []
    for view in views:
        height, width = view.picture.shape[:2]
        scale = min(1.0, LARGEST / max(height, width))
        shown = (round(width * scale), round(height * scale))
        cell: Pixels = cv2.resize(view.picture, shown, interpolation=cv2.INTER_AREA).astype("u1")
        for box in references.boxes[~view.match.found] * scale:
            draw_box(cell, box, MISSED, 1)
        for index, box in enumerate(view.boxes.boxes * scale):
            colour = RIGHT if view.match.right[index] else WRONG
            draw_box(cell, box, colour, 2)
            name = class_name(int(view.boxes.classes[index]), classes)
            draw_name(cell, box, f"{name} {view.boxes.scores[index]:.2f}", colour)
        cells.append(under_caption(cell, caption(view)))
    sheet = np.hstack(cells)
    return np.pad(sheet, ((0, GAP), (0, GAP), (0, 0)), constant_values=BACKGROUND)


def caption(view: View) -> str:
    counts = view.match.counts
    if view.name == SHARP:
        return f"sharp: {counts.right} references"
    return f"{view.name}: {counts.right} right, {counts.wrong} wrong, {counts.missed} missed"


def draw_box(cell: Pixels, box: Numbers, colour: Colour, thickness: int) -> None:
    left, top, right, bottom = (round(float(n)) for n in box)
    cv2.rectangle(cell, (left, top), (right, bottom), colour, thickness)


def draw_name(cell: Pixels, box: Numbers, text: str, colour: Colour) -> None:
    """Above the box, or inside where there is no room above it."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    left = max(0, min(round(float(box[0])), cell.shape[1] - width - 4))
    bottom = max(round(float(box[1])), height + 5)
    cv2.rectangle(cell, (left, bottom - height - 5), (left + width + 4, bottom), colour, -1)
    cv2.putText(
        cell, text, (left + 2, bottom - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1,
        cv2.LINE_AA,
    )  # fmt: skip
