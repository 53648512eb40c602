"""The generator for devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.train.networks.generator import Generator
from deblurgan.train.settings import DOCUMENTED, at_least


@dataclass(frozen=True)
class EdgeSettings:
    """``blocks`` residual blocks of ``channels`` at a quarter of the picture's
    size, and in their middle ``deep_blocks`` of twice the channels at an eighth.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    channels: int = 64
    """Channels at a quarter of the size, at least 1; twice as many at an eighth."""
    blocks: int = 4
    """Residual blocks at a quarter of the size, 0 or more."""
    deep_blocks: int = 8
    """Residual blocks at an eighth of the size, 0 or more."""

    def __post_init__(self) -> None:
        at_least(1, self, "channels")
        at_least(0, self, "blocks", "deep_blocks")


class EdgeGenerator(Generator):
    """A generator for devices: 3x3 convolutions with ReLU and nothing else.

    Pixel-unshuffle replaces the paper's full-size layers, where most of its
    time goes; zero padding and no norm let int8 engines fuse every layer.
    The picture itself is the global skip; only what is to be added is learnt.
    """

    name = "edge"
    stride = 8

    def __init__(self, settings: EdgeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or EdgeSettings()
        c = settings.channels
        entry_blocks = settings.blocks // 2
        self.head = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, c, 3, padding=1))
        self.entry = nn.Sequential(*(EdgeBlock(c) for _ in range(entry_blocks)))
        self.deep = nn.Sequential(
            nn.Conv2d(c, 2 * c, 2, stride=2),
            *(EdgeBlock(2 * c) for _ in range(settings.deep_blocks)),
            nn.Conv2d(2 * c, 4 * c, 1),
            nn.PixelShuffle(2),
        )
        self.exit = nn.Sequential(*(EdgeBlock(c) for _ in range(settings.blocks - entry_blocks)))
        last = nn.Conv2d(c, 48, 3, padding=1)
        # Begin as the identity: the first step already sees a sensible picture.
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.tail = nn.Sequential(last, nn.PixelShuffle(4))

    def restore(self, blurred: Tensor) -> Tensor:
        quarter = self.entry(self.head(blurred))
        return blurred + self.tail(self.exit(quarter + self.deep(quarter)))


class EdgeBlock(nn.Module):
    """``x + conv(relu(conv(x)))``, the branch started at a tenth of its scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))
