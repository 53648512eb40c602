"""The plain step is the paper's, and the measurement measures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deblurgan.benchmarks.training import PlainStep, measure_training
from deblurgan.train.devices import Devices, make_fabric
from deblurgan.train.recipe import load_recipe
from deblurgan.train.step import load_content_weights, set_up_players, train_step

TINY = [
    "generator.channels=4", "generator.blocks=1", "generator.dropout=0", "discriminator.channels=4",
    "discriminator.layers=1", "loss.critic_steps=2", "data.crop=32", "data.scale=1",
]  # fmt: skip


def test_the_plain_step_makes_the_same_networks_as_ours(vgg: Path) -> None:
    """Two transcriptions of one description: after a step they agree in every weight."""
    recipe = load_recipe("paper", [*TINY, "content.normalise=none"])
    fabric = make_fabric(Devices("cpu"), recipe.training)
    torch.manual_seed(1)
    players = set_up_players(fabric, recipe, load_content_weights(recipe, vgg))
    assert players.critic is not None
    assert players.content is not None
    plain = PlainStep(recipe, fabric.device)
    plain.generator.load_state_dict(players.generator.state_dict())
    plain.critic.load_state_dict(players.critic.discriminator.state_dict())
    plain.features.load_state_dict(players.content.features.features.state_dict())
    plain.penalty = lambda real, fake: 0 * real.sum()  # type: ignore[method-assign]
    players.critic.penalty_weight = 0.0
    pairs = torch.randint(0, 256, (2, 2, 3, 32, 32), dtype=torch.uint8)
    ours = train_step(fabric, recipe, players, pairs, torch.rand(2, 2, 1, 1, 1))["generator"]
    assert plain(pairs) == pytest.approx(ours.item(), rel=1e-4)
    for mine, theirs in zip(
        [*players.generator.parameters(), *players.critic.discriminator.parameters()],
        [*plain.generator.parameters(), *plain.critic.parameters()],
        strict=True,
    ):
        # Adam's first step is the rate in the gradient's direction, whatever its size.
        agree = (mine - theirs).abs() < 1e-5
        assert agree.float().mean() > 0.95 or mine.dim() == 1


@pytest.mark.parametrize("recipe", ["paper", "edge"])
def test_a_measurement_has_figures_of_what_it_ran(recipe: str, pairs: Path, vgg: Path) -> None:
    changes = TINY if recipe == "paper" else ["generator.channels=8", "data.crop=32"]
    result = measure_training(load_recipe(recipe, changes), [str(pairs)], vgg, workers=1, rounds=1)
    assert result.seconds > 0
    assert 0 <= result.waiting < 1
    assert (result.ratio is not None) == (result.plain_seconds is not None) == (recipe == "paper")
