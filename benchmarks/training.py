"""Speed of training: one whole step of ours next to a plain one.

The plain step is written from the description of the original release: fp32,
contiguous memory, real, restored and mixed pictures through the critic one by
one, all gradients taken that its code takes, wanted or not.
"""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.benchmarks.speed import seconds
from deblurgan.train.devices import Devices, make_fabric
from deblurgan.train.loop import draw_mix, open_data
from deblurgan.train.networks import (
    PatchDiscriminator,
    ResNetGenerator,
)
from deblurgan.train.recipe import Recipe
from deblurgan.train.samples import BATCHES_OF_LANES, PREFETCH, batches
from deblurgan.train.step import load_content_weights, set_up_players, train_step
from deblurgan.train.vgg import CONVOLUTIONS, POOLINGS


@dataclass(frozen=True)
class TrainingSpeed:
    """Seconds of one step of ours and of the plain one on the same pairs (medians), and
    the median of the rounds' ratios; no plain one where the recipe is not of the paper's
    kind. ``waiting`` is the share of its time that our loop waits for pairs.
    """

    device: str
    batch: int
    crop: int
    seconds: float
    plain_seconds: float | None
    ratio: float | None
    waiting: float


class PlainStep:
    """The paper's step: five updates of the critic, then the generator's."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.loss = recipe.loss
        self.generator = ResNetGenerator(recipe.generator.settings)
        self.critic = PatchDiscriminator(recipe.discriminator.settings)
        self.features = plain_vgg()
        for network in (self.generator, self.critic, self.features):
            network.to(device).train()
        self.generator_optimiser, self.critic_optimiser = (
            torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.5, 0.999))
            for network in (self.generator, self.critic)
        )

    def __call__(self, pairs: Tensor) -> float:
        """One step on uint8 ``[N, 2, 3, H, W]``; the generator's loss."""
        blurred, sharp = (pairs.float() / 127.5 - 1).unbind(1)
        restored = self.generator(blurred)
        for _ in range(self.loss.critic_steps):
            self.critic_optimiser.zero_grad()
            fake = self.critic(restored.detach()).mean()
            real = self.critic(sharp).mean()
            loss = fake - real + self.penalty(sharp, restored.detach())
            loss.backward(retain_graph=True)
            self.critic_optimiser.step()
        self.generator_optimiser.zero_grad()
        adversarial = -self.critic(restored).mean()
        content = F.mse_loss(self.features(restored), self.features(sharp).detach())
        total = adversarial + self.loss.content * content
        total.backward()
        self.generator_optimiser.step()
        return total.item()

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        mix = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = (mix * real + (1 - mix) * fake).requires_grad_(True)
        scores = self.critic(between)
        (gradient,) = torch.autograd.grad(
            scores, between, torch.ones_like(scores), create_graph=True, retain_graph=True
        )
        return self.loss.penalty * (gradient.flatten(1).norm(2, dim=1) - 1).square().mean()


def plain_vgg() -> nn.Sequential:
    """VGG19 up to conv3_3, its weights random: they do not change the time."""
    layers: list[nn.Module] = []
    for index in range(15):
        if index in CONVOLUTIONS:
            layers.append(nn.Conv2d(*CONVOLUTIONS[index], 3, padding=1))
        else:
            layers.append(nn.MaxPool2d(2) if index in POOLINGS else nn.ReLU(True))
    return nn.Sequential(*layers)


def measure_training(
    recipe: Recipe, data: list[str], vgg: Path | None, *, workers: int, rounds: int = 3
) -> TrainingSpeed:
    """Our step and the plain one in turn, ``rounds`` times, after one to warm up; then our
    loop alone, until it has used up what the workers made meanwhile, and as long again.
    """
    fabric = make_fabric(Devices(), recipe.training)
    samples = open_data(fabric, recipe, data).samples
    plain = PlainStep(recipe, fabric.device) if is_papers_kind(recipe) else None
    players = set_up_players(fabric, recipe, load_content_weights(recipe, vgg))
    mix = draw_mix(recipe, 0).to(fabric.device)

    def ours(pairs: Tensor) -> float:
        return train_step(fabric, recipe, players, pairs, mix)["generator"].item()

    own, plains, waits, total = [], [], 0.0, 0.0
    with closing(batches(samples, batch=recipe.training.batch, first=0, workers=workers)) as coming:
        # The workers fill their first regions, which is dear, and then rest.
        for _ in range(BATCHES_OF_LANES):
            pairs = next(coming).to(fabric.device)
        for _ in range(rounds + 1):
            if plain is not None:
                plains.append(seconds(lambda: plain(pairs)))
            own.append(seconds(lambda: ours(pairs)))
        ahead = PREFETCH * workers
        for number in range(ahead + max(ahead, rounds)):
            start = time.perf_counter()
            pairs = next(coming).to(fabric.device)
            waited = time.perf_counter() - start
            ours(pairs)
            if number >= ahead:
                waits += waited
                total += time.perf_counter() - start
    ratios = [theirs / mine for theirs, mine in zip(plains, own, strict=False)][1:]
    return TrainingSpeed(
        device=str(fabric.device),
        batch=recipe.training.batch,
        crop=recipe.data.crop,
        seconds=statistics.median(own[1:]),
        plain_seconds=statistics.median(plains[1:]) if plains else None,
        ratio=statistics.median(ratios) if ratios else None,
        waiting=waits / total,
    )


def is_papers_kind(recipe: Recipe) -> bool:
    """Whether the plain step trains the same networks for the same losses."""
    kind = (recipe.generator.name, recipe.discriminator.name, recipe.loss.game)
    loss = recipe.loss
    return kind == ("resnet", "patch", "wgan-gp") and bool(loss.content) and not loss.pixel
