"""Contact sheets: what a generator does to some pictures, at a glance.

A row for each pair: blurred, deblurred, sharp, and two blur kernels estimated
from the pictures. The first is the blur that is there, the second what is left
of it after deblurring: the nearer to a dot, the better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deblurgan.train.evaluation import EvaluationPair
from deblurgan.train.metrics import grey, psnr

Pixels = NDArray[np.uint8]

DETAIL_WIDTH, DETAIL_HEIGHT = 400, 320  # of larger pictures only this much is shown
SMALLEST_CELL = 232  # of a row's height and width, for captions
GAP, STRIP, FONT_SIZE = 8, 26, 0.45  # pixels, pixels, OpenCV's measure
BACKGROUND, INK, FAINT = 24, 235, 150  # levels of grey

KERNEL_SIDE = 65  # pixels
TILE = 192
# Of the mean power: below it a frequency says more about noise than about the blur.
REGULARISATION = 0.05
KERNEL_GAMMA = 0.6  # shows a kernel's faint tail beside its peak


def contact_sheet(pairs: Sequence[EvaluationPair], restored: Sequence[Tensor]) -> Tensor:
    """Uint8 ``[3, H, W]`` from one or more pairs and what became of the blurred
    pictures. Of large pictures the part is shown that the blur changed most, pixel
    for pixel; PSNR is of the whole picture.
    """
    sizes = [pair.sharp.shape[-2:] for pair in pairs]
    height = max(SMALLEST_CELL, *(min(h, DETAIL_HEIGHT) for h, _ in sizes))
    width = max(SMALLEST_CELL, *(min(w, DETAIL_WIDTH) for _, w in sizes))
    rows = [row(pair, made, height, width) for pair, made in zip(pairs, restored, strict=True)]
    sheet = np.pad(np.vstack(rows), ((0, GAP), (0, GAP), (0, 0)), constant_values=BACKGROUND)
    return torch.from_numpy(sheet).permute(2, 0, 1).contiguous()


def row(pair: EvaluationPair, restored: Tensor, height: int, width: int) -> Pixels:
    """One pair's cells, captions above them, with a gap to the left and above."""
    top, left = most_blurred(pair, height, width)
    blurred, made, sharp = (
        picture[:, top : top + height, left : left + width]
        for picture in (pair.blurred, restored, pair.sharp)
    )
    before, after = psnr(pair.blurred, pair.sharp), psnr(restored, pair.sharp)
    length = "" if pair.length is None else f"{pair.length:g} px, "
    gain = "" if after == before else f" ({after - before:+.2f})"
    side = (height - GAP) // 2
    kernels = np.vstack(
        [
            draw_kernel(estimate_kernel(blurred, sharp), side, "blur"),
            flat(height - 2 * side, side),
            draw_kernel(estimate_kernel(made, sharp), side, "left of it"),
        ]
    )
    cells = (
        (frame(blurred, height, width), f"blurred: {length}{before:.2f} dB"),
        (frame(made, height, width), f"deblurred: {after:.2f} dB{gain}"),
        (frame(sharp, height, width), f"sharp: {pair.name}"),
        (kernels, "kernels"),
    )
    return np.hstack([under_caption(cell, text) for cell, text in cells])


