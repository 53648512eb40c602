"""Whose turn it is: several sources in a fixed ratio, spread as evenly as can be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LONGEST_CYCLE = 1000


class Mixture:
    """A cycle of turns, in which source ``i`` has ``ratio[i]``: 2 : 1 gives 0 1 0.

    A ratio of large numbers (of pictures, say) is rounded so that the cycle has
    about ``LONGEST_CYCLE`` turns, of which each source keeps at least one.
    """

    def __init__(self, ratio: Sequence[int]) -> None:
        divisor = max(math.gcd(*ratio), sum(ratio) / LONGEST_CYCLE)
        self.ratio = [max(1, round(share / divisor)) for share in ratio]
        length = sum(self.ratio)
        had = np.zeros((length + 1, len(ratio)), np.int64)
        self.cycle = np.zeros(length, np.int64)
        for turn in range(length):
            # The source that is furthest behind what it should have had by then.
            self.cycle[turn] = np.argmax(np.multiply(self.ratio, turn + 1) - length * had[turn])
            had[turn + 1] = had[turn]
            had[turn + 1, self.cycle[turn]] += 1
        self.had = had

    def turn(self, index: int) -> tuple[int, int]:
        """The source of sample ``index``, and how many turns it had before."""
        cycles, place = divmod(index, len(self.cycle))
        source = int(self.cycle[place])
        return source, cycles * self.ratio[source] + int(self.had[place, source])

    def turns_in_lane(self, source: int, lane: int, lanes: int, visits: int) -> int:
        """How many of the samples ``lane``, ``lane + lanes``, … are the source's, of the
        first ``visits`` of them.
        """
        period = len(self.cycle) // math.gcd(len(self.cycle), lanes)
        places = (lane + lanes * np.arange(period)) % len(self.cycle)
        turns = self.cycle[places] == source
        periods, rest = divmod(visits, period)
        return periods * int(turns.sum()) + int(turns[:rest].sum())
