"""Evaluation: a fixed blur, and how much of it a generator takes away."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deblurgan.train.blur import (
    add_noise,
    convolve,
    from_light,
    shake,
    to_light,
    trajectory_kernel,
)
from deblurgan.train.networks import Generator


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


def psnr(picture: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures, over all channels."""
    error = (picture.double() - reference.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@torch.no_grad()
def restore(generator: Generator, blurred: Tensor) -> Tensor:
    """Run a generator on a uint8 picture ``[3, H, W]`` as the contract does:
    scale to [-1, 1], generate, scale back, round, clip.
    """
    device = next(generator.parameters()).device
    restored = generator(blurred[None].to(device).float() / 127.5 - 1)[0].float()
    return ((restored + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
