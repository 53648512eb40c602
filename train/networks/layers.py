"""What several networks are made of: norms and first weights, and a check of settings."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Norm = Literal["instance", "batch"]


class NormSettings(Protocol):
    """The settings that say what a norm is."""

    @property
    def norm(self) -> Norm: ...
    @property
    def affine(self) -> bool: ...
    @property
    def tracked(self) -> bool: ...


def make_norm(settings: NormSettings, channels: int) -> nn.Module:
    """A batch norm always has weights and running statistics, an instance norm as set."""
    if settings.norm == "batch":
        return nn.BatchNorm2d(channels)
    return InstanceNorm2d(channels, affine=settings.affine, track_running_stats=settings.tracked)


class InstanceNorm2d(nn.InstanceNorm2d):
    """PyTorch's, with the right gradient for one picture alone: its own is wrong, and
    says nothing, where that comes back in channels-last order (2.13 on a processor).
    """

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = super().forward(x)
        if normed.requires_grad and not torch.compiler.is_compiling():
            normed.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
        return normed


def initialise_normal(module: nn.Module) -> None:
    """The paper's N(0, 0.02) for convolutions, N(1, 0.02) for norm weights."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.weight is not None:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def check_dropout(share: float) -> None:
    """Raise ``ValueError`` for a share that drops less than nothing, or all."""
    if not 0 <= share < 1:
        raise ValueError(f"dropout must lie from 0 up to, not at, 1; it is {share}")
