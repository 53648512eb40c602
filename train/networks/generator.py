"""What every generator is: a blurred picture in, the same picture sharp out."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

MINIMUM_SIZE = 16

Skip = Literal["clamp", "average", "none"]


class Generator(nn.Module):
    """What all generators share: the stride, and padding to it.

    Tensors are float ``[N, 3, H, W]``, RGB in [-1, 1], H and W of at least
    ``minimum_size``. A subclass sets ``stride``, and ``minimum_size`` where it
    needs more, for the class or from its settings; and it implements
    :meth:`restore`, which only ever sees multiples of the stride.
    """

    name: str
    stride: int
    minimum_size: int = MINIMUM_SIZE
    settings: Any

    def restore(self, blurred: Tensor) -> Tensor:
        """Deblur ``[N, 3, H, W]`` in [-1, 1], H and W multiples of the stride."""
        raise TypeError(f"{type(self).__name__} does not define restore()")

    def forward(self, blurred: Tensor) -> Tensor:
        height, width = blurred.shape[-2:]
        padded = F.pad(blurred, (0, -width % self.stride, 0, -height % self.stride), mode="reflect")
        return self.restore(padded)[..., :height, :width]


def add_skip(skip: Skip, blurred: Tensor, made: Tensor) -> Tensor:
    """The restored picture, out of the blurred one and what the layers made of it."""
    if skip == "clamp":
        return (blurred + made).clamp(-1, 1)
    if skip == "average":
        return (blurred + made) / 2
    return made
