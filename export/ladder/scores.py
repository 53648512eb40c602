"""How good every run's pictures are: against PyTorch's, and against the sharp ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from deblurgan.export.ladder.folders import PairFolder, to_frame
from deblurgan.export.ladder.report import Crop, Fidelity, Folder, Quality
from deblurgan.export.ladder.runs import Eager, Runner
from deblurgan.runtime.before_after import most_changed
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.difference import measure_difference
from deblurgan.train.evaluation import EvaluationPair, spread
from deblurgan.train.metrics import psnr, ssim

CROP_SIDE = 128  # pixels
AMPLIFIED = 16  # times, so that a level or two can be seen


@dataclass(frozen=True)
class ShownCrop:
    """A crop with its pictures, RGB uint8 ``[h, w, 3]``; ``difference`` is that between
    ``base`` and ``compared``, amplified.
    """

    crop: Crop
    blurred: Frames
    base: Frames
    compared: Frames
    sharp: Frames
    difference: Frames


@dataclass(frozen=True)
class ShownPair:
    """A whole picture before and after, RGB uint8 ``[H, W, 3]``."""

    folder: str
    picture: str
    blurred: Frames
    deblurred: Frames


@dataclass
class Tally:
    """One run's figures, picture by picture; ``description`` is the engine's own."""

    description: str = ""
    psnr: dict[str, list[float]] = field(default_factory=dict)
    ssim: dict[str, list[float]] = field(default_factory=dict)
    with_pytorch: list[tuple[Frames, Frames]] = field(default_factory=list)

    def add(self, folder: str, made: Frames, sharp: Tensor) -> None:
        picture = to_picture(made)
        self.psnr.setdefault(folder, []).append(psnr(picture, sharp))
        self.ssim.setdefault(folder, []).append(ssim(picture, sharp))

    def quality(self, folder: str, base: Tally) -> Quality:
        """Means, and how far they are below those of ``base``."""
        mean_psnr, mean_ssim = mean(self.psnr[folder]), mean(self.ssim[folder])
        return Quality(
            folder,
            mean_psnr,
            mean_ssim,
            # Two equal pictures have infinite PSNR, and infinities have no difference.
            0.0 if self.psnr[folder] == base.psnr[folder] else mean(base.psnr[folder]) - mean_psnr,
            mean(base.ssim[folder]) - mean_ssim,
        )

    def fidelity(self) -> Fidelity:
        """Over the pictures that PyTorch made as well."""
        difference = measure_difference(self.with_pytorch)
        return Fidelity(
            len(self.with_pytorch),
            difference.largest,
            difference.mean,
            difference.differing,
            difference.psnr,
            mean([ssim(to_picture(a), to_picture(b)) for a, b in self.with_pytorch]),
        )


@dataclass
class Scores:
    """What all runs made of all folders. ``tallies`` are in the order of the runners;
    ``crops`` are each shown folder's, worst first; ``shown`` is the first one's first pair.
    """

    tallies: list[Tally]
    folders: list[Folder]
    crops: list[ShownCrop]
    shown: ShownPair | None = None


def score(
    folders: Sequence[PairFolder],
    runners: Sequence[Runner],
    eager: Eager,
    *,
    compared: tuple[int, int],
    with_pytorch: int,
    shown: Collection[str],
    crops: int,
    tell: Callable[[str], None],
) -> Scores:
    """Deblur every pair with every runner, and ``with_pytorch`` of each folder in
    PyTorch too. ``compared`` are the runners, by index, between which the ``crops``
    worst places of each folder are looked for; pictures are kept of the folders in
    ``shown`` alone.
    """
    base, other = compared
    scores = Scores([Tally() for _ in runners], [], [])
    for folder in folders:
        blurred_tally, worst = Tally(), list[ShownCrop]()
        chosen = set(spread(range(folder.pictures), with_pytorch))
        numbered = enumerate(folder.read())
        # An engine is loaded for one size; pictures of one size mostly follow each other.
        for (height, width), alike in itertools.groupby(numbered, lambda p: size_of(p[1])):
            with ExitStack() as stack:
                backends = [
                    stack.enter_context(closing(runner.load(width, height))) for runner in runners
                ]
                for tally, backend in zip(scores.tallies, backends, strict=True):
                    tally.description = backend.description
                for index, pair in alike:
                    check_interrupted()
                    tell(f"{folder.name}: picture {index + 1} of {folder.pictures}")
                    blurred = to_frame(pair.blurred)
                    pictures = [backend.run(blurred) for backend in backends]
                    for tally, made in zip(scores.tallies, pictures, strict=True):
                        tally.add(folder.name, made, pair.sharp)
                    blurred_tally.add(folder.name, blurred, pair.sharp)
                    if index in chosen:
                        expected = eager.run(blurred)
                        for tally, made in zip(scores.tallies, pictures, strict=True):
                            tally.with_pytorch.append((made, expected))
                    if folder.name not in shown:
                        continue
                    if base != other:
                        found = find_crop(folder.name, pair, pictures[base], pictures[other])
                        worst = sorted([*worst, found], key=lambda c: -c.crop.mean)[:crops]
                    if scores.shown is None:
                        scores.shown = ShownPair(
                            folder.name, pair.name, blurred[0], pictures[other][0]
                        )
        scores.crops += worst
        scores.folders.append(
            Folder(
                folder.name,
                folder.pictures,
                folder.of,
                len(chosen),
                folder.blur,
                mean(blurred_tally.psnr[folder.name]),
                mean(blurred_tally.ssim[folder.name]),
            )
        )
    return scores


def find_crop(folder: str, pair: EvaluationPair, base: Frames, compared: Frames) -> ShownCrop:
    """The box of a picture in which two frames ``[1, H, W, 3]`` differ most."""
    height, width = (min(CROP_SIDE, side) for side in size_of(pair))
    top, left = most_changed(base[0], compared[0], height, width)

    def cut(frame: Frames) -> Frames:
        return np.ascontiguousarray(frame[0, top : top + height, left : left + width])

    difference = np.abs(cut(base).astype(np.int16) - cut(compared))
    return ShownCrop(
        Crop(folder, pair.name, left, top, width, height, float(difference.mean())),
        cut(to_frame(pair.blurred)),
        cut(base),
        cut(compared),
        cut(to_frame(pair.sharp)),
        np.minimum(AMPLIFIED * difference, 255).astype(np.uint8),
    )


def size_of(pair: EvaluationPair) -> tuple[int, int]:
    height, width = pair.blurred.shape[-2:]
    return height, width


def to_picture(frame: Frames) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame[0])).permute(2, 0, 1)


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
