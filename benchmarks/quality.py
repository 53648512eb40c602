"""Picture quality: PSNR and SSIM of a model's output against sharp pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.evaluation import EvaluationPair, evaluation_pairs
from deblurgan.train.layouts import PairSource, PhotoSource, find_source
from deblurgan.train.metrics import psnr, ssim


@dataclass(frozen=True)
class Score:
    """PSNR in dB, SSIM (Gaussian window, sigma 1.5), and how far the mean of the
    worst channel moved away from the sharp picture's, in levels.
    """

    name: str
    length: float | None
    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float
    colour_shift: float


def read_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Pairs in any layout that training takes, such as ``blur/`` and ``sharp/``."""
    source = find_source(str(folder), "test")
    if not isinstance(source, PairSource):
        raise DeblurError(
            folder,
            expected="pairs of a blurred and a sharp picture",
            found="photographs alone",
            remedy=f"to blur them, give them as --photos {folder}",
        )
    yield from evaluation_pairs(source)


def blur_photos(folder: Path) -> Iterator[EvaluationPair]:
    """Sharp photographs, blurred by ``eval-v1``."""
    yield from evaluation_pairs(find_photos(folder))


def leave_sharp(folder: Path) -> Iterator[EvaluationPair]:
    """Sharp photographs as they are: what a model does to what needs no help."""
    for photo in find_photos(folder).photos:
        sharp = photo.read()
        yield EvaluationPair(photo.name, sharp, sharp, 0.0)


def find_photos(folder: Path) -> PhotoSource:
    source = find_source(f"sharp:{folder}", "test")
    assert isinstance(source, PhotoSource)  # as the word says
    return source


def score(pair: EvaluationPair, deblurrer: Deblurrer) -> Score:
    """Deblur one pair's blurred picture and compare with its sharp one."""
    deblurred = picture(deblurrer(frame(pair.blurred)))
    shift = deblurred.double().mean((1, 2)) - pair.sharp.double().mean((1, 2))
    return Score(
        pair.name,
        pair.length,
        psnr(pair.blurred, pair.sharp),
        psnr(deblurred, pair.sharp),
        ssim(pair.blurred, pair.sharp),
        ssim(deblurred, pair.sharp),
        float(shift.abs().max()),
    )


def mean_score(name: str, scores: list[Score]) -> Score:
    """The mean of each figure; of the colour shift the largest."""

    def mean(figure: str) -> float:
        return float(np.mean([getattr(score, figure) for score in scores]))

    return Score(
        name,
        None,
        mean("psnr_before"),
        mean("psnr_after"),
        mean("ssim_before"),
        mean("ssim_after"),
        max(score.colour_shift for score in scores),
    )


def frame(picture: Tensor) -> Frames:
    """RGB uint8 ``[H, W, 3]``, as the runtime has them, of ``[3, H, W]``."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def picture(frame: Frames) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)
