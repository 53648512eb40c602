"""The networks by name: generators, which make blurred pictures sharp, and the
discriminators that they are trained against.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from deblurgan.train.networks.discriminators import (
    DenseDiscriminator,
    DenseSettings,
    PatchDiscriminator,
    PatchSettings,
)
from deblurgan.train.networks.edge import EdgeGenerator, EdgeSettings
from deblurgan.train.networks.generator import MINIMUM_SIZE, Generator, Skip
from deblurgan.train.networks.layers import Norm
from deblurgan.train.networks.resnet import Padding, ResNetBlock, ResNetGenerator, ResNetSettings
from deblurgan.train.networks.unet import UNetGenerator, UNetSettings

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "MINIMUM_SIZE",
    "DenseDiscriminator",
    "DenseSettings",
    "EdgeGenerator",
    "EdgeSettings",
    "Generator",
    "Norm",
    "Padding",
    "PatchDiscriminator",
    "PatchSettings",
    "ResNetBlock",
    "ResNetGenerator",
    "ResNetSettings",
    "Skip",
    "UNetGenerator",
    "UNetSettings",
    "build_discriminator",
    "build_generator",
    "count_parameters",
    "describe_generator",
]

GENERATORS: dict[str, tuple[type[Generator], type[Any]]] = {
    "resnet": (ResNetGenerator, ResNetSettings),
    "unet": (UNetGenerator, UNetSettings),
    "edge": (EdgeGenerator, EdgeSettings),
}
DISCRIMINATORS: dict[str, tuple[type[nn.Module], type[Any]]] = {
    "patch": (PatchDiscriminator, PatchSettings),
    "dense": (DenseDiscriminator, DenseSettings),
}


def build_generator(name: str, settings: dict[str, Any]) -> Generator:
    """Build a generator by the name and settings that a checkpoint carries.

    Raises ``KeyError`` for an unknown name, ``TypeError`` for unknown settings,
    ``ValueError`` for impossible ones.
    """
    generator, settings_type = GENERATORS[name]
    return generator(settings_type(**settings))


def build_discriminator(name: str, settings: dict[str, Any], crop: int) -> nn.Module:
    """Build a discriminator for square pictures with ``crop`` pixels a side.

    Raises as :func:`build_generator` does.
    """
    discriminator, settings_type = DISCRIMINATORS[name]
    if discriminator is DenseDiscriminator:
        return DenseDiscriminator(settings_type(**settings), crop)
    return discriminator(settings_type(**settings))


def describe_generator(generator: Generator) -> dict[str, Any]:
    """The inverse of :func:`build_generator`: ``{"name": …, "settings": …}``."""
    return {"name": generator.name, "settings": asdict(generator.settings)}


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
