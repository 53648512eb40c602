"""Generators: a blurred picture in, the same picture sharp out.

Tensors are float ``[N, 3, H, W]``, RGB in [-1, 1]. Every generator takes any
height and width of at least ``MINIMUM_SIZE``: it pads to its own stride and
crops back, so that training, export and a user's own code see one behaviour.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MINIMUM_SIZE = 16

Norm = Literal["instance", "batch"]
Padding = Literal["reflect", "zeros"]
Skip = Literal["clamp", "average", "none"]


class Generator(nn.Module):
    """What all generators share: the stride, and padding to it.

    A subclass sets ``stride`` and implements :meth:`restore`, which only ever
    sees heights and widths that are multiples of the stride.
    """

    name: ClassVar[str]
    stride: ClassVar[int]
    settings: Any

    def restore(self, blurred: Tensor) -> Tensor:
        """Deblur ``[N, 3, H, W]`` in [-1, 1], H and W multiples of the stride."""
        raise TypeError(f"{type(self).__name__} does not define restore()")

    def forward(self, blurred: Tensor) -> Tensor:
        height, width = blurred.shape[-2:]
        padded = F.pad(blurred, (0, -width % self.stride, 0, -height % self.stride), mode="reflect")
        return self.restore(padded)[..., :height, :width]


@dataclass(frozen=True)
class ResNetSettings:
    """The paper's generator and its variants; the defaults are the paper's.

    ``affine`` and ``tracked`` give the norm weights and running statistics;
    instance norm in the paper has neither, batch norm always has both.
    ``convolutions`` is 1 in checkpoints of the original release's head, whose
    blocks lost the second convolution to a slip, and with ``dropout`` 0 the
    ReLU too. ``bias`` is for convolutions before a norm; ``None`` is the
    release's choice, a bias unless the norm is batch norm, which shifts anyway.
    """

    channels: int = 64
    blocks: int = 9
    convolutions: Literal[1, 2] = 2
    norm: Norm = "instance"
    affine: bool = False
    tracked: bool = False
    bias: bool | None = None
    dropout: float = 0.5
    padding: Padding = "reflect"
    skip: Skip = "clamp"

    @property
    def has_bias(self) -> bool:
        return self.norm == "instance" if self.bias is None else self.bias


class ResNetGenerator(Generator):
    """Kupyn et al. 2018, section 3.2: 11,378,179 parameters at the defaults.

    ``model`` is one sequence in the order of the original release, so that
    its checkpoints' keys fit.
    """

    name = "resnet"
    stride = 4

    def __init__(self, settings: ResNetSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or ResNetSettings()
        c = settings.channels
        bias = settings.has_bias

        def norm(channels: int) -> nn.Module:
            return make_norm(settings, channels)

        layers: list[nn.Module] = [
            *padded_conv(settings.padding, 3, c, kernel=7, bias=bias),
            norm(c),
            nn.ReLU(True),
        ]
        for channels in (c, 2 * c):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=bias),
                norm(2 * channels),
                nn.ReLU(True),
            ]
        layers += [ResNetBlock(settings, 4 * c) for _ in range(settings.blocks)]
        for channels in (4 * c, 2 * c):
            layers += [
                nn.ConvTranspose2d(
                    channels, channels // 2, 3, stride=2, padding=1, output_padding=1, bias=bias
                ),
                norm(channels // 2),
                nn.ReLU(True),
            ]
        layers += [*padded_conv(settings.padding, c, 3, kernel=7, bias=True), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.apply(initialise_normal)

    def restore(self, blurred: Tensor) -> Tensor:
        restored: Tensor = self.model(blurred)
        if self.settings.skip == "clamp":
            return (blurred + restored).clamp(-1, 1)
        if self.settings.skip == "average":
            return (blurred + restored) / 2
        return restored


class ResNetBlock(nn.Module):
    """Pad, convolution, norm, ReLU, dropout, and again without the last two."""

    def __init__(self, settings: ResNetSettings, channels: int) -> None:
        super().__init__()
        bias = settings.has_bias

        def convolution() -> list[nn.Module]:
            return [
                *padded_conv(settings.padding, channels, channels, kernel=3, bias=bias),
                make_norm(settings, channels),
            ]

        layers = convolution()
        if settings.convolutions == 2 or settings.dropout:
            layers.append(nn.ReLU(True))
        if settings.dropout:
            layers.append(nn.Dropout(settings.dropout))
        if settings.convolutions == 2:
            layers += convolution()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def padded_conv(
    padding: Padding, inputs: int, outputs: int, *, kernel: int, bias: bool
) -> list[nn.Module]:
    """A same-size convolution; a reflecting one is two modules, as in the release."""
    if padding == "zeros":
        return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)]
    return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel, bias=bias)]


def make_norm(settings: ResNetSettings, channels: int) -> nn.Module:
    if settings.norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=settings.affine, track_running_stats=settings.tracked)


def initialise_normal(module: nn.Module) -> None:
    """The paper's N(0, 0.02) for convolutions, N(1, 0.02) for norm weights."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.weight is not None:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class EdgeSettings:
    """``blocks`` residual blocks of ``channels`` at a quarter of the picture's
    size, and in their middle ``deep_blocks`` of twice the channels at an eighth.
    """

    channels: int = 48
    blocks: int = 2
    deep_blocks: int = 10


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


GENERATORS: dict[str, tuple[type[Generator], type[Any]]] = {
    "resnet": (ResNetGenerator, ResNetSettings),
    "edge": (EdgeGenerator, EdgeSettings),
}


def build_generator(name: str, settings: dict[str, Any]) -> Generator:
    """Build a generator by the name and settings that a checkpoint carries.

    Raises ``KeyError`` for an unknown name, ``TypeError`` for unknown settings.
    """
    generator, settings_type = GENERATORS[name]
    return generator(settings_type(**settings))


def describe_generator(generator: Generator) -> dict[str, Any]:
    """The inverse of :func:`build_generator`: ``{"name": …, "settings": …}``."""
    return {"name": generator.name, "settings": asdict(generator.settings)}


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
