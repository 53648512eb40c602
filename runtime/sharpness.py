"""How blurred a frame is, measured on the frame alone, and which frames are sharp already.

An edge is less steep in a blurred picture, but how steep it was nobody knows. How much of
its slope is lost when it is blurred *once more* does tell: a sharp edge loses much, one
that is wide already loses little (Zhuo and Sim 2011, "Defocus map estimation from a single
image"). For a step edge the ratio of the slopes at two scales gives the Gaussian blur that
it has, in pixels, whatever its contrast. Blur of an even motion over L pixels is like a
Gaussian of 0.29 L.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.contract import Frames

# Sharp below the one, until above the other. Measured with measure_blur, as percentiles, and
# the share of pictures below each bar:
#
#                                           n     0     5    50    95  < 1.0  < 1.1
#   sharp: Kodak and Urban100              48  0.53  0.67  0.84  1.24   77 %   85 %
#   - with noise of 5 levels               48  0.56  0.65  0.85  1.19   79 %   85 %
#   - as JPEG of quality 50                48  0.61  0.65  0.86  1.26   73 %   83 %
#   blurred over 3 or 4 pixels             24  0.87  0.98  1.21  1.59    8 %   25 %
#   blurred over 5 to 32 pixels, GoPro's
#   blurred frames, shaken photographs    121  1.14  1.33  1.84  3.43    0 %    0 %
#   - with noise of 5 levels              121  1.14  1.34  1.78  3.01    0 %    0 %
#   - as JPEG of quality 50               121  1.15  1.33  1.83  3.15    0 %    0 %
#
# The upper bar is the highest that lets no visibly blurred picture through, noise or not.
# The lower one is as far below as frames of real clips are from the one before, 19 times
# in 20.
SHARP, BLURRED = 1.0, 1.1

# Windows at the frame's own scale, as a blur of some pixels does not show in a smaller
# picture; so few that a frame of any size takes as long.
WINDOW = 96  # pixels a side
ACROSS, DOWN = 6, 4
BORDER = 6  # pixels of a window that its neighbour in memory bleeds into

FINE, COARSE = 1.0, 1.5  # the scales, as sigmas in pixels
DIAGONAL = math.sqrt(0.5)
DIRECTIONS = ((1.0, 0.0), (0.0, 1.0), (DIAGONAL, DIAGONAL), (DIAGONAL, -DIAGONAL))
# In levels over two pixels at the coarse scale, where noise of 5 levels leaves 0.9.
FAINTEST = 6.0
STEEP = 0.7  # of the steepest place of the window; less steep ones may be shading
FEWEST = 20  # places that make an edge

WIDEST = 9.0  # pixels; what is wider looks the same at both scales
TELLING = 0.1  # the share of windows that has to show edges
# What lies before or behind the subject is softer than it in most sharp pictures.
SOFTEST_QUARTER = 1.4


class SharpFrames:
    """Says of a clip's frames, one after the other, whether they are sharp already.

    A frame has to be clearly sharp (``sharp``) before frames are kept, and then clearly
    blurred (``blurred``) before they no longer are, so that what lies between does not
    change from frame to frame: both as :func:`measure_blur` has it, in pixels. ``kept``
    counts the sharp ones of ``total``.
    """

    def __init__(self, sharp: float = SHARP, blurred: float = BLURRED) -> None:
        self.sharp, self.blurred = sharp, blurred
        self.kept = self.total = 0
        self._keeping = False

    def keeps(self, frame: Frames) -> bool:
        """Whether the next frame, uint8 RGB ``[height, width, 3]``, may pass as it is."""
        blur = measure_blur(frame)
        self._keeping = blur < (self.blurred if self._keeping else self.sharp)
        self.total += 1
        self.kept += self._keeping
        return self._keeping

    def restart(self) -> None:
        """Decide about the next frame as about the first."""
        self._keeping = False

    @property
    def share(self) -> float:
        """Of frames kept, from 0 to 1; 0 before the first."""
        return self.kept / self.total if self.total else 0.0


def measure_blur(frame: Frames) -> float:
    """The blur of a uint8 RGB frame ``[height, width, 3]``, in pixels: about the sigma of
    the Gaussian that would make its edges as wide, a fifth to a third more as edges are
    measured over some width. Around 0.8 for sharp pictures, at most 9.

    Each window of the frame has its edges' width in the direction where they are widest,
    as motion blurs across itself only. The frame has the median of its windows, or more
    where a quarter of them is much softer. Infinite where next to nothing in the frame
    shows an edge: when it is flat, or smaller than 20 pixels or so.
    """
    widths = edge_widths(cut_windows(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)))
    told = widths[np.isfinite(widths)]
    if told.size == 0 or told.size < TELLING * widths.size:
        return math.inf
    middle, softer = np.percentile(told, (50, 75))
    return float(max(middle, softer / SOFTEST_QUARTER))


def cut_windows(luma: NDArray[np.generic]) -> NDArray[np.float32]:
    """Squares spread evenly over the picture, ``[windows, side, side]``."""
    side = min(WINDOW, *luma.shape)
    rows, columns = (
        np.linspace(0, length - side, min(most, length // side)).astype(int)
        for length, most in zip(luma.shape, (DOWN, ACROSS), strict=True)
    )
    windows = [luma[y : y + side, x : x + side] for y in rows for x in columns]
    return np.array(windows, np.float32)


def edge_widths(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each window's, in pixels, in the direction where it is largest; NaN without edges."""
    fine, coarse = (measure_slopes(windows, sigma) for sigma in (FINE, COARSE))
    widths = [edge_width(fine, coarse, direction) for direction in DIRECTIONS]
    return np.fmax.reduce(widths)


