"""The published numbers are those of their sources, and what is counted is counted again."""

from __future__ import annotations

import dataclasses

import pytest

from deblurgan.benchmarks import paper
from deblurgan.benchmarks.network_cost import count_described, count_module


def test_every_number_names_its_source() -> None:
    for entry in (*paper.QUALITY, *paper.SPANS, *paper.DETECTION, paper.PAPER_TIME):
        assert entry.source
        with pytest.raises(dataclasses.FrozenInstanceError):
            entry.source = ""  # type: ignore[misc]


def test_what_is_recalled_is_a_figure_of_its_entry() -> None:
    for entry in (*paper.QUALITY, *paper.DETECTION):
        for name in entry.recalled:
            assert isinstance(getattr(entry, name), float)
    assert all(entry.recalled == paper.FIGURES for entry in paper.DETECTION)


def test_the_timing_says_what_it_does_not_state() -> None:
    time = paper.PAPER_TIME
    assert (time.seconds, time.size, time.precision) == (0.85, None, None)
    assert time.label == "paper, Titan X (Maxwell), resolution and precision not stated"


def test_five_times_faster_is_the_papers_own_ratio() -> None:
    seconds = {entry.method: entry.seconds for entry in paper.QUALITY if entry.data == paper.GOPRO}
    nah, ours = seconds["Nah et al. (DeepDeblur)"], seconds["DeblurGAN WILD"]
    assert nah is not None
    assert ours is not None
    assert nah / ours == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("entry", paper.DETECTION, ids=lambda entry: entry.pictures)
def test_f1_is_near_the_harmonic_mean(entry: paper.Detection) -> None:
    """Not equal: the paper may have taken means over pictures."""
    harmonic = 2 * entry.precision * entry.recall / (entry.precision + entry.recall)
    assert entry.f1 == pytest.approx(harmonic, abs=0.011)


@pytest.mark.parametrize("size", paper.NETWORK_SIZES, ids=lambda size: f"{size.width}")
def test_the_papers_network_costs_what_is_written(size: paper.NetworkSize) -> None:
    cost = count_described({"name": "resnet", "settings": {}}, size.width, size.height)
    assert cost is not None
    assert cost.multiply_adds == pytest.approx(size.multiply_adds, rel=2e-3)
    assert cost.operations == 2 * cost.multiply_adds


def test_the_papers_network_has_its_parameters() -> None:
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("deblurgan.train.networks")
    with torch.device("meta"):
        generator = networks.ResNetGenerator()
    assert networks.count_parameters(generator) == paper.PARAMETERS
    # All but biases multiply.
    assert 0.99 < count_module(generator, 256, 256).weights / paper.PARAMETERS < 1
