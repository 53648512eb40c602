"""Norms: what PyTorch's own get wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deblurgan.train.networks.layers import InstanceNorm2d


def by_hand(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().mean((2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("returned", [torch.contiguous_format, torch.channels_last])
def test_an_instance_norms_gradient_is_right_in_every_layout(
    batch: int, given: torch.memory_format, returned: torch.memory_format
) -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 6, 5, 7, generator=random, dtype=torch.float64)
    slope = torch.randn(x.shape, generator=random, dtype=torch.float64)
    gradients = []
    for norm in (by_hand, InstanceNorm2d(6)):
        leaf = x.clone(memory_format=given).requires_grad_()
        norm(leaf).backward(slope.clone(memory_format=returned))
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_an_instance_norm_can_be_differentiated_twice() -> None:
    random = torch.Generator().manual_seed(2)
    x = torch.randn(1, 2, 3, 4, generator=random, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradgradcheck(InstanceNorm2d(2), x)


def test_what_follows_in_place_does_not_undo_it() -> None:
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64).requires_grad_()
    relu = torch.nn.ReLU(True)
    slope = torch.randn(1, 4, 6, 6, dtype=torch.float64).contiguous(
        memory_format=torch.channels_last
    )
    (ours,) = torch.autograd.grad(relu(InstanceNorm2d(4)(x)), x, slope)
    (expected,) = torch.autograd.grad(relu(by_hand(x)), x, slope)
    torch.testing.assert_close(ours, expected)
