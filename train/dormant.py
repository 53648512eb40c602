"""Hidden channels that never fire any more, and their new beginning (ReDo, Sokar et al. 2023).

A ReLU whose input is below zero wherever one looks has no gradient and stays so: a high
learning rate can cost a network a quarter of its channels for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from deblurgan.train.networks import Generator
from deblurgan.train.networks.edge import EdgeBlock

Channels = dict[EdgeBlock, Tensor]
"""Something of each hidden channel of each block."""


def find_dormant(generator: Generator, pictures: Sequence[Tensor]) -> Channels:
    """Whether none of the pictures, batches ``[N, 3, H, W]`` in [-1, 1], makes it fire."""
    highest = look(generator, pictures, lambda before_relu: before_relu.amax((0, 2, 3)))
    return {block: values.amax(0) <= 0 for block, values in highest.items()}


@torch.no_grad()
def begin_anew(
    generator: Generator, pictures: Sequence[Tensor], random: torch.Generator
) -> tuple[int, int]:
    """Give dormant channels new weights; how many there were, and of how many channels.

    Their filters are random, as strong as the block's others, and fire at about half of
    the places; what they add to a picture is nothing until that has been learnt, so that
    the generator computes what it did before.
    """
    dormant = find_dormant(generator, pictures)
    for block, which in dormant.items():
        filters, biases = block.first.weight, block.first.bias
        assert biases is not None  # EdgeBlock gives it one
        new = torch.randn(filters[which].shape, generator=random)
        strength = filters[~which].flatten(1).norm(dim=1).median() if not which.all() else 1.0
        filters[which] = F.normalize(new.flatten(1)).view_as(new) * strength
        biases[which] = 0
        block.second.weight[:, which] = 0
    means = look(generator, pictures, lambda before_relu: before_relu.mean((0, 2, 3)))
    for block, which in dormant.items():
        assert block.first.bias is not None
        block.first.bias[which] = -means[block].mean(0)[which]
    return sum(int(which.sum()) for which in dormant.values()), sum(map(len, dormant.values()))


@torch.no_grad()
def look(
    generator: Generator, pictures: Sequence[Tensor], measure: Callable[[Tensor], Tensor]
) -> Channels:
    """``[pictures, channels]``: ``measure`` of ``[N, channels, h, w]`` before each ReLU."""
    blocks = [module for module in generator.modules() if isinstance(module, EdgeBlock)]
    seen: dict[EdgeBlock, list[Tensor]] = {block: [] for block in blocks}
    hooks = [
        block.first.register_forward_hook(
            lambda _module, _inputs, made, seen=seen[block]: seen.append(measure(made))
        )
        for block in blocks
    ]
    try:
        for picture in pictures:
            generator(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return {block: torch.stack(values) for block, values in seen.items()}
