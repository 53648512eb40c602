"""Picture quality: PSNR and SSIM of a model's output against sharp pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

from deblurgan.runtime.backends import Frames
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.data import list_pictures, read_picture
from deblurgan.train.evaluation import EVAL_V1, psnr


@dataclass(frozen=True)
class Pair:
    """A blurred and a sharp picture, RGB uint8 ``[H, W, 3]``; ``length`` of the blur
    in pixels where it is known.
    """

    name: str
    blurred: Frames
    sharp: Frames
    length: float | None = None


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


def read_pairs(folder: Path) -> Iterator[Pair]:
    """Pairs of ``folder/blur`` and ``folder/sharp``, matched by name."""
    for path in list_pictures(folder / "blur"):
        partner = folder / "sharp" / path.name
        if not partner.is_file():
            raise DeblurError(
                path,
                expected=f"its sharp partner {partner}",
                found="no such file",
                remedy="name partners alike in blur/ and sharp/",
            )
        blurred, sharp = frame(read_picture(path)), frame(read_picture(partner))
        if blurred.shape != sharp.shape:
            raise DeblurError(
                path,
                expected=f"the size of its sharp partner, {sharp.shape[1]}x{sharp.shape[0]}",
                found=f"{blurred.shape[1]}x{blurred.shape[0]}",
                remedy="crop both to the same part",
            )
        yield Pair(path.name, blurred, sharp)


def blur_photos(folder: Path) -> Iterator[Pair]:
    """Sharp photographs, blurred by ``eval-v1``."""
    for index, path in enumerate(list_pictures(folder)):
        sharp = read_picture(path)
        blurred = EVAL_V1.blur(sharp, index)
        yield Pair(path.name, frame(blurred), frame(sharp), EVAL_V1.length(index))


def leave_sharp(folder: Path) -> Iterator[Pair]:
    """Sharp photographs as they are: what a model does to what needs no help."""
    for path in list_pictures(folder):
        sharp = frame(read_picture(path))
        yield Pair(path.name, sharp, sharp, 0.0)


def score(pair: Pair, deblurrer: Deblurrer) -> Score:
    """Deblur one pair's blurred picture and compare with its sharp one."""
    deblurred = deblurrer(pair.blurred)
    shift = deblurred.mean((0, 1)) - pair.sharp.mean((0, 1))
    return Score(
        pair.name,
        pair.length,
        psnr(tensor(pair.blurred), tensor(pair.sharp)),
        psnr(tensor(deblurred), tensor(pair.sharp)),
        ssim(pair.blurred, pair.sharp),
        ssim(deblurred, pair.sharp),
        float(np.abs(shift).max()),
    )


def ssim(picture: Frames, reference: Frames) -> float:
    """Wang et al. 2004's: Gaussian window of sigma 1.5, mean over the channels."""
    value = structural_similarity(
        picture,
        reference,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)


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


def frame(picture: torch.Tensor) -> Frames:
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def tensor(picture: Frames) -> torch.Tensor:
    return torch.from_numpy(picture)
