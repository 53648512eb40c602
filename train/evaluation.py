"""Evaluation: a fixed blur, and how much of it a generator takes away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from deblurgan.train.blur import (
    KERNEL_SIZE,
    add_noise,
    convolve,
    from_light,
    shake,
    to_light,
    trajectory_kernel,
)
from deblurgan.train.layouts import PairSource, Source
from deblurgan.train.metrics import cw_ssim, psnr, ssim
from deblurgan.train.networks import Generator
from deblurgan.train.picture_files import scale_picture

Size = Literal["full", "half"]
SCALES: dict[Size, float] = {"full": 1.0, "half": 0.5}

T = TypeVar("T")


@dataclass(frozen=True)
class EvaluationBlur:
    """A blur that two people can compare figures on; never changed, only succeeded.

    Picture ``i`` gets length ``lengths[i % 4]`` (pixels), and shapes alternate
    every four pictures. ``noise`` is in levels of 255.
    """

    name: str
    lengths: tuple[float, ...]
    shapes: tuple[str, ...]
    gamma: float
    noise: float
    seed: int

    def length(self, index: int) -> float:
        return self.lengths[index % len(self.lengths)]

    def blur(self, sharp: Tensor, index: int) -> Tensor:
        """Blur uint8 ``[3, H, W]``, the ``index``-th of its data set."""
        random = torch.Generator().manual_seed(self.seed + index)
        length = self.length(index)
        light = to_light(sharp[None].float() / 255, self.gamma)
        if self.shapes[index // len(self.lengths) % len(self.shapes)] == "shake":
            light = shake(light, length, random)
        else:
            light = convolve(light, trajectory_kernel(random, diameter=length))
        picture = add_noise(from_light(light, self.gamma), self.noise / 255, random)
        return (picture[0].clamp(0, 1) * 255).round().to(torch.uint8)


EVAL_V1 = EvaluationBlur(
    name="eval-v1",
    lengths=(8.0, 16.0, 24.0, 32.0),
    shapes=("shake", "trajectory"),
    gamma=2.2,
    noise=1.0,
    seed=1711_07064,
)


@dataclass(frozen=True)
class EvaluationPair:
    """Two pictures of one size, uint8 ``[3, H, W]``; ``length`` of the blur in
    pixels where it is known.
    """

    name: str
    blurred: Tensor
    sharp: Tensor
    length: float | None = None

    def scaled(self, scale: float) -> EvaluationPair:
        """Both pictures made smaller; the length too, in the new pixels."""
        if scale == 1:
            return self
        length = None if self.length is None else self.length * scale
        blurred, sharp = (scale_picture(picture, scale) for picture in (self.blurred, self.sharp))
        return EvaluationPair(self.name, blurred, sharp, length)


def evaluation_pairs(
    source: Source,
    *,
    side: int | None = None,
    scale: float = 1.0,
    limit: int | None = None,
    all_lengths: bool = False,
) -> Iterator[EvaluationPair]:
    """The pairs of a source, read one by one; photographs are blurred by ``eval-v1``.

    The ``i``-th photograph gets the ``i``-th blur; with ``all_lengths`` each comes
    once at every length. ``scale`` shrinks both pictures by the mean of the pixels
    after the blurring, ``side`` then leaves the centre of that many pixels a side,
    and ``limit`` takes no more pictures of the source, evenly spread.
    """

    def finish(pair: EvaluationPair) -> EvaluationPair:
        pair = pair.scaled(scale)
        if side is None:
            return pair
        return replace(pair, blurred=centre(pair.blurred, side), sharp=centre(pair.sharp, side))

    if isinstance(source, PairSource):
        for files in spread(source.pairs, limit):
            yield finish(EvaluationPair(files.name, *files.read()))
        return
    repeats = len(EVAL_V1.lengths) if all_lengths else 1
    for place, photo in enumerate(spread(source.photos, limit)):
        sharp = photo.read()
        if side is not None:  # blurring more than is looked at costs most of the time
            sharp = centre(sharp, math.ceil(side / scale) + 2 * KERNEL_SIZE)
        for index in range(repeats * place, repeats * (place + 1)):
            blurred = EVAL_V1.blur(sharp, index)
            yield finish(EvaluationPair(photo.name, blurred, sharp, EVAL_V1.length(index)))


@torch.no_grad()
def restore(generator: Generator, blurred: Tensor) -> Tensor:
    """Run a generator on a uint8 picture ``[3, H, W]`` as the contract does:
    scale to [-1, 1], generate, scale back, round, clip.
    """
    device = next(generator.parameters()).device
    restored = generator(blurred[None].to(device).float() / 127.5 - 1)[0].float()
    return ((restored + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


@dataclass(frozen=True)
class Score:
    """Figures of one picture at one size, or their mean: PSNR in dB, SSIM, and
    CW-SSIM as the paper has it, of the blurred picture and of the deblurred one.
    """

    name: str
    size: Size
    length: float | None
    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float
    cw_ssim_before: float | None
    cw_ssim_after: float | None

    @property
    def gain(self) -> float:
        """PSNR over the blurred input's, in dB."""
        # Two equal pictures have infinite PSNR, and infinities have no difference.
        return 0.0 if self.psnr_after == self.psnr_before else self.psnr_after - self.psnr_before


