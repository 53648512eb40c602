"""The paper's generator, and its variants in the original release and the Keras article."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.train.networks.generator import Generator, Skip, add_skip
from deblurgan.train.networks.layers import Norm, check_dropout, initialise_normal, make_norm
from deblurgan.train.settings import DOCUMENTED, at_least

Padding = Literal["reflect", "zeros"]
Upsampling = Literal["transpose", "nearest"]
Alignment = Literal["centre", "tensorflow"]


@dataclass(frozen=True)
class ResNetSettings:
    """The paper's generator and its variants; the defaults are the paper's.

    The Keras article's is batch norm with ``skip`` average and ``alignment``
    tensorflow; its repository's head has ``upsampling`` nearest too.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    channels: int = 64
    """Channels at full size, at least 1; twice as many at half the size, four times
    at a quarter."""
    blocks: int = 9
    """Residual blocks at a quarter of the size, 0 or more."""
    convolutions: Literal[1, 2] = 2
    """Convolutions in a block. 1 is for checkpoints of the original release's head,
    whose blocks lost the second to a slip, and with dropout 0 the ReLU too."""
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
    """Share of a block's values dropped in training, from 0 up to, not at, 1."""
    padding: Padding = "reflect"
    """reflect or zeros, around blocks and the first and last layer."""
    skip: Skip = "clamp"
    """The way the blurred picture joins the tanh: clamp (their sum, cut to [-1, 1]),
    average ((picture + tanh) / 2, the Keras article's) or none."""
    upsampling: Upsampling = "transpose"
    """transpose (a transposed convolution) or nearest (each pixel twice, then a 3x3
    convolution)."""
    alignment: Alignment = "centre"
    """Where the zeros around strided convolutions lie: centre (on all sides), or
    tensorflow (below and right alone: TensorFlow's padding "same" of even sizes)."""

    def __post_init__(self) -> None:
        at_least(1, self, "channels")
        at_least(0, self, "blocks")
        check_dropout(self.dropout)

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
                *halving(settings.alignment, channels, 2 * channels, bias=bias),
                norm(2 * channels),
                nn.ReLU(True),
            ]
        layers += [ResNetBlock(settings, 4 * c) for _ in range(settings.blocks)]
        for channels in (4 * c, 2 * c):
            layers += [
                *doubling(settings, channels, channels // 2, bias=bias),
                norm(channels // 2),
                nn.ReLU(True),
            ]
        layers += [*padded_conv(settings.padding, c, 3, kernel=7, bias=True), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.apply(initialise_normal)

    def restore(self, blurred: Tensor) -> Tensor:
        return add_skip(self.settings.skip, blurred, self.model(blurred))


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


def halving(alignment: Alignment, inputs: int, outputs: int, *, bias: bool) -> list[nn.Module]:
    """Half the height and width, which are even."""
    if alignment == "tensorflow":
        return [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(inputs, outputs, 3, stride=2, bias=bias)]
    return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=bias)]


def doubling(settings: ResNetSettings, inputs: int, outputs: int, *, bias: bool) -> list[nn.Module]:
    """Twice the height and width."""
    if settings.upsampling == "nearest":
        return [NearestUpsampling(), nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)]
    if settings.alignment == "tensorflow":
        return [ConvTransposeFromCorner(inputs, outputs, 3, stride=2, bias=bias)]
    return [
        nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=bias)
    ]


class NearestUpsampling(nn.Module):
    """Each pixel twice, in both directions. Not by ``nn.Upsample``: TensorRT for RTX
    builds no Resize of sizes that are left open.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x.repeat_interleave(4, dim=1), 2)


class ConvTransposeFromCorner(nn.ConvTranspose2d):
    """Cut to size below and right alone, as TensorFlow does; PyTorch's own ``padding``
    cuts all sides. (Zeros above and left of what goes in would serve as well, but
    OpenVINO fuses them wrongly.)
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        # A copy: what works in place on a view is exported as writing into all of it.
        return super().forward(x, output_size)[..., :-1, :-1].clone()
