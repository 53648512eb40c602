"""Long exposures of a clip: its frames averaged over time, in linear light.

GoPro's pairs are means of frames taken at 240 a second. Other clips move by many
pixels from frame to frame, so that a mean of their frames alone shows each edge
several times: what lies between two frames is interpolated along the optical flow,
as in Super SloMo (Jiang et al. 2018, section 3.1) without its networks.

Frames are uint8 ``[3, H, W]``, RGB, of one size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train.blur import from_light, to_light

Pixels = NDArray[Any]
Flow = NDArray[np.float32]  # [H, W, 2]: where a pixel went, x and y
MOST_MOMENTS = 64  # from one frame to the next
FASTEST = 99  # per cent of the pixels are no faster than what the moments are counted by


def expose(frames: Sequence[Tensor], gamma: float) -> Tensor:
    """What a shutter records that is open from the first frame to the last, as a frame.

    ``gamma`` is that of the transfer curve that light is summed behind.
    """
    light = torch.zeros(frames[0].shape)
    for before, after in pairwise(frames):
        # As much light from each time between two frames, however far things moved in it.
        passing, moments = torch.zeros_like(light), 0
        for moment in between(before, after):
            passing += picture_light(moment, gamma)
            moments += 1
        first, last = (picture_light(to_pixels(frame), gamma) for frame in (before, after))
        light += (passing + (last - first) / 2) / moments
    return (from_light(light / (len(frames) - 1), gamma) * 255).round().to(torch.uint8)


def picture_light(pixels: Pixels, gamma: float) -> Tensor:
    """Linear light ``[3, H, W]`` of a picture ``[H, W, 3]`` in levels."""
    return to_light(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, gamma)


def tracks(frames: Sequence[Tensor], places: Sequence[tuple[int, int]]) -> Pixels:
    """Where points of the middle frame are in each frame: ``[frames, places, 2]``, x and y.

    ``places`` are columns and rows.
    """
    pixels, middle = [to_pixels(frame) for frame in frames], len(frames) // 2
    found = np.zeros((len(frames), len(places), 2), np.float32)
    found[middle] = places
    for step, end in ((-1, -1), (1, len(frames))):
        for index in range(middle + step, end, step):
            flow = optical_flow(pixels[index - step], pixels[index])
            x, y = (found[index - step][None, :, axis].copy() for axis in (0, 1))
            went = cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            found[index] = found[index - step] + went[0]
    return found


def between(first: Tensor, last: Tensor) -> Iterator[Pixels]:
    """Pictures from ``first`` on up to ``last``, which is left out: one for each pixel
    that the fastest parts move. float32 ``[H, W, 3]``.
    """
    before, after = to_pixels(first), to_pixels(last)
    there, back = optical_flow(before, after), optical_flow(after, before)
    fastest = float(np.percentile(np.hypot(there[..., 0], there[..., 1]), FASTEST))
    moments = min(MOST_MOMENTS, max(1, math.ceil(fastest)))
    yield before.astype(np.float32)
    for time in (moment / moments for moment in range(1, moments)):
        rest = 1 - time
        to_before = time * time * back - time * rest * there
        to_after = rest * rest * there - time * rest * back
        yield rest * warp(before, to_before) + time * warp(after, to_after)


def optical_flow(before: Pixels, after: Pixels) -> Flow:
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)]
    # One for each call: it keeps its buffers, and threads must not share them.
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    nowhere = np.zeros((*grey[0].shape, 2), np.float32)
    return np.asarray(flow.calc(grey[0], grey[1], nowhere), np.float32)


def warp(picture: Pixels, flow: Flow) -> Pixels:
    """``picture`` where ``flow`` points to, float32."""
    height, width = picture.shape[:2]
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    return cv2.remap(
        picture.astype(np.float32),
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def to_pixels(frame: Tensor) -> Pixels:
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
