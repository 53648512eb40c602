"""One step of a run: the critic's updates, then the generator's.

The critic plays against the picture that the generator makes once in a step;
that one picture, with its graph, then serves the generator's own update.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from deblurgan.train.losses import Critic, Taught, charbonnier, negative_psnr
from deblurgan.train.muon import Muon
from deblurgan.train.networks import Generator, build_discriminator, build_generator
from deblurgan.train.recipe import OptimiserSettings, Recipe
from deblurgan.train.teacher import mean_view, stretched
from deblurgan.train.vgg import ContentLoss, VggWeights, load_vgg

Module = TypeVar("Module", bound=nn.Module)


@dataclass
class Players:
    """The networks of a run. ``generator`` and ``critic`` are themselves; those
    to call are ``generate`` and ``judge``, which Fabric has set up for the
    devices and the precision.
    """

    generator: Generator
    average: Generator
    generate: Any
    optimiser: Any
    critic: Critic | None = None
    judge: Any = None
    critic_optimiser: Any = None
    content: ContentLoss | None = None
    teacher: Generator | None = None

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all networks."""
        for optimiser in (self.optimiser, self.critic_optimiser):
            for group in optimiser.param_groups if optimiser else ():
                group["lr"] = rate


def load_content_weights(recipe: Recipe, file: Path | None) -> VggWeights | None:
    """VGG's weights for recipes with a content loss; ``file`` as :func:`load_vgg` has it."""
    if not recipe.loss.content:
        return None
    return load_vgg(recipe.content.network, file, recipe.content.preprocessing)


def set_up_players(
    fabric: Fabric, recipe: Recipe, vgg: VggWeights | None, teacher: Generator | None = None
) -> Players:
    """Build the networks of a recipe, with random weights, on the run's devices."""
    generator = build_generator(recipe.generator.name, vars(recipe.generator.settings))
    generator = laid_out(generator, fabric.device).train()
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    content = None
    if vgg is not None:
        settings = recipe.content
        content = ContentLoss(vgg, after_relu=settings.after_relu, normalise=settings.normalise)
        content = laid_out(content, fabric.device).to(fabric.device)
    if recipe.training.compile:
        generator.compile()
        if content is not None:
            content.compile()
    optimiser = make_optimiser(recipe.optimiser, generator)
    generate, optimiser = fabric.setup(generator, optimiser)
    players = Players(generator, average.to(fabric.device), generate, optimiser, content=content)
    if teacher is not None:
        teacher = laid_out(teacher, fabric.device).to(fabric.device)
        players.teacher = teacher.eval().requires_grad_(False)
    if recipe.loss.adversarial:
        chosen = recipe.discriminator
        discriminator = build_discriminator(chosen.name, vars(chosen.settings), recipe.data.crop)
        discriminator = laid_out(discriminator, fabric.device).train()
        critic = Critic(discriminator, recipe.loss.game, recipe.loss.penalty)
        players.critic = critic
        players.judge, players.critic_optimiser = fabric.setup(
            critic, make_optimiser(recipe.optimiser, critic)
        )
    return players


def train_step(
    fabric: Fabric,
    recipe: Recipe,
    players: Players,
    pairs: Tensor,
    mix: Tensor,
    orientations: Sequence[int] = (0,),
) -> dict[str, Tensor]:
    """Update all networks once; the losses, each a number on the device.

    ``pairs`` is uint8 ``[N, 2, 3, H, W]``, blurred and sharp; ``mix`` is
    ``[critic steps, N, 1, 1, 1]`` in [0, 1]: where between real and restored
    the gradient penalty is taken. A teacher sees the batch in ``orientations``.
    """
    blurred, sharp = (part.contiguous() for part in (pairs.float() / 127.5 - 1).unbind(1))
    taught = None
    if players.teacher is not None:
        with fabric.autocast():
            view = mean_view(players.teacher, blurred, orientations)
        if recipe.teacher.stretch:
            view = stretched(view, blurred, sharp)
        taught = Taught(view, recipe.teacher.share)
    restored = players.generate(blurred)
    losses: dict[str, Tensor] = {}
    if players.critic is not None:
        fake = restored.detach()
        for between in mix:
            scores = players.judge(sharp, fake, between)
            players.critic_optimiser.zero_grad(set_to_none=True)
            fabric.backward(scores.total)
            players.critic_optimiser.step()
        losses |= {"critic": scores.adversarial, "penalty": scores.penalty}

    total = restored.new_zeros(())
    with fabric.autocast():
        if recipe.loss.pixel:
            if recipe.loss.distance == "psnr":
                losses["pixel"] = negative_psnr(restored, sharp, recipe.loss.floor, taught)
            else:
                losses["pixel"] = charbonnier(restored, sharp, taught=taught)
            total = total + recipe.loss.pixel * losses["pixel"]
        if players.content is not None:
            losses["content"] = players.content(restored, sharp)
            total = total + recipe.loss.content * losses["content"]
        if players.critic is not None:
            losses["adversarial"] = players.critic.fooled(restored)
            total = total + recipe.loss.adversarial * losses["adversarial"]
    players.optimiser.zero_grad(set_to_none=True)
    fabric.backward(total)
    if recipe.optimiser.clip:
        fabric.clip_gradients(
            players.generate,
            players.optimiser,
            max_norm=recipe.optimiser.clip,
            error_if_nonfinite=False,  # the loop stops on what is not finite, and says more
        )
    players.optimiser.step()
    losses["generator"] = total
    return {name: loss.detach() for name, loss in losses.items()}


@torch.no_grad()
def follow(average: Generator, generator: Generator, decay: float) -> None:
    """Move the exponential moving average a step towards the generator."""
    torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - decay)
    for old, new in zip(average.buffers(), generator.buffers(), strict=True):
        old.copy_(new)


def make_optimiser(settings: OptimiserSettings, module: nn.Module) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}[settings.name]
    return kind(
        module.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
    )


def laid_out(network: Module, device: torch.device) -> Module:
    """The network with its weights in the memory layout that it is fastest in.

    Convolutions like channels last. On a processor an instance norm turns every
    picture back, which costs more than it gains.
    """
    norms = any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())
    if device.type == "cpu" and norms:
        return network
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
