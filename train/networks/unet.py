"""The release's second generator: the U-Net of pix2pix (Isola et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deblurgan.train.networks.generator import MINIMUM_SIZE, Generator, Skip, add_skip
from deblurgan.train.networks.layers import Norm, check_dropout, initialise_normal, make_norm
from deblurgan.train.settings import DOCUMENTED, at_least

# pix2pix drops only where channels no longer grow: the three levels above the innermost of 8.
FIRST_LEVEL_WITH_DROPOUT = 4


@dataclass(frozen=True)
class UNetSettings:
    """pix2pix's U-Net 256 with the paper's norm and skip."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    channels: int = 64
    """Channels at half the size, at least 1; twice as many at each size below, up to
    eight times."""
    downs: int = 8
    """How often the size is halved, at least 2; pictures are padded to multiples of
    2 to this power."""
    norm: Norm = "instance"
    """instance (each picture's own statistics) or batch."""
    affine: bool = False
    """Weights for instance norms, which have none in the paper; batch norms always do."""
    tracked: bool = False
    """Running statistics for instance norms, which have none in the paper; batch
    norms always do."""
    bias: bool | None = None
    """A bias for convolutions before a norm. Not set, it is the release's choice: one
    unless the norm is batch norm, which shifts anyway."""
    dropout: float = 0.5
    """Share of values dropped in training on the way up, from 0 up to, not at, 1; at
    sizes from a thirty-second down, but for the smallest."""
    skip: Skip = "clamp"
    """The way the blurred picture joins the tanh: clamp (their sum, cut to [-1, 1]),
    average ((picture + tanh) / 2) or none."""

    def __post_init__(self) -> None:
        at_least(1, self, "channels")
        at_least(2, self, "downs")
        check_dropout(self.dropout)

    @property
    def has_bias(self) -> bool:
        return self.norm == "instance" if self.bias is None else self.bias


class UNetGenerator(Generator):
    """54,413,955 parameters with batch norm, 54,409,603 with the paper's norm.

    ``model`` is nested as in pix2pix, so that the release's checkpoints' keys fit.
    """

    name = "unet"
    stride = 256

    def __init__(self, settings: UNetSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or UNetSettings()
        self.stride = 2**settings.downs
        # Reflection can add one pixel less than there are.
        self.minimum_size = max(MINIMUM_SIZE, self.stride // 2 + 1)
        self.model = UNetLevel(settings, 0)
        self.apply(initialise_normal)

    def restore(self, blurred: Tensor) -> Tensor:
        return add_skip(self.settings.skip, blurred, self.model(blurred))


class UNetLevel(nn.Module):
    """Halve the size, pass the levels below, double it; ``level`` counts from 0.

    All but the outermost return what came in as well, as further channels.
    The innermost has no norm on its way down: a picture of the stride's size
    is a single pixel there, which is its own mean.
    """

    def __init__(self, settings: UNetSettings, level: int) -> None:
        super().__init__()
        self.outermost = level == 0
        innermost = level == settings.downs - 1
        outer = 3 if self.outermost else width(settings, level - 1)
        inner = width(settings, level)
        bias = settings.has_bias
        down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=bias)
        below = [] if innermost else [UNetLevel(settings, level + 1)]
        up = nn.ConvTranspose2d(
            inner if innermost else 2 * inner,
            outer,
            4,
            stride=2,
            padding=1,
            bias=bias or self.outermost,
        )
        if self.outermost:
            self.model = nn.Sequential(down, *below, nn.ReLU(True), up, nn.Tanh())
            return
        # Not in place: what comes in is returned, too.
        layers = [nn.LeakyReLU(0.2), down]
        if not innermost:
            layers += [make_norm(settings, inner), *below]
        layers += [nn.ReLU(True), up, make_norm(settings, outer)]
        if settings.dropout and level >= FIRST_LEVEL_WITH_DROPOUT and not innermost:
            layers.append(nn.Dropout(settings.dropout))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made if self.outermost else torch.cat([made, x], 1)


def width(settings: UNetSettings, level: int) -> int:
    """Channels behind the halving of a level."""
    return settings.channels * min(2**level, 8)
