"""A teacher: a trained generator whose pictures another one learns from (Hinton et al. 2015).

The mean of what it sees of a picture in several orientations is nearer to the truth than
each of them, so that a network can even learn from itself (data distillation, Radosavovic
et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deblurgan.train.crops import turn, turn_back
from deblurgan.train.networks import Generator


@torch.no_grad()
def mean_view(teacher: Generator, blurred: Tensor, orientations: Sequence[int]) -> Tensor:
    """Squares ``[N, 3, side, side]`` in [-1, 1], restored in each of the orientations and
    turned back; their mean, in fp32.
    """
    views = [turn_back(teacher(turn(blurred, o)), o) for o in orientations]
    return torch.stack(views).mean(0, dtype=torch.float32)
