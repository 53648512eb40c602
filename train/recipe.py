"""Recipes: everything that decides what a training run computes, in one TOML file.

A recipe is a handful of frozen dataclasses, one for each table of the file.
Their docstrings document the file: :func:`render_recipe` writes them above
the values, and so do the recipes that are shipped.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import TypeAdapter, ValidationError

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.blur import BlurRecipe
from deblurgan.train.crops import ORIENTATIONS
from deblurgan.train.networks import DISCRIMINATORS, GENERATORS, build_generator
from deblurgan.train.networks.discriminators import DENSE_STRIDE
from deblurgan.train.samples import SampleSettings
from deblurgan.train.settings import DOCUMENTED, at_least

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


Arithmetic = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Network:
    """A network by the name it is registered under, and its settings."""

    name: str
    settings: Any


@dataclass(frozen=True)
class LossSettings:
    """What the generator is trained for."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    pixel: float = 0.0
    """Weight of the distance between the pixels, in [-1, 1]."""
    distance: Literal["charbonnier", "psnr"] = "charbonnier"
    """charbonnier, a smooth L1; or psnr, each picture's own, negated: in dB, some hundred
    times as large."""
    floor: float = 1e-4
    """Of psnr: added to a picture's mean squared error in [-1, 1], so that those much sharper
    than it hardly count; 1e-4 is 46 dB, 1e-3 36."""
    content: float = 100.0
    """Weight of the squared distance between VGG's features."""
    adversarial: float = 1.0
    """Weight of the discriminator's verdict; 0 trains without a discriminator."""
    game: Literal["wgan-gp", "wgan", "lsgan", "gan"] = "wgan-gp"
    """The adversarial loss: wgan-gp, wgan (no penalty), lsgan or gan."""
    penalty: float = 10.0
    """Weight of wgan-gp's gradient penalty."""
    critic_steps: int = 5
    """Steps of the discriminator for each step of the generator."""

    def __post_init__(self) -> None:
        at_least(0, self, "pixel", "content", "adversarial", "penalty")
        at_least(1e-8, self, "floor")
        at_least(1, self, "critic_steps")
        if not (self.pixel or self.content or self.adversarial):
            raise ValueError("one of pixel, content and adversarial must be above 0")


@dataclass(frozen=True)
class TeacherSettings:
    """What counts of the pictures of a run's --teacher, where it has one."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    share: float = 0.9
    """Share of the distance between the pixels that is to the picture of the run's
    --teacher, from 0 to 1; the rest is to the sharp one. Without a teacher all is."""
    views: int = 4
    """Orientations that it looks at each batch in, 1 to 8 and drawn from what data.flips
    allows: the mean of what it sees is nearer to the truth, and each takes a pass."""
    stretch: bool = False
    """Scale its change of each picture, band of frequencies by band, by what brings it nearest
    to the sharp one, 0 to 1.6."""

    def __post_init__(self) -> None:
        at_least(1, self, "views")
        if self.views > len(ORIENTATIONS["all"]):
            raise ValueError(f"views must be at most {len(ORIENTATIONS['all'])}")
        if not 0 <= self.share <= 1:
            raise ValueError("share must lie from 0 to 1")


@dataclass(frozen=True)
class ContentSettings:
    """The network whose features the content loss compares, up to its conv3_3."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    network: Literal["vgg16", "vgg19"] = "vgg19"
    """vgg16 or vgg19."""
    after_relu: bool = False
    """Compare behind the last layer's ReLU, as the Keras article does, or before it."""
    normalise: Literal["imagenet", "none"] = "imagenet"
    """imagenet: pictures as the network saw them in its own training; none: in
    [-1, 1], as the original release and the Keras article feed them."""
    preprocessing: Literal["auto", "torchvision", "caffe"] = "auto"
    """What the weights were trained with: torchvision (RGB, mean and deviation), caffe
    (BGR, 0 to 255, mean; Keras has these too), or auto: told by their features."""


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights move; the same for the generator and the discriminator."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    name: Literal["adam", "adamw", "muon"] = "adam"
    """adam, adamw, or muon: orthogonal updates of weights with two axes or more, adamw's of
    biases and norms."""
    learning_rate: float = 1e-4
    """At its highest."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of the gradient's first and second moment; for muon the first is usually 0.95, and
    the second is of biases and norms alone."""
    epsilon: float = 1e-8
    """Keeps the division by the second moment finite."""
    weight_decay: float = 0.0
    """Of adamw and muon; adam takes 0."""
    clip: float = 0.0
    """Largest norm of the generator's gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        at_least(0, self, "learning_rate", "epsilon", "weight_decay", "clip")
        if self.weight_decay and self.name == "adam":
            raise ValueError("weight_decay is adamw's and muon's")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must lie from 0 up to, not at, 1")


@dataclass(frozen=True)
class ScheduleSettings:
    """How long a run is, and what becomes of the learning rate."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    epochs: int = 0
    """Length of the run in epochs. 0: see steps."""
    steps: int = 0
    """Length of the run in steps of the generator. 0 here and in epochs: the run
    lasts for --time-limit, over which the learning rate decays."""
    hold: float = 0.0
    """Share of the run before the decay begins."""
    decay: Literal["linear", "cosine", "none"] = "linear"
    """From the highest learning rate to (nearly) nothing: linear, cosine or none."""
    warm_up: int = 0
    """Steps in which the learning rate rises from nothing."""

    def __post_init__(self) -> None:
        at_least(0, self, "epochs", "steps", "warm_up")
        if self.epochs and self.steps:
            raise ValueError("give epochs or steps, not both")
        if not 0 <= self.hold <= 1:
            raise ValueError("hold must be a share from 0 to 1")