def measure_slopes(windows: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Differences over two pixels of the smoothed windows, across and down, with
    nothing at their borders: ``[2, windows, side * side]``.
    """
    count, side = windows.shape[:2]
    # One above the other they are one picture: a call for each would take longer.
    smooth = cv2.GaussianBlur(windows.reshape(count * side, side), (0, 0), sigma)
    slopes = np.zeros((2, count, side, side), np.float32)
    inside = slice(BORDER, -BORDER)
    for axis in (0, 1):
        slope = cv2.Sobel(smooth, cv2.CV_32F, 1 - axis, axis, ksize=1)
        slopes[axis, :, inside, inside] = slope.reshape(windows.shape)[:, inside, inside]
    return slopes.reshape(2, count, -1)


def edge_width(
    fine: NDArray[np.float32], coarse: NDArray[np.float32], direction: tuple[float, float]
) -> NDArray[np.float64]:
    """Each window's along one direction; NaN where it has no edge across that."""
    slope = along(direction, coarse)
    steepness = np.abs(slope)
    windows, size = slope.shape
    bar = np.maximum(STEEP * steepness.max(1, keepdims=True), FAINTEST).astype(np.float32)
    # A few in a hundred: everything from here on is cheap.
    places = np.flatnonzero(steepness > bar)
    window = places // size
    coarse_sum = np.bincount(window, steepness.ravel()[places], windows)
    # With the coarse slope's sign: noise at the fine scale cancels instead of adding up.
    kept = along(direction, fine.reshape(2, -1)[:, places]) * np.sign(slope.ravel()[places])
    ratio = np.bincount(window, kept, windows) / np.maximum(coarse_sum, 1e-6)
    # A step's slope at scale s is as 1 / sqrt(blur² + s²).
    excess = np.maximum(ratio**2 - 1, 1e-6)
    blur = np.sqrt(np.maximum(COARSE**2 - ratio**2 * FINE**2, 0) / excess)
    telling = np.bincount(window, minlength=windows) >= FEWEST
    return np.where(telling, np.minimum(blur, WIDEST), np.nan)


def along(direction: tuple[float, float], slopes: NDArray[np.float32]) -> NDArray[np.float32]:
    x, y = np.float32(direction[0]), np.float32(direction[1])
    if not y:
        return slopes[0]
    return slopes[1] if not x else x * slopes[0] + y * slopes[1]