@dataclass(frozen=True)
class Case:
    """A score with its pictures."""

    score: Score
    pair: EvaluationPair
    restored: Tensor


@dataclass(frozen=True)
class Report:
    """Scores in the order of the pictures, and the cases of smallest gain, worst first."""

    scores: tuple[Score, ...]
    worst: tuple[Case, ...] = ()

    @property
    def sizes(self) -> tuple[Size, ...]:
        return tuple(size for size in SCALES if any(s.size == size for s in self.scores))

    def of_size(self, size: Size) -> tuple[Score, ...]:
        return tuple(score for score in self.scores if score.size == size)

    def mean(self, size: Size = "full") -> Score:
        """The mean of each figure over the pictures at one size."""
        scores = self.of_size(size)

        def mean(values: Iterable[float | None]) -> float:
            return float(np.mean([value for value in values if value is not None]))

        with_cw_ssim = scores[0].cw_ssim_after is not None
        return Score(
            f"mean of {len(scores)}",
            size,
            None,
            mean(s.psnr_before for s in scores),
            mean(s.psnr_after for s in scores),
            mean(s.ssim_before for s in scores),
            mean(s.ssim_after for s in scores),
            mean(s.cw_ssim_before for s in scores) if with_cw_ssim else None,
            mean(s.cw_ssim_after for s in scores) if with_cw_ssim else None,
        )


def evaluate(
    generator: Generator,
    pairs: Iterable[EvaluationPair],
    *,
    sizes: Sequence[Size] = ("full",),
    with_cw_ssim: bool = True,
    worst: int = 0,
    progress: Callable[[Score], None] | None = None,
) -> Report:
    """Deblur every pair's blurred picture and compare both with the sharp one.

    At half size the pictures are made smaller first and deblurred then, as the
    paper trained. The ``worst`` cases of smallest gain keep their pictures;
    ``progress`` hears each score. CW-SSIM takes as long as the other figures
    together.
    """
    scores: list[Score] = []
    cases: list[Case] = []
    for full in pairs:
        for size in sizes:
            pair = full.scaled(SCALES[size])
            restored = restore(generator, pair.blurred)
            score = compare(pair, restored, size, with_cw_ssim)
            scores.append(score)
            if worst:
                cases.append(Case(score, pair, restored))
                cases = sorted(cases, key=lambda case: case.score.gain)[:worst]
            if progress is not None:
                progress(score)
    return Report(tuple(scores), tuple(cases))


def compare(pair: EvaluationPair, restored: Tensor, size: Size, with_cw_ssim: bool) -> Score:
    before, after = (pair.blurred, pair.sharp), (restored, pair.sharp)
    return Score(
        pair.name,
        size,
        pair.length,
        psnr(*before),
        psnr(*after),
        ssim(*before),
        ssim(*after),
        cw_ssim(*before) if with_cw_ssim else None,
        cw_ssim(*after) if with_cw_ssim else None,
    )


def centre(picture: Tensor, side: int) -> Tensor:
    """The middle of ``[3, H, W]``, ``side`` pixels or less a side."""
    height, width = picture.shape[-2:]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return picture[:, top : top + side, left : left + side]


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` items, evenly spread, in their order."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[len(items) * place // limit] for place in range(limit)]
