"""The crops that deblurring did worst on: blurred, deblurred and sharp side by side.

Worst is where the squared error against the sharp picture grew most. Where too few
crops got worse, those follow that are furthest from the sharp picture still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train.contact_sheet import BACKGROUND, GAP, Pixels, under_caption
from deblurgan.train.contact_sheet import frame as cell
from deblurgan.train.evaluation import EvaluationPair
from deblurgan.train.metrics import psnr

SIDE = 128  # pixels of a crop, less in a smaller picture
SHOWN = 3 * SIDE  # so that pixels can be told apart
LEAST_HARM = 1e-3  # levels squared: less is rounding
OF_ONE_PICTURE = 2  # or one bad picture would be all that is seen


@dataclass(frozen=True)
class Crop:
    """A piece of a pair and what a model made of it, uint8 ``[3, SIDE, SIDE]`` each, cut
    out at the same place (pixels). ``length`` is the blur's where it is known; ``error`` is
    the mean squared error, in levels squared, and ``harm`` by how much it grew.
    """

    model: str
    name: str
    length: float | None
    left: int
    top: int
    blurred: Tensor
    deblurred: Tensor
    sharp: Tensor
    harm: float
    error: float

    @property
    def badness(self) -> tuple[bool, float]:
        """The greater, the worse."""
        worse = self.harm > LEAST_HARM
        return worse, self.harm if worse else self.error


class WorstCrops:
    """Watches pictures go by and keeps the ``count`` worst crops of each model."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.crops: dict[str, list[Crop]] = {}

    def watch(self, model: str, pair: EvaluationPair, deblurred: Tensor) -> None:
        kept = [*self.crops.get(model, []), *find_worst(model, pair, deblurred)]
        self.crops[model] = sorted(kept, key=lambda crop: crop.badness, reverse=True)[: self.count]

    def draw(self) -> Pixels:
        """RGB uint8: a row for each crop, worst first, one model after the other."""
        rows = [row(crop) for crops in self.crops.values() for crop in crops]
        return np.pad(np.vstack(rows), ((0, GAP), (0, GAP), (0, 0)), constant_values=BACKGROUND)


def find_worst(model: str, pair: EvaluationPair, deblurred: Tensor) -> list[Crop]:
    """The worst crops of one picture, worst first, that do not overlap."""
    before, after = (squared_error(made, pair.sharp) for made in (pair.blurred, deblurred))
    height, width = (min(SIDE, side) for side in before.shape)
    error = box_means(after, height, width)
    harm = error - box_means(before, height, width)
    # The same order as of crops' badness: what got worse before what did not.
    badness = np.where(harm > LEAST_HARM, harm + error.max(), error)
    crops: list[Crop] = []
    while len(crops) < OF_ONE_PICTURE and badness.max() >= 0:
        top, left = (int(n) for n in np.unravel_index(int(badness.argmax()), badness.shape))
        blurred, made, sharp = (
            picture[:, top : top + height, left : left + width].clone()
            for picture in (pair.blurred, deblurred, pair.sharp)
        )
        crops.append(
            Crop(
                model, pair.name, pair.length, left, top, blurred, made, sharp,
                float(harm[top, left]), float(error[top, left]),
            )
        )  # fmt: skip
        rows = slice(max(0, top - height + 1), top + height)
        badness[rows, max(0, left - width + 1) : left + width] = -1
    return crops


def squared_error(picture: Tensor, sharp: Tensor) -> NDArray[Any]:
    """``[H, W]``, the mean over the channels."""
    return (picture.double() - sharp.double()).square().mean(0).numpy()


def box_means(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """The mean of each box that lies inside, at its top left corner."""
    means = cv2.boxFilter(
        values, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    return means[: values.shape[0] - height + 1, : values.shape[1] - width + 1]


def row(crop: Crop) -> Pixels:
    before, after = psnr(crop.blurred, crop.sharp), psnr(crop.deblurred, crop.sharp)
    gain = "" if after == before else f" ({after - before:+.2f})"
    length = f"{crop.length:g} px, " if crop.length else ""
    cells = (
        (crop.blurred, f"blurred: {length}{before:.2f} dB"),
        (crop.deblurred, f"{crop.model}: {after:.2f} dB{gain}"),
        (crop.sharp, f"sharp: {crop.name} at {crop.left}, {crop.top}"),
    )
    return np.hstack([under_caption(cell(made, SHOWN, SHOWN), text) for made, text in cells])
