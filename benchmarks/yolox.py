"""Detectors of YOLOX's layout, as ONNX files run by ONNX Runtime on the processor.

The layout, which YOLOX's own ``tools/export_onnx.py`` writes by default:

- one input, float32 ``[1, 3, H, W]`` (batch may be dynamic), H and W multiples of 32:
  BGR from 0 to 255 without any normalisation, letterboxed: the picture as large as fits
  in the top left corner, its ratio kept, the rest 114;
- one output, float32 ``[1, N, 5 + classes]``: a row for each cell of the grids of
  strides 8, 16 and 32, in this order, row by row, N = HW/64 + HW/256 + HW/1024. It holds
  the box's centre x and y (cells from the cell's corner) and the logarithms of its width
  and height (in cells), all as the network gives them, not decoded; then objectness and
  the classes' probabilities, after their sigmoids.

A box's score is objectness times the probability of its likeliest class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.benchmarks.boxes import Detections, areas, suppress
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError

STRIDES = (8, 16, 32)
PADDING = 114  # level
SCORE, OVERLAP = 0.3, 0.45  # those of YOLOX's own demonstration
# e to this many cells is wider than any picture: the file has decoded its boxes itself.
LARGEST_LOGARITHM = 12.0

LAYOUT = (
    "YOLOX's layout: float32 1x3xHxW (multiples of 32) to 1xNx(5 + classes), "
    "N = HW/64 + HW/256 + HW/1024"
)
REMEDY = "write one with YOLOX's tools/export_onnx.py, without --decode_in_inference"


class Detector:
    """Finds objects in pictures. ``score`` is the least that counts, ``overlap`` the IoU
    of two boxes of one class from which on the weaker is dropped.

    Raises ``DeblurError`` for a file that is no ONNX, or not of YOLOX's layout.
    """

    def __init__(self, path: Path, *, score: float = SCORE, overlap: float = OVERLAP) -> None:
        self.path, self.score, self.overlap = path, score, overlap
        self.session = open_session(path)
        self.input, self.height, self.width = check_input(path, self.session.get_inputs())
        self.grid, self.strides = make_grid(self.height, self.width)
        self.classes: int = 0  # known from the first output on, where the file does not say
        self._check_output([output.shape for output in self.session.get_outputs()])

    def __call__(self, picture: Frames) -> Detections:
        """Objects in RGB uint8 ``[height, width, 3]``, best first."""
        canvas, scale = letterbox(picture[:, :, ::-1], self.height, self.width)
        given = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32)
        made = self.session.run(None, {self.input: given})
        self._check_output([list(output.shape) for output in made])
        found = suppress(self._decode(made[0][0]), self.overlap)
        height, width = picture.shape[:2]
        boxes = np.clip(found.boxes / scale, 0, [width, height, width, height])
        # What lies in the padding is in no picture.
        return Detections(boxes, found.scores, found.classes)[areas(boxes) > 0]

    def _decode(self, rows: NDArray[Any]) -> Detections:
        """Boxes in the canvas's pixels, of those rows that score enough."""
        classes = rows[:, 5:].argmax(1)
        scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
        chosen = scores >= self.score
        rows, scores, classes = rows[chosen].astype(np.float64), scores[chosen], classes[chosen]
        if not np.isfinite(rows).all() or (rows[:, 2:4] > LARGEST_LOGARITHM).any():
            raise DeblurError(
                self.path,
                expected="boxes as the network gives them, logarithms of their sizes",
                found="sizes beyond any picture: boxes that the file has decoded itself, perhaps",
                remedy=REMEDY,
            )
        strides = self.strides[chosen, None]
        centres = (rows[:, :2] + self.grid[chosen]) * strides
        halves = np.exp(rows[:, 2:4]) * strides / 2
        return Detections(np.hstack([centres - halves, centres + halves]), scores, classes)

    def _check_output(self, shapes: list[list[Any]]) -> None:
        """``shapes`` may hold names and None where the file leaves a number open."""
        rows = len(self.grid)
        right = len(shapes) == 1 and (not shapes[0] or len(shapes[0]) == 3)
        if right and shapes[0]:
            batch, count, width = shapes[0]
            right = all(
                not isinstance(number, int) or number == wanted
                for number, wanted in ((batch, 1), (count, rows))
            ) and (not isinstance(width, int) or width > 5)
            self.classes = width - 5 if isinstance(width, int) else self.classes
        if not right:
            raise DeblurError(
                self.path,
                expected=f"one output of 1x{rows}x(5 + classes), as {LAYOUT} has it",
                found=" and ".join("x".join(map(str, shape)) for shape in shapes),
                remedy=REMEDY,
            )


def letterbox(bgr: Frames, height: int, width: int) -> tuple[Frames, float]:
    """The picture in the top left corner of a canvas, uint8 ``[height, width, 3]``, and
    by how much it was scaled.
    """
    scale = min(height / bgr.shape[0], width / bgr.shape[1])
    inner = [max(1, int(side * scale)) for side in bgr.shape[:2]]
    canvas = np.full((height, width, 3), PADDING, np.uint8)
    canvas[: inner[0], : inner[1]] = cv2.resize(
        bgr, (inner[1], inner[0]), interpolation=cv2.INTER_LINEAR
    )
    return canvas, scale


def make_grid(height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each row's cell (x, y), ``[N, 2]``, and the stride that it is counted in, ``[N]``."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full(x.size, stride))
    return np.concatenate(cells), np.concatenate(strides)


def open_session(path: Path) -> Any:
    import onnxruntime

    if not path.is_file():
        raise DeblurError(
            path,
            expected="a detector, an ONNX file",
            found="a folder" if path.is_dir() else "nothing",
            remedy=REMEDY,
        )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, one for each way in which a file is none
        raise DeblurError(
            path,
            expected="a detector, an ONNX file",
            found=f"one that ONNX Runtime does not load: {(str(error).splitlines() or ['?'])[0]}",
            remedy=REMEDY,
        ) from None


def check_input(path: Path, inputs: list[Any]) -> tuple[str, int, int]:
    """The input's name, height and width."""
    if len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 4:
        batch, channels, height, width = inputs[0].shape
        sides = [
            n for n in (height, width) if isinstance(n, int) and n > 0 and n % STRIDES[-1] == 0
        ]
        if (not isinstance(batch, int) or batch == 1) and channels == 3 and len(sides) == 2:
            return inputs[0].name, height, width
    raise DeblurError(
        path,
        expected=LAYOUT,
        found=" and ".join(f"{i.type} {'x'.join(map(str, i.shape))}" for i in inputs) or "no input",
        remedy=REMEDY,
    )
