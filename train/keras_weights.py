"""The Keras article's generator (RaphaelMeudec/deblur-gan): its layers are recognised
by their order and shapes, and given to our own network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblurgan.train.keras_file import (
    NORM,
    KerasLayer,
    describe_foreign,
    misfit,
    not_the_articles,
    read_layers,
)
from deblurgan.train.networks import ResNetGenerator, ResNetSettings


@dataclass(frozen=True)
class KerasGenerator:
    """A recognised file: weights under the keys of a ``ResNetGenerator`` with these
    settings, and one sentence about what was recognised.
    """

    settings: ResNetSettings
    weights: dict[str, Tensor]
    recognised: str


def read_keras(path: Path) -> KerasGenerator:
    """Read and recognise an HDF5 file of Keras, without running code out of it.

    Any numbers of channels and blocks will do, and both ways of up-sampling:
    transposed convolutions, as in the article, or pixels repeated and convolved,
    as in its repository's head. Raises ``DeblurError`` for a damaged file, and
    for the weights of any other network.
    """
    return recognise(path, read_layers(path))


def recognise(path: Path, layers: list[KerasLayer]) -> KerasGenerator:
    """Tell the generator's settings by its layers; ``path`` is for errors."""
    convolutions = [layer for layer in layers if layer.is_convolution]
    blocks, odd = divmod(len(convolutions) - 6, 2)
    norms_between = all(
        layer.is_norm if index % 2 else layer.is_convolution for index, layer in enumerate(layers)
    )
    if blocks < 0 or odd or not norms_between or layers[-1].is_norm:
        raise not_the_articles(path, describe_foreign(layers))
    upsampling = convolutions[-3].weights["kernel"]
    settings = ResNetSettings(
        channels=convolutions[0].weights["kernel"].shape[-1],
        blocks=blocks,
        norm="batch",
        bias="bias" in convolutions[0].weights,
        dropout=0.0,
        skip="average",
        # Keras has the inputs before the outputs, and behind them where it transposes.
        upsampling="nearest" if upsampling.shape[2] > upsampling.shape[3] else "transpose",
        alignment="tensorflow",
    )
    with torch.device("meta"):  # without memory: for its keys and shapes alone
        generator = ResNetGenerator(settings)
    counterparts = (
        (key, module)
        for key, module in generator.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d)
    )
    weights = {
        f"{key}.{name}": weight
        for (key, module), layer in zip(counterparts, layers, strict=True)
        for name, weight in convert(path, layer, module).items()
    }
    return KerasGenerator(settings, weights, describe(settings))


def convert(
    path: Path, layer: KerasLayer, module: nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d
) -> dict[str, Tensor]:
    """A layer's weights as ``module`` has them, each of its shape and no other."""
    if isinstance(module, nn.BatchNorm2d):
        shape = (module.num_features,)
        gamma, beta, mean, variance = (checked(path, layer, name, shape) for name in NORM)
        return {
            "weight": as_tensor(gamma),
            "bias": as_tensor(beta),
            "running_mean": as_tensor(mean),
            # Keras adds more to a variance than PyTorch does: the difference goes along.
            "running_var": as_tensor(variance + (layer.epsilon - module.eps)),
            "num_batches_tracked": torch.tensor(0),
        }
    # Height, width, inputs, outputs become outputs, inputs, height, width. Of a
    # transposed convolution both have inputs and outputs the other way round.
    outputs, inputs, height, width = module.weight.shape
    kernel = checked(path, layer, "kernel", (height, width, inputs, outputs))
    converted = {"weight": as_tensor(kernel.transpose(3, 2, 0, 1))}
    if module.bias is not None:
        converted["bias"] = as_tensor(checked(path, layer, "bias", tuple(module.bias.shape)))
    elif "bias" in layer.weights:
        raise misfit(path, f"no bias in {layer.name}, since the first layer has none", "one")
    return converted


def checked(path: Path, layer: KerasLayer, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A weight of this shape, finite, in double precision."""
    values = layer.weights.get(name)
    if values is None or values.shape != shape:
        found = "no such weight" if values is None else str(list(values.shape))
        raise misfit(path, f"{layer.name}/{name} {list(shape)}", found)
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise misfit(path, f"finite numbers in {layer.name}/{name}", "others")
    return values.astype(np.float64)


def as_tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def describe(settings: ResNetSettings) -> str:
    doubling = {
        "transpose": "transposed convolutions",
        "nearest": "up-sampling and convolutions",
    }
    return (
        f"Keras article's generator: {settings.blocks} blocks, {settings.channels} channels, "
        f"batch norm, {doubling[settings.upsampling]}"
    )