def estimate_kernel(blurred: Tensor, sharp: Tensor, side: int = KERNEL_SIDE) -> Tensor:
    """The kernel that makes ``blurred`` of ``sharp`` by convolution, as far as one
    does: float ``[side, side]``, zero shift in the middle, about 1 in sum.

    Wiener's regularised division of the spectra, over the gradients of the grey
    pictures, which are about equally strong at all frequencies; the spectra are
    gathered over overlapping tiles, which averages noise and content away.
    ``side`` is odd; pictures of fewer pixels a side leave the outer part zero.
    """
    tile = min(TILE, *sharp.shape[-2:])
    window = torch.hann_window(tile, periodic=False)
    window = window[:, None] * window
    cross, power = torch.zeros(()), torch.zeros(())
    for y, x in zip(gradients(blurred), gradients(sharp), strict=True):
        spectra_y = torch.fft.rfft2(tiles(y, tile) * window)
        spectra_x = torch.fft.rfft2(tiles(x, tile) * window)
        cross = cross + (spectra_x.conj() * spectra_y).sum((0, 1))
        power = power + spectra_x.abs().square().sum((0, 1))
    # Two pictures without any content have no kernel, rather than one of NaN.
    floor = (REGULARISATION * power.mean()).clamp(min=1e-12)
    kernel = torch.fft.fftshift(torch.fft.irfft2(cross / (power + floor), s=(tile, tile)))
    middle, reach = tile // 2, min(side // 2, (tile - 1) // 2)
    kernel = kernel[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    outside = side // 2 - reach
    return F.pad(kernel, (outside,) * 4)


def gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and downward neighbour, float, of one size."""
    levels = F.pad(grey(picture).float()[None], (0, 1, 0, 1), mode="replicate")[0]
    return levels[:-1, 1:] - levels[:-1, :-1], levels[1:, :-1] - levels[:-1, :-1]


def tiles(plane: Tensor, side: int) -> Tensor:
    """Tiles ``[rows, columns, side, side]`` that overlap by half or more."""
    height, width = plane.shape
    tops, lefts = (
        np.linspace(0, n - side, max(1, -(-2 * (n - side) // side) + 1)).astype(int)
        for n in (height, width)
    )
    return torch.stack(
        [
            torch.stack([plane[top : top + side, left : left + side] for left in lefts])
            for top in tops
        ]
    )


def most_blurred(pair: EvaluationPair, height: int, width: int) -> tuple[int, int]:
    """Top and left of the box in which the blur changed most."""
    change = (pair.blurred.float() - pair.sharp.float()).abs().mean(0).numpy()
    height, width = min(height, change.shape[0]), min(width, change.shape[1])
    inside = cv2.boxFilter(
        change, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    inside = inside[: change.shape[0] - height + 1, : change.shape[1] - width + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)


def draw_kernel(kernel: Tensor, side: int, name: str) -> Pixels:
    """A kernel, ``side`` pixels a side, its largest value white; black where nothing
    stands out from the noise.
    """
    band = len(kernel) // 8
    noise = float(torch.cat([kernel[:band], kernel[-band:]]).std())
    black, white = 3 * noise, max(8 * noise, float(kernel.max()), 1e-12)
    light = ((kernel - black) / (white - black)).clamp(0, 1) ** KERNEL_GAMMA
    enlarged = cv2.resize(light.numpy(), (side, side), interpolation=cv2.INTER_CUBIC)
    pixels = (np.clip(enlarged, 0, 1) * 255).round().astype(np.uint8)
    drawn = np.ascontiguousarray(np.repeat(pixels[:, :, None], 3, 2))
    write(drawn, name, 6, 16, FAINT)
    return drawn


def frame(picture: Tensor, height: int, width: int) -> Pixels:
    """A picture in the middle of a cell; a small one as many times as large as fits."""
    cell = flat(height, width)
    pixels = picture.permute(1, 2, 0).numpy()
    times = min(height // pixels.shape[0], width // pixels.shape[1])
    pixels = pixels.repeat(times, 0).repeat(times, 1)
    top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    cell[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return cell


def under_caption(cell: Pixels, text: str) -> Pixels:
    text = text.encode(errors="replace").decode()  # file names may be no Unicode
    strip = flat(STRIP, cell.shape[1])
    write(strip, shorten(text, cell.shape[1]), 0, STRIP - 8, INK)
    cell = np.vstack([flat(GAP, cell.shape[1]), strip, cell])
    return np.hstack([flat(cell.shape[0], GAP), cell])


def shorten(text: str, width: int) -> str:
    """The text, without its middle where it is wider than that many pixels."""
    shown, kept = text, len(text)
    while kept > 2 and text_width(shown) > width:
        kept -= 1
        shown = text[: kept // 2] + "..." + text[-(kept - kept // 2) :]
    return shown


def text_width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, 1)
    return int(width)


def write(pixels: Pixels, text: str, left: int, baseline: int, level: int) -> None:
    cv2.putText(
        pixels, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, (level,) * 3, 1,
        cv2.LINE_AA,
    )  # fmt: skip


def flat(height: int, width: int) -> NDArray[Any]:
    return np.full((height, width, 3), BACKGROUND, np.uint8)
