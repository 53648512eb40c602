"""The weights of another run that a run starts from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import load_checkpoint
from deblurgan.train.dormant import begin_anew
from deblurgan.train.networks import describe_generator
from deblurgan.train.recipe import Recipe
from deblurgan.train.samples import Samples, seeded

LOOKED_AT = 128  # pictures, to tell whether a channel ever fires


def check_start(recipe: Recipe, start_from: Path | None) -> None:
    if recipe.training.begin_anew and start_from is None:
        raise DeblurError(
            "training.begin_anew",
            expected="weights to start from, whose channels are looked at",
            found="no --start-from",
            remedy="add --start-from CHECKPOINT, or leave training.begin_anew out",
        )


def starting_weights(
    fabric: Fabric, recipe: Recipe, path: Path, samples: Samples
) -> dict[str, Tensor]:
    """Those of a checkpoint's generator, which must be the recipe's network."""
    found = load_checkpoint(path).generator
    wanted = {"name": recipe.generator.name, "settings": asdict(recipe.generator.settings)}
    if describe_generator(found) != wanted:
        raise DeblurError(
            path,
            expected=f"the recipe's generator, {wanted}",
            found=str(describe_generator(found)),
            remedy="change the recipe with --set generator.name=… and its settings, "
            "or leave --start-from out",
        )
    if recipe.training.begin_anew and fabric.is_global_zero:
        with console.watching("pictures that may make channels fire") as watch:
            blurred = [pair[:1].float() / 127.5 - 1 for pair in samples.distinct(LOOKED_AT, watch)]
        random = torch.Generator().manual_seed(seeded(recipe.training.seed, "begin anew"))
        dormant, channels = begin_anew(found, blurred, random)
        console.say(f"{dormant} of {channels} hidden channels never fire: they begin anew")
    return found.state_dict()
