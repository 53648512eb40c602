"""Recipes: what is shipped, what is refused, and that text and values agree."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.recipe import (
    SHIPPED,
    load_recipe,
    parse_recipe,
    recipe_differences,
    recipe_document,
    render_recipe,
    tomllib,
)

RECIPES = Path(__file__).resolve().parents[2] / "train" / "recipes"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_the_rendered_recipe_with_every_value_explained(name: str) -> None:
    """Whoever changes a docstring or a default writes the files again with
    ``deblur-train recipe NAME``, under the file's own first lines.
    """
    text = (RECIPES / f"{name}.toml").read_text()
    introduction, rendered = text.split("\n\n", 1)
    assert all(line.startswith("#") for line in introduction.splitlines())
    assert rendered == render_recipe(load_recipe(name))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_value_has_a_comment_above_it(name: str) -> None:
    lines = render_recipe(load_recipe(name)).splitlines()
    for before, line in itertools.pairwise(lines):
        if "=" in line and not line.startswith("#") and not line.startswith("name ="):
            assert before.startswith("# "), line


def test_a_rendered_recipe_reads_back_as_itself() -> None:
    recipe = load_recipe("paper", ["generator.channels=8", "data.mixture=[2, 1]"])
    assert parse_recipe(tomllib.loads(render_recipe(recipe)), "text") == recipe


def test_paper_is_the_papers() -> None:
    recipe = load_recipe("paper")
    generator = recipe.generator
    assert (generator.name, generator.settings.blocks, generator.settings.channels) == (
        "resnet",
        9,
        64,
    )
    assert (generator.settings.norm, generator.settings.dropout) == ("instance", 0.5)
    assert generator.settings.skip == "clamp"
    assert recipe.discriminator.name == "patch"
    loss = recipe.loss
    assert (loss.game, loss.penalty, loss.critic_steps) == ("wgan-gp", 10, 5)
    assert (loss.content, loss.adversarial, loss.pixel) == (100, 1, 0)
    assert (recipe.content.network, recipe.content.after_relu) == ("vgg19", False)
    optimiser, schedule = recipe.optimiser, recipe.schedule
    assert (optimiser.name, optimiser.learning_rate, optimiser.betas) == (
        "adam",
        1e-4,
        (0.5, 0.999),
    )
    assert (schedule.epochs, schedule.hold, schedule.decay) == (300, 0.5, "linear")
    assert (recipe.training.batch, recipe.data.crop, recipe.data.scale) == (1, 256, 0.5)
    assert (recipe.data.fit, recipe.data.flips) == ("crop", "horizontal")


def test_keras_is_the_articles() -> None:
    recipe = load_recipe("keras")
    settings = recipe.generator.settings
    assert (settings.norm, settings.dropout, settings.skip) == ("batch", 0.5, "average")
    assert settings.alignment == "tensorflow"
    assert recipe.discriminator.name == "dense"
    assert (recipe.loss.game, recipe.loss.critic_steps, recipe.loss.content) == ("wgan", 5, 100)
    assert (recipe.content.network, recipe.content.after_relu) == ("vgg16", True)
    assert recipe.content.normalise == "none"
    assert recipe.optimiser.betas == (0.9, 0.999)
    assert (recipe.optimiser.learning_rate, recipe.optimiser.epsilon) == (1e-4, 1e-8)
    assert (recipe.schedule.epochs, recipe.schedule.decay) == (50, "none")
    assert (recipe.training.batch, recipe.data.crop, recipe.data.fit) == (16, 256, "resize")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("training.batch=4", 4),
        ("training.precision=bf16", "bf16"),
        ('training.precision="bf16"', "bf16"),
        ("training.batch = 4", 4),
    ],
)
def test_set_changes_one_value(change: str, expected: object) -> None:
    key = change.split(".")[1].split("=")[0].strip()
    recipe = load_recipe("edge", [change])
    assert getattr(recipe.training, key) == expected
    before, after = recipe_document(load_recipe("edge")), recipe_document(recipe)
    assert before.pop("training") != after.pop("training")
    assert before == after


def test_another_network_begins_from_its_own_defaults() -> None:
    recipe = load_recipe("paper", ["generator.name=unet", "generator.channels=8"])
    assert recipe.generator.name == "unet"
    assert recipe.generator.settings.channels == 8
    assert recipe.generator.settings.downs == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.bach=4", ["training.bach", "do you mean training.batch?"]),
        ("trainin.batch=4", ["trainin", "do you mean training?"]),
        ("training.batch=0", ["at least 1"]),
        ("training.batch=two", ["training.batch", "integer", "'two'"]),
        ("training.batch", ["TABLE.KEY=VALUE"]),
        ("batch=4", ["TABLE.KEY=VALUE"]),
        ("loss.game=hinge", ["loss.game", "'wgan-gp'", "'hinge'"]),
        ("generator.name=vit", ["generator.name", "resnet", "vit"]),
        ("generator.chanels=4", ["generator.chanels", "generator.channels"]),
        ("loss.floor=0", ["floor must be at least 1e-08, not 0"]),
        ("optimiser.name=sgd", ["optimiser.name", "'muon'", "'sgd'"]),
        ("optimiser.betas=[0.5, 1.0]", ["betas"]),
        ("optimiser.learning_rate=nan", ["learning_rate"]),
        ("optimiser.weight_decay=0.1", ["adamw"]),
        ("schedule.epochs=1", ["epochs or steps"]),
        ("data.crop=0", ["crop"]),
        ("blur.noise=[1]", ["blur.noise"]),
        ("blur.noise=[3, 1]", ["noise"]),
        ("generator.name=[1]", ["generator.name", "[1]"]),
        ("optimiser.epsilon=-1", ["epsilon must be at least 0, not -1"]),
        ("optimiser.learning_rate=inf", ["learning_rate"]),
        ("training.seed=99999999999999999999", ["seed must be below"]),
        ("data.scale=1e-12", ["scale"]),
        ("teacher.views=9", ["views must be at most 8"]),
        ("teacher.share=1.5", ["share must lie from 0 to 1"]),
        ("teacher.share=nan", ["share must lie from 0 to 1"]),
        ("data.crop=8", ["data.crop", "at least 16 for the generator", "8"]),
    ],
)
def test_a_wrong_change_is_named_with_what_would_do(change: str, words: list[str]) -> None:
    name = "paper" if change.startswith("optimiser.weight") else "edge"
    changes = ["schedule.steps=3", change] if change.startswith("schedule") else [change]
    with pytest.raises(DeblurError) as error:
        load_recipe(name, changes)
    for word in words:
        assert word in str(error.value)


def test_a_crop_too_small_for_the_chosen_generator_is_told() -> None:
    with pytest.raises(DeblurError, match=r"data\.crop.*at least 129 for the generator.*128"):
        load_recipe("edge", ["generator.name=unet", "data.crop=128"])


def test_only_edge_has_channels_that_can_begin_anew() -> None:
    with pytest.raises(DeblurError, match=r"training\.begin_anew: expected false but for .*edge"):
        load_recipe("paper", ["training.begin_anew=true"])


def test_a_second_sigmoid_is_refused() -> None:
    with pytest.raises(DeblurError, match=r"discriminator\.sigmoid: expected false"):
        load_recipe("keras", ["loss.game=gan"])
    load_recipe("keras", ["loss.game=gan", "discriminator.sigmoid=false"])


def test_the_dense_discriminator_wants_something_to_see() -> None:
    with pytest.raises(DeblurError, match=r"data\.crop: expected at least 32 for the dense"):
        load_recipe("keras", ["data.crop=16", "data.fit=crop"])


def test_a_network_s_name_may_come_after_its_settings() -> None:
    changes = ["generator.blocks=2", "generator.name=resnet"]
    assert load_recipe("edge", changes) == load_recipe("edge", changes[::-1])
    assert load_recipe("edge", changes).generator.settings.blocks == 2  # type: ignore[attr-defined]


def test_a_file_is_read_and_its_faults_are_named_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nbatch = 3\n")
    assert load_recipe(str(path)).training.batch == 3
    path.write_text("[training]\nbatch = 3\n[training]\n")
    with pytest.raises(DeblurError, match=r"mine\.toml: expected a recipe in TOML"):
        load_recipe(str(path))
    path.write_text("training = 3\n")
    with pytest.raises(DeblurError, match=r"mine\.toml, training: expected a table"):
        load_recipe(str(path))
    with pytest.raises(DeblurError, match=r"deblur-train recipe edge > none\.toml"):
        load_recipe(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("text", ["[" * 5000, "a = 1" + "1" * 5000])
def test_what_the_parser_itself_cannot_take_is_a_fault_of_the_file(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(DeblurError, match="expected a recipe in TOML"):
        load_recipe(str(tmp_path / "mine.toml"))
    with pytest.raises(DeblurError, match=r"training\.seed"):
        load_recipe("edge", [f"training.seed={text[4:]}"])


def test_differences_name_each_value_that_changed() -> None:
    before = recipe_document(load_recipe("edge"))
    after = load_recipe("edge", ["training.batch=3", "data.flips=none"])
    differences = recipe_differences(after, before)
    assert sorted(line.split(" is ")[0] for line in differences) == ["data.flips", "training.batch"]
    assert recipe_differences(after, recipe_document(after)) == []
