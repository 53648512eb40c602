from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deblurgan.train.muon import Muon, orthogonal


def gradients(network: nn.Module, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.grad = torch.randn(weight.shape, generator=random)


@settings(max_examples=40)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_matrix_becomes_about_orthogonal_and_points_where_it_did(
    rows: int, columns: int, seed: int
) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonal(matrix)
    # Small singular values take more iterations than there are: those are let go.
    kept = values / values.norm() > 0.02
    # Its singular vectors stay, so that these are its values.
    along = left.T @ made @ right.T
    assert along.diagonal()[kept].min() > 0.65
    assert along.diagonal()[kept].max() < 1.25
    torch.testing.assert_close(along, along.diagonal().diag(), atol=1e-3, rtol=0)


def test_a_matrix_of_nothing_stays_so() -> None:
    assert orthogonal(torch.zeros(3, 5)).abs().max() == 0


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9")
def test_a_matrix_moves_as_with_pytorchs_own() -> None:
    """Its iteration is in bfloat16."""
    ours, theirs = (nn.Linear(24, 16, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    optimiser = Muon(ours.parameters(), lr=0.01, betas=(0.95, 0.99), weight_decay=0.1)
    reference = torch.optim.Muon(
        theirs.parameters(), lr=0.01, momentum=0.95, weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    for step in range(5):
        gradients(ours, step)
        gradients(theirs, step)
        optimiser.step()
        reference.step()
    moved = (ours.weight - start).norm()
    assert (ours.weight - theirs.weight).norm() < 0.02 * moved


def test_biases_move_as_with_adamw() -> None:
    ours = nn.Conv2d(3, 8, 3)
    theirs = copy.deepcopy(ours)
    optimiser = Muon(ours.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(5):
        gradients(ours, step)
        gradients(theirs, step)
        optimiser.step()
        reference.step()
    assert ours.bias is not None
    assert theirs.bias is not None
    torch.testing.assert_close(ours.bias, theirs.bias, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (64, 2, 1, 1)])
def test_a_convolutions_update_is_as_large_as_adams(shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    Muon([weight], lr=0.01).step()
    size = weight.detach().square().mean().sqrt().item()
    assert size == pytest.approx(0.2 * 0.01, rel=0.2)


def test_the_order_in_memory_changes_nothing() -> None:
    one = nn.Conv2d(4, 6, 3)
    other = copy.deepcopy(one).to(memory_format=torch.channels_last)
    for network in (one, other):
        optimiser = Muon(network.parameters(), lr=0.01)
        for step in range(3):
            gradients(network, step)
            optimiser.step()
    torch.testing.assert_close(one.weight, other.weight, atol=1e-6, rtol=0)


def test_a_saved_state_goes_on_exactly() -> None:
    def steps(network: nn.Module, optimiser: Muon, numbers: range) -> None:
        for step in numbers:
            gradients(network, step)
            optimiser.step()

    whole, broken = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3)
    broken.load_state_dict(whole.state_dict())
    steps(whole, Muon(whole.parameters(), lr=0.01), range(6))
    first = Muon(broken.parameters(), lr=0.01)
    steps(broken, first, range(3))
    second = Muon(broken.parameters(), lr=0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(broken, second, range(3, 6))
    assert torch.equal(whole.weight, broken.weight)
    assert whole.bias is not None
    assert broken.bias is not None
    assert torch.equal(whole.bias, broken.bias)


def test_weights_without_a_gradient_stay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 3))
    gradients(network, 1)
    still = network[1].weight
    network[1].weight.grad = None
    before = still.detach().clone()
    Muon(network.parameters(), lr=0.01, weight_decay=1.0).step()
    assert torch.equal(still, before)


def test_a_closure_is_called_with_gradients() -> None:
    weight = nn.Parameter(torch.ones(2, 2))

    def closure() -> Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert Muon([weight], lr=0.01).step(closure) == 4
    assert weight.detach().max() < 1
