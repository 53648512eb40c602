"""Discriminators: pictures in, scores out, the higher the sharper they look.

Pictures are float ``[N, 3, H, W]``, RGB in [-1, 1]. A score of several
patches is one score for each; a picture's own is their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.train.networks.layers import InstanceNorm2d, initialise_normal
from deblurgan.train.settings import DOCUMENTED, at_least

KERNEL = 4
SLOPE = 0.2
DENSE_STRIDE = 16  # pixels to a value of what the dense layers see


@dataclass(frozen=True)
class PatchSettings:
    """The release's PatchGAN, whose scores see 70x70 pixels each."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    channels: int = 64
    """Channels of the first layer, at least 1; twice as many in each further one, up to
    eight times."""
    layers: int = 3
    """Layers that halve the size, at least 1; a score sees 16, 34, 70 or 142 pixels
    with 1, 2, 3 or 4 of them."""
    norm: Literal["instance", "batch", "none"] = "instance"
    """instance (each picture's own statistics), batch, or none."""

    def __post_init__(self) -> None:
        at_least(1, self, "channels", "layers")


class PatchDiscriminator(nn.Module):
    """Scores ``[N, 1, H', W']``, one for each patch; logits, any height and width.

    ``model`` is in the order of the original release, so that its keys fit.
    """

    name: ClassVar[str] = "patch"

    def __init__(self, settings: PatchSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or PatchSettings()
        layers: list[nn.Module] = [
            nn.Conv2d(3, settings.channels, KERNEL, stride=2, padding=2),
            nn.LeakyReLU(SLOPE, True),
        ]
        channels = settings.channels
        for index in range(1, settings.layers + 1):
            wider = settings.channels * min(2**index, 8)
            layers += [
                nn.Conv2d(
                    channels,
                    wider,
                    KERNEL,
                    stride=1 if index == settings.layers else 2,
                    padding=2,
                    bias=settings.norm != "batch",
                ),
                *patch_norm(settings, wider),
                nn.LeakyReLU(SLOPE, True),
            ]
            channels = wider
        layers.append(nn.Conv2d(channels, 1, KERNEL, padding=2))
        self.model = nn.Sequential(*layers)
        self.apply(initialise_normal)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.model(pictures)
        return scores


@dataclass(frozen=True)
class DenseSettings:
    """The Keras article's discriminator, which ends in two dense layers."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    channels: int = 64
    """Channels of the first two layers, at least 1; twice, four and eight times as many
    in the next."""
    hidden: int = 1024
    """Values in the dense layer before the last, at least 1."""
    sigmoid: bool = True
    """A sigmoid on the score, as in the article. The loss gan has its own: take false there."""

    def __post_init__(self) -> None:
        at_least(1, self, "channels", "hidden")


class DenseDiscriminator(nn.Module):
    """Scores ``[N, 1]`` of square pictures with ``crop`` pixels a side, and no others.

    Layers, padding, norm and first weights are Keras's: 3,096,450 parameters
    at the defaults.
    """

    name: ClassVar[str] = "dense"

    def __init__(self, settings: DenseSettings | None = None, crop: int = 256) -> None:
        super().__init__()
        self.settings = settings = settings or DenseSettings()
        c = settings.channels
        layers: list[nn.Module] = [SameConv2d(3, c, KERNEL, stride=2), nn.LeakyReLU(SLOPE, True)]
        for inputs, outputs, stride in (
            (c, c, 2),
            (c, 2 * c, 2),
            (2 * c, 4 * c, 2),
            (4 * c, 8 * c, 1),
        ):
            layers += [
                SameConv2d(inputs, outputs, KERNEL, stride=stride),
                nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
                nn.LeakyReLU(SLOPE, True),
            ]
        side = -(-crop // DENSE_STRIDE)
        layers += [
            SameConv2d(8 * c, 1, KERNEL),
            nn.Flatten(),
            nn.Linear(side * side, settings.hidden),
            nn.Tanh(),
            nn.Linear(settings.hidden, 1),
        ]
        if settings.sigmoid:
            layers.append(nn.Sigmoid())
        self.model = nn.Sequential(*layers)
        self.apply(initialise_uniform)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.model(pictures)
        return scores


class SameConv2d(nn.Conv2d):
    """TensorFlow's "same" padding: ``ceil(size / stride)`` comes out. Where the
    zeros that this takes are odd in number, one more is below and to the right.
    """

    def forward(self, x: Tensor) -> Tensor:
        sides = zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True)
        padding = [amount for side in sides for amount in same_padding(*side)]
        return super().forward(F.pad(x, padding))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind ``size`` values."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def patch_norm(settings: PatchSettings, channels: int) -> list[nn.Module]:
    if settings.norm == "none":
        return []
    if settings.norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [InstanceNorm2d(channels)]


def initialise_uniform(module: nn.Module) -> None:
    """Keras's first weights: Glorot's uniform ones, biases of 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
