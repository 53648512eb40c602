"""One step: every recipe's networks learn, in every precision a processor has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import devices
from deblurgan.train.devices import Devices, make_fabric
from deblurgan.train.losses import negative_psnr
from deblurgan.train.metrics import psnr
from deblurgan.train.networks import EdgeGenerator
from deblurgan.train.recipe import load_recipe
from deblurgan.train.step import follow, load_content_weights, set_up_players, train_step
from deblurgan.train.teacher import mean_view, stretched

SMALL = {
    "resnet": ("generator.name=resnet", "generator.channels=8", "generator.blocks=2"),
    "unet": ("generator.name=unet", "generator.channels=12", "generator.downs=4"),
    "edge": ("generator.channels=12", "generator.deep_blocks=2"),
}


def blur(sharp: Tensor) -> Tensor:
    """Mean of eleven neighbours."""
    shifted = [sharp.float().roll(shift, -1) for shift in range(-5, 6)]
    return torch.stack(shifted).mean(0).round().to(torch.uint8)


@pytest.fixture
def four_pairs(picture: Tensor) -> Tensor:
    """``[4, 2, 3, 40, 40]``, blurred and sharp."""
    blurred = blur(picture)
    places = [(0, 0), (0, 60), (40, 20), (44, 100)]
    crops = [torch.stack([blurred, picture])[..., y : y + 40, x : x + 40] for y, x in places]
    return torch.stack(crops)


@pytest.mark.parametrize(
    ("name", "distance", "optimiser"),
    [
        *((name, "charbonnier", "adamw") for name in SMALL),
        ("edge", "psnr", "adamw"),
        ("edge", "charbonnier", "muon"),
    ],
)
def test_each_generator_learns_four_pairs_by_heart(
    name: str, distance: str, optimiser: str, four_pairs: Tensor
) -> None:
    recipe = load_recipe(
        "edge", [*SMALL[name], *(["generator.dropout=0"] if name != "edge" else []),
                 "optimiser.learning_rate=2e-3", "training.precision=fp32",
                 f"loss.distance={distance}", f"optimiser.name={optimiser}"],
    )  # fmt: skip
    torch.manual_seed(1)
    fabric = make_fabric(Devices("cpu"), recipe.training)
    players = set_up_players(fabric, recipe, None)
    before = psnr(four_pairs[:, 0], four_pairs[:, 1])
    assert before < 27
    mix = torch.zeros(1, 4, 1, 1, 1)
    for step in range(300):
        players.set_rate(2e-3 * (1 - step / 300))
        train_step(fabric, recipe, players, four_pairs, mix)
    with torch.no_grad():
        restored = players.generator(four_pairs[:, 0].float() / 127.5 - 1)
    pictures = ((restored + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    assert psnr(pictures, four_pairs[:, 1]) > 30


def test_the_floor_is_added_to_each_pictures_error(four_pairs: Tensor) -> None:
    """A new generator leaves pictures as they are."""
    floor = 4.0
    changes = ("training.precision=fp32", "loss.distance=psnr", f"loss.floor={floor}")
    recipe = load_recipe("edge", [*SMALL["edge"], *changes])
    fabric = make_fabric(Devices("cpu"), recipe.training)
    players = set_up_players(fabric, recipe, None)
    losses = train_step(fabric, recipe, players, four_pairs, torch.zeros(1, 4, 1, 1, 1))
    blurred, sharp = (four_pairs.double() / 127.5 - 1).unbind(1)
    squared = (blurred - sharp).square().mean((1, 2, 3))
    expected = 10 * (squared + floor).log10().mean().item()
    assert losses["pixel"].item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_student_learns_what_the_teacher_shows(precision: str, four_pairs: Tensor) -> None:
    """A teacher that leaves pictures blurred, as a new generator does."""
    changes = (f"training.precision={precision}", "loss.distance=psnr", "teacher.share=1")
    recipe = load_recipe("edge", [*SMALL["edge"], *changes])
    torch.manual_seed(1)
    fabric = make_fabric(Devices("cpu"), recipe.training)
    teacher = EdgeGenerator(recipe.generator.settings).train()
    players = set_up_players(fabric, recipe, None, teacher)
    torch.nn.init.normal_(players.generator.tail[0].weight, std=0.02)
    blurred = four_pairs[:, 0].float() / 127.5 - 1

    def distance() -> float:
        with torch.no_grad():
            return float((players.generator(blurred) - blurred).square().mean())

    before = distance()
    for step in range(60):
        players.set_rate(2e-3 * (1 - step / 60))
        train_step(fabric, recipe, players, four_pairs, torch.zeros(1, 4, 1, 1, 1), [2, 5])
    assert distance() < before / 10
    assert players.teacher is not None
    assert not players.teacher.training
    assert not any(p.requires_grad for p in players.teacher.parameters())


@pytest.mark.parametrize("stretch", [True, False])
def test_a_teachers_change_is_stretched_where_the_recipe_says(
    stretch: bool, four_pairs: Tensor
) -> None:
    changes = ("training.precision=fp32", "loss.distance=psnr", "teacher.share=1",
               f"teacher.stretch={str(stretch).lower()}")  # fmt: skip
    recipe = load_recipe("edge", [*SMALL["edge"], *changes])
    torch.manual_seed(1)
    fabric = make_fabric(Devices("cpu"), recipe.training)
    teacher = EdgeGenerator(recipe.generator.settings)
    torch.nn.init.normal_(teacher.tail[0].weight, std=0.02)
    players = set_up_players(fabric, recipe, None, teacher)
    blurred, sharp = (four_pairs.float() / 127.5 - 1).unbind(1)
    view = mean_view(teacher, blurred, [0, 3])
    target = stretched(view, blurred, sharp) if stretch else view
    assert (stretched(view, blurred, sharp) - view).abs().max() > 0.01
    expected = negative_psnr(blurred, target).item()
    losses = train_step(fabric, recipe, players, four_pairs, torch.zeros(1, 4, 1, 1, 1), [0, 3])
    assert losses["pixel"].item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["paper", "keras"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_adversarial_recipes_move_both_networks(
    name: str, precision: str, four_pairs: Tensor, vgg: Path
) -> None:
    recipe = load_recipe(
        name, ["generator.channels=4", "generator.blocks=1", "discriminator.channels=4",
               "data.crop=40", f"training.precision={precision}"],
    )  # fmt: skip
    torch.manual_seed(1)
    fabric = make_fabric(Devices("cpu"), recipe.training)
    players = set_up_players(fabric, recipe, load_content_weights(recipe, vgg))
    assert players.critic is not None
    assert players.content is not None
    networks = (players.generator, players.critic, players.content)
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    mix = torch.rand(5, 4, 1, 1, 1)
    losses = [train_step(fabric, recipe, players, four_pairs, mix) for _ in range(8)]
    after = [list(network.parameters()) for network in networks]
    moved = [
        any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
        for one, other in zip(before, after, strict=True)
    ]
    assert moved == [True, True, False]
    assert all(p.dtype == torch.float32 for part in after for p in part)
    assert losses[-1]["content"] < losses[0]["content"]
    assert (losses[0]["penalty"] > 0) == (name == "paper")
    total = losses[0]["adversarial"] + 100 * losses[0]["content"]
    assert losses[0]["generator"] == pytest.approx(total.item(), rel=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["edge", "paper", "keras"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_in_every_precision(
    name: str, precision: str, four_pairs: Tensor, vgg: Path
) -> None:
    changes = ["data.crop=40", f"training.precision={precision}"]
    if name != "edge":
        changes += ["generator.channels=4", "generator.blocks=1", "discriminator.channels=4"]
    recipe = load_recipe(name, changes)
    torch.manual_seed(1)
    fabric = make_fabric(Devices("cuda"), recipe.training)
    players = set_up_players(fabric, recipe, load_content_weights(recipe, vgg))
    mix = torch.rand(5, 4, 1, 1, 1).cuda()
    losses = [train_step(fabric, recipe, players, four_pairs.cuda(), mix) for _ in range(20)]
    assert losses[-1]["generator"].isfinite()
    distance = "pixel" if name == "edge" else "content"
    assert losses[-1][distance] < losses[0][distance]
    assert all(p.dtype == torch.float32 for p in players.generator.parameters())


@pytest.mark.parametrize(
    ("instructions", "told", "auto"),
    [
        (("AVX2", "AVX-512", "VNNI", "bf16"), False, "bf16-mixed"),
        (("AVX2", "AVX-512", "VNNI"), True, "32-true"),
        (("dot products", "bf16"), False, "32-true"),  # Arm's, where nobody has measured it
        ((), False, "32-true"),  # a system that does not tell
    ],
)
def test_bf16_is_taken_where_it_is_faster_and_told_where_it_is_imitated(
    instructions: tuple[str, ...],
    told: bool,
    auto: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(devices, "find_instructions", lambda: instructions)
    assert devices.make_precision("bf16", "cpu").precision == "bf16-mixed"
    assert ("fp32 is faster" in capsys.readouterr().err) is told
    assert devices.make_precision("auto", "cpu").precision == auto
    assert capsys.readouterr().err == ""


def test_fp16_is_refused_on_a_processor() -> None:
    recipe = load_recipe("edge", ["training.precision=fp16"])
    with pytest.raises(DeblurError, match="fp32 or bf16 on a processor"):
        make_fabric(Devices("cpu"), recipe.training)


def test_mixed_precision_keeps_the_picture_itself_whole(four_pairs: Tensor) -> None:
    """The global skip adds the input: rounded to 8 bits of mantissa it would lose levels."""
    recipe = load_recipe("edge", [*SMALL["edge"], "training.precision=bf16"])
    fabric = make_fabric(Devices("cpu"), recipe.training)
    players = set_up_players(fabric, recipe, None)
    blurred = four_pairs[:, 0].float() / 127.5 - 1
    assert torch.equal(players.generate(blurred), blurred)  # edge begins as the identity


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_the_average_follows_weights_and_takes_buffers(
    decay: float, tiny_edge: EdgeGenerator
) -> None:
    average = EdgeGenerator(tiny_edge.settings)
    old = [p.detach().clone() for p in average.parameters()]
    follow(average, tiny_edge, decay)
    for now, before, target in zip(average.parameters(), old, tiny_edge.parameters(), strict=True):
        torch.testing.assert_close(now, decay * before + (1 - decay) * target)
