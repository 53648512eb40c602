"""Turns in a ratio: exact over a cycle, even within it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deblurgan.train.mixture import LONGEST_CYCLE, Mixture

ratios = st.lists(st.integers(1, 30), min_size=1, max_size=4)


def test_two_to_one_is_a_b_a() -> None:
    assert [Mixture([2, 1]).turn(i)[0] for i in range(6)] == [0, 1, 0, 0, 1, 0]
    assert [Mixture([4, 2]).turn(i) for i in range(4)] == [(0, 0), (1, 0), (0, 1), (0, 2)]
    assert [Mixture([7]).turn(i) for i in range(3)] == [(0, 0), (0, 1), (0, 2)]


@given(ratio=ratios)
def test_every_source_has_its_share_at_any_time(ratio: list[int]) -> None:
    mixture, had = Mixture(ratio), Counter[int]()
    for index in range(2 * sum(ratio)):
        source, turn = mixture.turn(index)
        assert turn == had[source]
        had[source] += 1
        for other, share in enumerate(ratio):
            due = (index + 1) * share / sum(ratio)
            assert abs(had[other] - due) < max(2, len(ratio))
    assert [had[source] for source in range(len(ratio))] == [2 * share for share in ratio]


@given(ratio=ratios, lanes=st.integers(1, 60), visits=st.integers(0, 70), lane=st.integers(0, 59))
def test_turns_in_a_lane_are_those_one_counts(
    ratio: list[int], lanes: int, visits: int, lane: int
) -> None:
    mixture, lane = Mixture(ratio), lane % lanes
    sources = [mixture.turn(lane + visit * lanes)[0] for visit in range(visits)]
    for source in range(len(ratio)):
        assert mixture.turns_in_lane(source, lane, lanes, visits) == sources.count(source)


def test_numbers_of_pictures_are_rounded_to_a_short_cycle() -> None:
    mixture = Mixture([40_003, 20_001, 7])
    assert len(mixture.cycle) <= LONGEST_CYCLE + 3
    assert mixture.ratio[2] == 1
    assert abs(mixture.ratio[0] / mixture.ratio[1] - 2) < 0.02
    assert Mixture([500, 250]).ratio == [2, 1]
