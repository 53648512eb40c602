"""Whether a clip flickers more after deblurring than before.

Each frame is compared with the one before it, moved along the motion between them: what is
left is what changed without having moved. This is the warping error of Lai et al. 2018,
"Learning Blind Video Temporal Consistency", in absolute levels instead of squares. Input
and output are moved along the same motion, that of the input, and counted in the same
places, so that what is wrong with the motion is wrong with both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.contract import Frames

Pixels = NDArray[np.integer[Any] | np.floating[Any]]
Motion = tuple[NDArray[np.float32], NDArray[np.float32]]
Values = tuple[float, ...]

# Of every so many frames two are compared. That takes 25 ms for 720p on one core, so 2 ms a
# frame.
EVERY = 12
# Pixels of the longer side. Changes of single pixels average out in the smaller picture;
# what is seen as flicker is larger.
LONGEST = 480
# Wide pictures of less than 32 lines crash OpenCV's DIS flow, and the process with it: it
# takes them for the small ones that it has a way for by their width.
SHORTEST = 64
BORDER = 4  # pixels
# Sundaram et al. 2010, as Lai et al. take it: the motion there and back has to end where
# it began, but for a hundredth of its square and half a pixel's.
RETURN_SLACK, RETURN_FLOOR = 0.01, 0.5
FOREIGN = 40.0  # levels: another thing than the one before it, whatever the motion says
CUT = 0.5  # share of the picture without a counterpart


@dataclass(frozen=True)
class TemporalError:
    """What changes from frame to frame without having moved, in levels of 255, as the mean
    of ``pairs`` of frames; ``left_out`` were scene cuts, or moved too far to be followed.

    ``input_slope`` and ``output_slope`` are the mean steepness of the same places, in
    levels a pixel: a motion that is wrong by a little is an error of that slope, so a
    sharper picture has more of it without flickering more.
    """

    input: float
    output: float
    input_slope: float
    output_slope: float
    pairs: int
    left_out: int = 0

    @property
    def added(self) -> float:
        """By deblurring, in levels; below 0 where it flickers less."""
        return self.output - self.input

    @property
    def ratio(self) -> float:
        """The output's over the input's; 1 where neither changes, infinite where the
        output alone does.
        """
        return divide(self.output, self.input)

    @property
    def ratio_for_contrast(self) -> float:
        """The same, but for what the output's steeper edges explain: ``ratio`` over that
        of the slopes.
        """
        if not (self.input_slope and self.output_slope):
            return self.ratio
        return self.ratio * self.input_slope / self.output_slope


class FlickerMeter:
    """Sees a clip's frames before and after, in order, and compares some with the next.

    The first pair, and then one of every ``every`` frames; 1 for all. Holds small copies
    of one frame.
    """

    def __init__(self, every: int = EVERY) -> None:
        self.every = every
        self._seen = self._left_out = 0
        self._before: tuple[Frames, Frames] | None = None
        self._pairs: list[Values] = []
        # Kept, as it is slow to set up.
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def watch(self, blurred: Frames, sharp: Frames) -> None:
        """The next frame, before and after: uint8 RGB ``[height, width, 3]`` of one size."""
        first = self._seen % self.every == 0
        now = (shrink(blurred), shrink(sharp)) if first or self._before is not None else None
        if self._before is not None and now is not None:
            self._compare(self._before, now)
        self._before = now if first else None
        self._seen += 1

    @property
    def error(self) -> TemporalError | None:
        """Of all frames seen so far; None before two could be compared."""
        if not self._pairs:
            return None
        means = [float(mean) for mean in np.mean(self._pairs, 0)]
        return TemporalError(
            input=means[0],
            output=means[1],
            input_slope=means[2],
            output_slope=means[3],
            pairs=len(self._pairs),
            left_out=self._left_out,
        )

    def _compare(self, before: tuple[Frames, Frames], now: tuple[Frames, Frames]) -> None:
        if before[0].shape != now[0].shape or min(now[0].shape[:2]) < SHORTEST:
            return
        found = measure_pair(before, now, self._flow)
        if found is None:
            self._left_out += 1
        else:
            self._pairs.append(found)


def measure_pair(
    before: tuple[Frames, Frames], now: tuple[Frames, Frames], flow: cv2.DISOpticalFlow
) -> Values | None:
    """Errors of input and output, and their slopes; None where too little corresponds."""
    back, there = trace_motion(now[0], before[0], flow), trace_motion(before[0], now[0], flow)
    changes = [cv2.absdiff(warp(a, back), b) for a, b in zip(before, now, strict=True)]
    counted = returns(back, there) & (cv2.cvtColor(changes[0], cv2.COLOR_RGB2GRAY) < FOREIGN)
    inside = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    if np.count_nonzero(counted[inside]) < (1 - CUT) * counted[inside].size:
        return None
    mask = np.zeros(counted.shape, np.uint8)
    mask[inside] = counted[inside]
    errors = [mean_level(change, mask) for change in changes]
    return (*errors, *(mean_slope(picture, mask) for picture in now))


def shrink(frame: Frames) -> Frames:
    """By a whole factor: OpenCV has a fast way for those."""
    height, width = frame.shape[:2]
    factor = math.ceil(max(height, width) / LONGEST)
    height, width = height // factor, width // factor
    if factor == 1 or not (height and width):
        return frame.copy()
    whole = frame[: height * factor, : width * factor]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def trace_motion(start: Frames, end: Frames, flow: cv2.DISOpticalFlow) -> Motion:
    """How far each pixel of ``start`` is from there in ``end``, across and down."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (start, end)]
    nowhere = np.zeros((*grey[0].shape, 2), np.float32)
    across, down = cv2.split(flow.calc(grey[0], grey[1], nowhere))
    return across.astype(np.float32), down.astype(np.float32)


def warp(picture: Pixels, motion: Motion) -> Pixels:
    """The picture's values where the motion leads."""
    across, down = motion
    height, width = across.shape
    x = across + np.arange(width, dtype=np.float32)
    y = down + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def returns(back: Motion, there: Motion) -> NDArray[np.bool_]:
    """Whether the motion to the other frame and back ends near where it began; not where
    something is hidden in one of them, or out of the picture.
    """
    onward = [warp(component, back) for component in there]
    length = sum(np.square(component) for component in (*back, *onward))
    missed = sum(np.square(a + b) for a, b in zip(back, onward, strict=True))
    return np.asarray(missed < RETURN_SLACK * length + RETURN_FLOOR)


def mean_slope(picture: Frames, mask: NDArray[np.uint8]) -> float:
    """In levels a pixel: the mean difference to the next pixel, across and down."""
    across = mean_level(cv2.absdiff(picture[:, 1:], picture[:, :-1]), mask[:, 1:])
    down = mean_level(cv2.absdiff(picture[1:], picture[:-1]), mask[1:])
    return (across + down) / 2


def mean_level(picture: Pixels, mask: NDArray[np.uint8]) -> float:
    return sum(cv2.mean(picture, mask)[:3]) / 3


def divide(a: float, b: float) -> float:
    if b:
        return a / b
    return math.inf if a else 1.0
