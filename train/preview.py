"""A picture of synthetic blur: kernels, and what they make of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train.blur import KERNEL_SIZE
from deblurgan.train.exposures import tracks
from deblurgan.train.layouts import Source
from deblurgan.train.synthesis import Method, PairPlan, plan_pairs

Pixels = NDArray[Any]  # RGB uint8 [H, W, 3]

HEIGHT, WIDTH = 288, 384  # of what is shown of a picture, at its own scale
GAP, MARGIN, CAPTION = 10, 24, 26
PAPER, INK, FAINT = (250, 249, 246), (40, 40, 44), (120, 120, 126)
NIGHT, GLOW = (16, 18, 24), (255, 214, 150)
# Of three rows and three columns: the corners and the centre.
PLACES = ((0, 0), (0, 2), (1, 1), (2, 0), (2, 2))


def preview(photos: Source, *, seed: int, method: Method = "both", rows: int = 4) -> Tensor:
    """The first ``rows`` pairs of a set, uint8 ``[3, H, W]``: the kernel (what a point
    of light becomes), the sharp picture's centre and the blurred one's. Camera shake
    has another kernel in each place: those of the centre and the corners are shown;
    of a clip's frames, how these places moved.
    """
    plans = plan_pairs(photos, count=rows, seed=seed, method=method)
    lines = [heading(("motion" if method == "frames" else "kernel, enlarged", "sharp", "blurred"))]
    for plan in plans:
        blurred, sharp = plan.make()
        cells = [trace(plan, sharp), centre(sharp), centre(blurred)]
        lines += [in_a_row(cells), caption(describe(plan))]
    page = np.vstack(lines)
    page = cv2.copyMakeBorder(
        page, MARGIN, MARGIN - GAP, MARGIN, MARGIN, cv2.BORDER_CONSTANT, value=PAPER
    )
    return torch.from_numpy(page).permute(2, 0, 1).contiguous()


def describe(plan: PairPlan) -> str:
    if plan.method == "frames":
        return f"{plan.index:06}   frames   {plan.clip.name}"
    blur = "camera shake" if plan.is_shaken else "trajectory"
    return f"{plan.index:06}   {blur}   {plan.file.name}"


def trace(plan: PairPlan, sharp: Tensor) -> Pixels:
    """What a point of light becomes, or five of them."""
    if plan.method == "frames":
        return motion_panel(plan.frames())
    return shake_panel(plan, sharp) if plan.is_shaken else kernel_panel(plan.kernel().flip(0, 1))


def kernel_panel(kernel: Tensor) -> Pixels:
    """A kernel ``[KERNEL_SIZE, KERNEL_SIZE]`` as light in the dark, enlarged."""
    panel = night(HEIGHT, WIDTH)
    place(panel, glow(kernel.numpy(), 4), HEIGHT // 2, WIDTH // 2)
    return panel


def shake_panel(plan: PairPlan, sharp: Tensor) -> Pixels:
    """What shake makes of five dots: at the centre and near the corners of the picture."""
    height, width = sharp.shape[-2:]
    half = KERNEL_SIZE // 2
    panel = night(HEIGHT, WIDTH)
    for (column, row), (i, j) in zip(five_places(height, width), PLACES, strict=True):
        # One dot at a time: in a small picture their traces would overlap.
        dots = torch.zeros(1, 3, height, width)
        dots[..., row, column] = 1
        light = plan.blur(dots)[0, 0]
        top, left = max(0, row - half), max(0, column - half)
        spot = glow(light[top : top + KERNEL_SIZE, left : left + KERNEL_SIZE].numpy(), 3)
        place(panel, spot, HEIGHT * (1 + 2 * i) // 6, WIDTH * (1 + 2 * j) // 6)
    return panel


def motion_panel(frames: Sequence[Tensor]) -> Pixels:
    """Where the centre and four places near the corners went, by the optical flow."""
    height, width = frames[0].shape[-2:]
    paths = tracks(frames, five_places(height, width)).swapaxes(0, 1)
    panel = night(HEIGHT, WIDTH)
    for path, (i, j) in zip(paths, PLACES, strict=True):
        spot = np.zeros((KERNEL_SIZE, KERNEL_SIZE), np.float32)
        points = path - path[len(path) // 2] + KERNEL_SIZE / 2
        # In sixteenths of a pixel, as OpenCV takes them.
        cv2.polylines(spot, [(points * 16).round().astype(np.int32)], False, 1, 1, cv2.LINE_AA, 4)
        place(panel, glow(spot, 3), HEIGHT * (1 + 2 * i) // 6, WIDTH * (1 + 2 * j) // 6)
    return panel


def five_places(height: int, width: int) -> list[tuple[int, int]]:
    """Columns and rows of the places that ``PLACES`` names, in its order."""
    half = KERNEL_SIZE // 2
    rows = [min(half, height // 2), height // 2, height - 1 - min(half, height // 2)]
    columns = [min(half, width // 2), width // 2, width - 1 - min(half, width // 2)]
    return [(columns[j], rows[i]) for i, j in PLACES]


def glow(light: Pixels, scale: int) -> Pixels:
    """Light of any strength, the faint parts lifted, ``scale`` times as large."""
    light = (light / max(float(light.max()), 1e-9)) ** (1 / 2.2)
    light = cv2.resize(light, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return (np.clip(light, 0, 1)[..., None] * (np.subtract(GLOW, NIGHT))).round()


def place(panel: Pixels, spot: Pixels, row: int, column: int) -> None:
    """Add a spot to a panel, its centre at ``row`` and ``column``."""
    top, left = row - spot.shape[0] // 2, column - spot.shape[1] // 2
    rows = slice(max(0, top), min(panel.shape[0], top + spot.shape[0]))
    columns = slice(max(0, left), min(panel.shape[1], left + spot.shape[1]))
    seen = spot[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    panel[rows, columns] = np.clip(panel[rows, columns] + seen, 0, 255)


def centre(picture: Tensor) -> Pixels:
    """The middle of uint8 ``[3, H, W]`` on a cell of paper."""
    height, width = picture.shape[-2:]
    top, left = max(0, (height - HEIGHT) // 2), max(0, (width - WIDTH) // 2)
    part = picture[:, top : top + HEIGHT, left : left + WIDTH].permute(1, 2, 0).numpy()
    cell = sheet(HEIGHT, WIDTH)
    top, left = (HEIGHT - part.shape[0]) // 2, (WIDTH - part.shape[1]) // 2
    cell[top : top + part.shape[0], left : left + part.shape[1]] = part
    return cell


def in_a_row(cells: Sequence[Pixels]) -> Pixels:
    gap = sheet(HEIGHT, GAP)
    return np.hstack([cells[0], *(part for cell in cells[1:] for part in (gap, cell))])


def heading(names: Sequence[str]) -> Pixels:
    line = sheet(CAPTION, len(names) * (WIDTH + GAP) - GAP)
    for index, name in enumerate(names):
        write(line, name, index * (WIDTH + GAP), INK)
    return line


def caption(text: str) -> Pixels:
    line = sheet(CAPTION + GAP, 3 * (WIDTH + GAP) - GAP)
    write(line, text, 0, FAINT)
    return line


def write(line: Pixels, text: str, left: int, colour: tuple[int, int, int]) -> None:
    text = text.encode("ascii", "replace").decode()  # OpenCV's font has no more
    cv2.putText(line, text, (left, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


def sheet(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), PAPER, np.uint8)


def night(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), NIGHT, np.uint8)
