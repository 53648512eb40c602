"""Picture quality: PSNR, SSIM and CW-SSIM of models' outputs against sharp pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from deblurgan.runtime.contract import Frames
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.train import evaluation
from deblurgan.train.evaluation import EvaluationPair, Report, Size
from deblurgan.train.metrics import cw_ssim, psnr, ssim


@dataclass(frozen=True)
class Score(evaluation.Score):
    """The figures of one picture, as ``deblur-train evaluate`` has them, and how far the
    mean of the worst channel is from the sharp picture's, in levels, in the blurred picture
    and in the deblurred one. Blur that mixes light, not levels, makes a picture brighter: a
    shift that was there before is not the model's doing.
    """

    colour_shift_before: float
    colour_shift: float


@dataclass(frozen=True)
class LengthScore:
    """The means over ``pictures`` pictures of one length of blur (pixels), and the
    standard error of the mean gain, in dB: None for a single picture.
    """

    length: float
    pictures: int
    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float
    gain: float
    gain_error: float | None


@dataclass(frozen=True)
class ModelQuality:
    """What one model made of all pictures, in their order; ``engine`` is what the first
    of them ran on.
    """

    model: str
    precision: str
    engine: str
    scores: tuple[Score, ...]

    @property
    def mean(self) -> Score:
        return mean_score("mean", self.scores)

    @property
    def by_length(self) -> tuple[LengthScore, ...]:
        """Empty where the lengths are not known."""
        lengths = sorted({score.length for score in self.scores if score.length})
        return tuple(
            length_score(length, [score for score in self.scores if score.length == length])
            for length in lengths
        )


# Hears each pair with what a model, named first, made of it.
Watch = Callable[[str, EvaluationPair, Tensor, Score], None]


def measure_quality(
    deblurrers: Mapping[str, Deblurrer],
    pairs: Iterable[EvaluationPair],
    *,
    size: Size = "full",
    with_cw_ssim: bool = True,
    watch: Watch | None = None,
) -> list[ModelQuality]:
    """Deblur every pair's blurred picture with each model and compare with its sharp
    one. All models see the same pixels: a picture is read and blurred once.
    """
    scores: dict[str, list[Score]] = {name: [] for name in deblurrers}
    engines: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        before = likeness(pair.blurred, pair.sharp, with_cw_ssim)
        for name, deblurrer in deblurrers.items():
            deblurred = picture(deblurrer(frame(pair.blurred)))
            if name not in engines:
                height, width = pair.blurred.shape[-2:]
                engine = deblurrer.engine(width, height)
                engines[name] = engine.model.card.precision, engine.description
            after = likeness(deblurred, pair.sharp, with_cw_ssim)
            made = score(pair, before, after, size)
            scores[name].append(made)
            if watch is not None:
                watch(name, pair, deblurred, made)
    return [ModelQuality(name, *engines[name], tuple(scores[name])) for name in deblurrers]


@dataclass(frozen=True)
class Likeness:
    """How near a picture is to the sharp one: PSNR in dB, SSIM, CW-SSIM as the paper has
    it, and the shift of the worst channel's mean in levels.
    """

    psnr: float
    ssim: float
    cw_ssim: float | None
    colour_shift: float


def likeness(made: Tensor, sharp: Tensor, with_cw_ssim: bool = True) -> Likeness:
    """Of two pictures of one size, uint8 ``[3, H, W]``."""
    shift = made.double().mean((1, 2)) - sharp.double().mean((1, 2))
    return Likeness(
        psnr(made, sharp),
        ssim(made, sharp),
        cw_ssim(made, sharp) if with_cw_ssim else None,
        float(shift.abs().max()),
    )


def score(pair: EvaluationPair, before: Likeness, after: Likeness, size: Size = "full") -> Score:
    return Score(
        pair.name,
        size,
        pair.length,
        before.psnr,
        after.psnr,
        before.ssim,
        after.ssim,
        before.cw_ssim,
        after.cw_ssim,
        before.colour_shift,
        after.colour_shift,
    )


def mean_score(name: str, scores: Iterable[Score]) -> Score:
    """The mean of each figure; of the colour shifts the largest."""
    scores = tuple(scores)
    figures = asdict(Report(scores).mean(scores[0].size))
    figures["name"] = name
    return Score(
        **figures,
        colour_shift_before=max(score.colour_shift_before for score in scores),
        colour_shift=max(score.colour_shift for score in scores),
    )


def length_score(length: float, scores: list[Score]) -> LengthScore:
    mean = mean_score("", scores)
    gains = np.array([score.gain for score in scores])
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else None
    return LengthScore(
        length,
        len(scores),
        mean.psnr_before,
        mean.psnr_after,
        mean.ssim_before,
        mean.ssim_after,
        float(gains.mean()),
        error,
    )


def frame(picture: Tensor) -> Frames:
    """RGB uint8 ``[H, W, 3]``, as the runtime has them, of ``[3, H, W]``."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def picture(frame: Frames) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)