@dataclass(frozen=True)
class TrainingSettings:
    """The loop."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    batch: int = 1
    """Pairs in a step, on each device."""
    seed: int = 1
    """Of weights, order, blur and dropout."""
    precision: Arithmetic = "fp32"
    """Of the arithmetic; weights stay fp32. auto: bf16 on a GPU or an x86-64 processor
    that has it, else fp32."""
    compile: bool = False
    """Compile the generator and VGG with torch.compile (minutes at the start); the
    discriminator stays eager, since its penalty is differentiated twice."""
    deterministic: bool = True
    """Ask PyTorch for deterministic algorithms; a GPU pays some speed for it."""
    ema: float = 0.999
    """Decay of the generator's moving average, which is what is validated and saved."""
    validate_every: int = 0
    """Steps between validations; 0: once an epoch."""
    validation_pairs: int = 24
    """Held-out pairs to validate on, at most."""
    save_every: float = 300.0
    """Seconds between two states to resume from, at most."""
    begin_anew: bool = False
    """Give hidden channels of the weights in --start-from (edge's alone) that none of 128
    pictures makes fire new ones, which change none of these at first and can learn again."""
    collapse: float = 6.0
    """Stop when the held-out pairs come out this many dB worse than at their best."""

    def __post_init__(self) -> None:
        at_least(1, self, "batch", "validation_pairs")
        at_least(0, self, "seed", "validate_every", "save_every", "collapse")
        if self.seed >= 2**63:
            raise ValueError("seed must be below 2 to the power of 63")
        if not 0 <= self.ema < 1:
            raise ValueError("ema must lie from 0 up to, not at, 1")


@dataclass(frozen=True)
class Recipe:
    """A training run, but for its data and the device."""

    generator: Network
    discriminator: Network
    loss: LossSettings
    teacher: TeacherSettings
    content: ContentSettings
    optimiser: OptimiserSettings
    schedule: ScheduleSettings
    training: TrainingSettings
    data: SampleSettings
    blur: BlurRecipe


NETWORKS: dict[str, dict[str, tuple[Any, type[Any]]]] = {
    "generator": cast(Any, GENERATORS),
    "discriminator": cast(Any, DISCRIMINATORS),
}
TABLES: dict[str, type[Any]] = {
    "loss": LossSettings,
    "teacher": TeacherSettings,
    "content": ContentSettings,
    "optimiser": OptimiserSettings,
    "schedule": ScheduleSettings,
    "training": TrainingSettings,
    "data": SampleSettings,
    "blur": BlurRecipe,
}
SHIPPED = ("edge", "paper", "keras")


def load_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """A shipped recipe by its name, or a TOML file, with ``table.key=value`` changes.

    Raises ``DeblurError`` for anything the recipe does not know or cannot be.
    """
    document = read_document(name)
    # A network's name first, which takes the settings of the one before with it.
    for change in sorted(changes, key=lambda change: not names_a_network(change)):
        apply_change(document, change)
    return parse_recipe(document, name)


def parse_recipe(document: dict[str, Any], source: str) -> Recipe:
    """Validate a recipe's tables; what is left out has its default."""
    refuse_unknown(source, "", document, [*NETWORKS, *TABLES])
    for name, table in document.items():
        if not isinstance(table, dict):
            raise wrong(source, name, "a table", repr(table))
    networks = {name: parse_network(source, name, document.get(name, {})) for name in NETWORKS}
    tables = {
        name: parse_table(source, name, kind, document.get(name, {}))
        for name, kind in TABLES.items()
    }
    recipe = Recipe(**cast(Any, networks), **tables)
    check_crop(source, recipe)
    if recipe.training.begin_anew and recipe.generator.name != "edge":
        raise wrong(source, "training.begin_anew", "false but for the edge generator", "true")
    if recipe.loss.game == "gan" and getattr(recipe.discriminator.settings, "sigmoid", False):
        raise wrong(source, "discriminator.sigmoid", "false where loss.game is gan", "true")
    return recipe


