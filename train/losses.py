"""What training makes smaller: the distance between pixels, and the adversarial losses.

A discriminator's score may be many numbers, one for each patch; a picture's
score is their mean, in the losses and in the gradient penalty alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ADVERSARIAL = ("wgan-gp", "wgan", "lsgan", "gan")
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class CriticScores(NamedTuple):
    """The discriminator's loss: ``total`` to differentiate, its parts to look at.

    ``adversarial`` and ``penalty`` (not yet weighted; 0 but for wgan-gp) have
    no graph. All are of no dimension.
    """

    total: Tensor
    adversarial: Tensor
    penalty: Tensor


class Critic(nn.Module):
    """A discriminator and its loss in one forward, so that DDP sees one forward
    before each backward.

    Raises ``ValueError`` for a loss that is not in ``ADVERSARIAL``.
    """

    def __init__(self, discriminator: nn.Module, loss: str, penalty_weight: float) -> None:
        super().__init__()
        if loss not in ADVERSARIAL:
            raise ValueError(f"the loss must be one of {', '.join(ADVERSARIAL)}, not {loss}")
        self.discriminator = discriminator
        self.loss = loss
        self.penalty_weight = penalty_weight
        # Their statistics are of all pictures in a forward: the originals score sharp
        # and restored ones apart, and all else comes out the same together, and sooner.
        self.scores_apart = any(isinstance(m, BATCH_NORMS) for m in discriminator.modules())

    def forward(self, real: Tensor, fake: Tensor, mix: Tensor) -> CriticScores:
        """The loss over ``real`` and ``fake``, ``[N, 3, H, W]`` each.

        ``fake`` gets no gradient. ``mix`` is ``[N, 1, 1, 1]`` in [0, 1]: the
        share of the sharp picture where wgan-gp looks at the slope.
        """
        real, fake = real.detach(), fake.detach()
        adversarial = critic_loss(self.loss, *self.scores(real, fake))
        if self.loss != "wgan-gp":
            return CriticScores(adversarial, adversarial.detach(), adversarial.new_zeros(()))
        penalty = gradient_penalty(self.discriminator, real, fake, mix)
        total = adversarial + self.penalty_weight * penalty
        return CriticScores(total, adversarial.detach(), penalty.detach())

    def fooled(self, fake: Tensor) -> Tensor:
        """The generator's adversarial loss, of no dimension, with gradient to ``fake`` alone.

        To be called on the critic itself, not on what DDP wraps around it:
        no gradient of the discriminator is to be waited for.
        """
        with frozen(self.discriminator):
            return generator_loss(self.loss, self.discriminator(fake))

    def scores(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        if self.scores_apart:
            return self.discriminator(real), self.discriminator(fake)
        of_real, of_fake = self.discriminator(torch.cat([real, fake])).chunk(2)
        return of_real, of_fake


class Taught(NamedTuple):
    """A teacher's ``picture``, and which ``share`` of the distance is to it."""

    picture: Tensor
    share: float


def charbonnier(
    restored: Tensor, sharp: Tensor, epsilon: float = 1e-3, taught: Taught | None = None
) -> Tensor:
    """A smooth L1: ``mean(sqrt(d^2 + epsilon^2))``."""
    return error(lambda d: (d.square() + epsilon**2).sqrt(), restored, sharp, taught).mean()


def negative_psnr(
    restored: Tensor, sharp: Tensor, floor: float = 1e-4, taught: Taught | None = None
) -> Tensor:
    """Mean of ``10 log10(MSE + floor)`` over the pictures ``[N, C, H, W]``, in dB, in
    fp32 at least (HINet, Chen et al. 2021).

    A picture counts by how many dB it gains, be its blur long or short; one whose
    error is at the ``floor`` (46 dB, in [-1, 1]) counts half, a sharper one hardly.
    """
    squared = error(torch.square, at_least_fp32(restored), sharp, taught).flatten(1).mean(1)
    return 10 * (squared + floor).log10().mean()


def error(
    measure: Callable[[Tensor], Tensor], restored: Tensor, sharp: Tensor, taught: Taught | None
) -> Tensor:
    """``measure`` of each value's difference from the sharp one, or from both targets."""
    to_sharp = measure(restored - sharp)
    if taught is None:
        return to_sharp
    return torch.lerp(to_sharp, measure(restored - taught.picture), taught.share)


def critic_loss(loss: str, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss by its scores, in fp32 at least.

    lsgan and gan take half of the sum, as the original release does.
    """
    real, fake = at_least_fp32(real), at_least_fp32(fake)
    if loss == "lsgan":
        return ((real - 1).square().mean() + fake.square().mean()) / 2
    if loss == "gan":
        return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
    return fake.mean() - real.mean()


def generator_loss(loss: str, fake: Tensor) -> Tensor:
    """The generator's loss by the scores of its pictures, in fp32 at least."""
    fake = at_least_fp32(fake)
    if loss == "lsgan":
        return (fake - 1).square().mean()
    if loss == "gan":
        return F.softplus(-fake).mean()
    return -fake.mean()


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """How far the slope of a picture's score is from 1, squared (Gulrajani et al. 2017).

    The slope is the norm of the whole gradient of a picture, which the release
    took over the channels of each pixel. Computed in the precision of the
    weights whatever autocast is on: a slope's own gradient is lost in halves.
    """
    with torch.autocast(real.device.type, enabled=False):
        precision = next(discriminator.parameters()).dtype
        real, fake, mix = (tensor.detach().to(precision) for tensor in (real, fake, mix))
        mixed = (mix * real + (1 - mix) * fake).requires_grad_()
        scores = discriminator(mixed).reshape(len(mixed), -1).mean(1)
        (gradient,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
        slope = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return (slope - 1).square().mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Without gradients for the weights of ``module``; as it was afterwards."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def at_least_fp32(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
