from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from deblurgan.train.dormant import begin_anew, find_dormant
from deblurgan.train.networks import EdgeGenerator, EdgeSettings
from deblurgan.train.networks.edge import EdgeBlock

DEAD = [1, 4, 6]


@pytest.fixture
def pictures() -> list[Tensor]:
    random = torch.Generator().manual_seed(4)
    return [torch.rand(1, 3, 40, 48, generator=random) * 2 - 1 for _ in range(3)]


@pytest.fixture
def generator() -> EdgeGenerator:
    """All of its channels fire."""
    torch.manual_seed(2)
    generator = EdgeGenerator(EdgeSettings(channels=8, blocks=2, deep_blocks=1))
    torch.nn.init.normal_(generator.tail[0].weight, std=0.05)
    for block in blocks(generator):
        torch.nn.init.zeros_(block.first.bias)
    return generator


def blocks(generator: EdgeGenerator) -> list[EdgeBlock]:
    return [module for module in generator.modules() if isinstance(module, EdgeBlock)]


def silence(block: EdgeBlock, channels: list[int]) -> None:
    with torch.no_grad():
        block.first.bias[channels] = -100


def outputs(generator: EdgeGenerator, pictures: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [generator(picture) for picture in pictures]


def anew(generator: EdgeGenerator, pictures: list[Tensor]) -> tuple[int, int]:
    return begin_anew(generator, pictures, torch.Generator().manual_seed(9))


def test_what_no_picture_makes_fire_is_found(
    generator: EdgeGenerator, pictures: list[Tensor]
) -> None:
    assert not any(which.any() for which in find_dormant(generator, pictures).values())
    silence(generator.deep[1], DEAD)
    found = find_dormant(generator, pictures)
    assert found[generator.deep[1]].nonzero().flatten().tolist() == DEAD
    assert not found[generator.entry[0]].any()


def test_one_picture_where_it_fires_is_enough(
    generator: EdgeGenerator, pictures: list[Tensor]
) -> None:
    block = generator.entry[0]
    with torch.no_grad():
        block.first.weight[2] = 0
        block.first.weight[2, 0, 1, 1] = 1
        seen = [float(generator.head(picture)[:, 0].max()) for picture in pictures]
        block.first.bias[2] = -sorted(seen)[1]  # the brightest alone is above
    assert not find_dormant(generator, pictures)[block].any()
    darkest = pictures[seen.index(min(seen))]
    assert find_dormant(generator, [darkest])[block].nonzero().flatten().tolist() == [2]


def test_a_new_beginning_changes_no_picture_and_can_learn(
    generator: EdgeGenerator, pictures: list[Tensor]
) -> None:
    block = generator.deep[1]
    silence(block, DEAD)
    before, weights = outputs(generator, pictures), copy.deepcopy(block.state_dict())
    assert anew(generator, pictures) == (len(DEAD), 8 + 16 + 8)
    for one, other in zip(before, outputs(generator, pictures), strict=True):
        assert torch.equal(one, other)
    assert not any(which.any() for which in find_dormant(generator, pictures).values())

    alive = [channel for channel in range(16) if channel not in DEAD]
    assert torch.equal(block.first.weight[alive], weights["first.weight"][alive])
    assert torch.equal(block.second.weight[:, alive], weights["second.weight"][:, alive])
    generator(pictures[0]).square().mean().backward()
    assert block.second.weight.grad is not None
    assert block.second.weight.grad[:, DEAD].abs().amax((0, 2, 3)).min() > 0


def test_they_are_as_strong_as_the_others_and_fire_at_half_of_the_places(
    generator: EdgeGenerator, pictures: list[Tensor]
) -> None:
    block = generator.deep[1]
    silence(block, DEAD)
    anew(generator, pictures)
    norms = block.first.weight.flatten(1).norm(dim=1)
    alive = [channel for channel in range(16) if channel not in DEAD]
    torch.testing.assert_close(norms[DEAD], norms[alive].median().expand(len(DEAD)))
    fired: list[Tensor] = []
    block.first.register_forward_hook(lambda _m, _i, made: fired.append(made[:, DEAD] > 0))
    outputs(generator, pictures)
    share = torch.stack(fired).float().mean()
    assert 0.3 < share < 0.7


def test_a_block_without_a_living_channel_begins_anew_too(
    generator: EdgeGenerator, pictures: list[Tensor]
) -> None:
    silence(generator.exit[0], list(range(8)))
    before = outputs(generator, pictures)
    assert anew(generator, pictures)[0] == 8
    assert not any(which.any() for which in find_dormant(generator, pictures).values())
    for one, other in zip(before, outputs(generator, pictures), strict=True):
        assert (one - other).abs().max() < 1e-6


def test_where_all_fire_nothing_changes(generator: EdgeGenerator, pictures: list[Tensor]) -> None:
    before = copy.deepcopy(generator.state_dict())
    assert anew(generator, pictures)[0] == 0
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