def check_crop(source: str, recipe: Recipe) -> None:
    """The networks must take pictures of the size that they are trained on."""
    with torch.device("meta"):  # without memory: for its smallest size alone
        generator = build_generator(recipe.generator.name, vars(recipe.generator.settings))
    smallest = {"the generator": generator.minimum_size}
    if recipe.loss.adversarial and recipe.discriminator.name == "dense":
        smallest["the dense discriminator"] = 2 * DENSE_STRIDE
    for network, side in smallest.items():
        if recipe.data.crop < side:
            raise wrong(
                source, "data.crop", f"at least {side} for {network}", str(recipe.data.crop)
            )


def recipe_document(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The inverse of :func:`parse_recipe`: complete tables of what TOML and JSON have."""
    document = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if isinstance(value, Network):
            document[field.name] = {"name": value.name, **asdict(value.settings)}
        else:
            document[field.name] = asdict(value)
    return cast(dict[str, dict[str, Any]], json.loads(json.dumps(document)))


def render_recipe(recipe: Recipe) -> str:
    """The recipe as TOML, every value there and explained."""
    lines: list[str] = []
    for name, table in recipe_document(recipe).items():
        value = getattr(recipe, name)
        kind = type(value.settings if isinstance(value, Network) else value)
        lines += ["", f"[{name}]"]
        if isinstance(value, Network):
            lines += [f"# {', '.join(NETWORKS[name])}. What follows are its own settings."]
        explained = TypeAdapter(kind).json_schema()["properties"]
        for key, setting in table.items():
            text = explained[key]["description"] if key in explained else ""
            lines += [f"# {line.strip()}" for line in text.splitlines()]
            lines.append(f"# {key} is not set" if setting is None else f"{key} = {toml(setting)}")
    return "\n".join(lines).lstrip() + "\n"


def recipe_differences(one: Recipe, other: dict[str, Any]) -> list[str]:
    """What the recipe and a document of another say differently, one line each."""
    return [
        f"{table}.{key} is {toml(value)}, was {toml(other.get(table, {}).get(key))}"
        for table, values in recipe_document(one).items()
        for key, value in values.items()
        if other.get(table, {}).get(key) != value
    ]


def read_document(name: str) -> dict[str, Any]:
    shipped = name in SHIPPED
    path = files("deblurgan.train") / "recipes" / f"{name}.toml" if shipped else Path(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeblurError(
            name,
            expected=f"a recipe: {', '.join(SHIPPED)}, or a TOML file",
            found=(error.strerror or str(error)).lower(),
            remedy=f"write one with: deblur-train recipe edge > {Path(name).stem}.toml",
        ) from None
    except (ValueError, RecursionError) as error:  # not in TOML alone: 5,000 digits, or brackets
        raise DeblurError(
            name,
            expected="a recipe in TOML",
            found=str(error).lower(),
            remedy="see how one looks with: deblur-train recipe edge",
        ) from None


def names_a_network(change: str) -> bool:
    table, _, key = change.partition("=")[0].strip().partition(".")
    return table in NETWORKS and key == "name"


def apply_change(document: dict[str, Any], change: str) -> None:
    """Put one ``table.key=value`` into a recipe's document."""
    place, equals, text = change.partition("=")
    table, dot, key = place.strip().partition(".")
    if not (equals and dot and key):
        raise DeblurError(
            "--set",
            expected="TABLE.KEY=VALUE",
            found=change,
            remedy="for example --set training.batch=4",
        )
    values = document.setdefault(table, {})
    if not isinstance(values, dict):
        return  # parse_recipe() says what is wrong
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    if table in NETWORKS and key == "name" and values.get("name") != value:
        values.clear()  # the settings were the other network's
    values[key] = value


def parse_network(source: str, table: str, values: dict[str, Any]) -> Network:
    choices = NETWORKS[table]
    settings = dict(values)
    name = settings.pop("name", next(iter(choices)))
    if not isinstance(name, str) or name not in choices:
        raise wrong(source, f"{table}.name", " or ".join(choices), str(name))
    return Network(name, parse_table(source, table, choices[name][1], settings))


def parse_table(source: str, table: str, kind: type[Any], values: dict[str, Any]) -> Any:
    adapter = TypeAdapter(kind)
    refuse_unknown(source, f"{table}.", values, list(adapter.json_schema()["properties"]))
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([table, *(str(part) for part in first["loc"])])
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if not first["loc"]:  # of the table as a whole
            raise wrong(source, key, "values that can be", f"others: {said}") from None
        raise wrong(source, key, said, repr(first["input"])) from None


def refuse_unknown(source: str, prefix: str, values: dict[str, Any], known: list[str]) -> None:
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            raise wrong(
                source,
                prefix + key,
                f"a key that recipes have ({', '.join(known)})",
                f"{prefix}{key}" + (f": do you mean {prefix}{close[0]}?" if close else ""),
            )


def wrong(source: str, key: str, expected: str, found: str) -> DeblurError:
    return DeblurError(
        f"recipe {source}, {key}",
        expected=expected,
        found=found,
        remedy="each value is explained by: deblur-train recipe "
        + (source if source in SHIPPED else "edge"),
    )


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml(item) for item in value)}]"
    return json.dumps(value)
