"""What quality and detection are measured on: true pairs, photographs blurred by
``eval-v1``, or photographs as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.blur import SMALLEST_PICTURE
from deblurgan.train.evaluation import (
    EVAL_V1,
    SCALES,
    EvaluationPair,
    Size,
    evaluation_pairs,
    spread,
)
from deblurgan.train.layouts import (
    PairSource,
    PhotoSource,
    Source,
    check_gamma,
    check_source,
    find_source,
    picture_names,
)

Kind = Literal["pairs", "photos", "sharp"]


@dataclass(frozen=True)
class Pictures:
    """The pairs to measure, read one by one; what :func:`find_pictures` found."""

    kind: Kind
    source: Source
    size: Size = "full"
    limit: int | None = None
    all_lengths: bool = False

    @property
    def layout(self) -> str:
        return self.source.layout if isinstance(self.source, PairSource) else "photographs"

    @property
    def blur(self) -> str | None:
        """The name of the synthetic blur; None where there is none."""
        return EVAL_V1.name if self.kind == "photos" else None

    @property
    def names(self) -> list[str]:
        """Of the files, in the order in which they are read."""
        return spread(picture_names(self.source), self.limit)

    def __len__(self) -> int:
        source = self.source
        count = len(source.pairs) if isinstance(source, PairSource) else len(source.photos)
        repeats = len(EVAL_V1.lengths) if self.kind == "photos" and self.all_lengths else 1
        return repeats * min(count, self.limit or count)

    def __iter__(self) -> Iterator[EvaluationPair]:
        if self.kind == "sharp":
            yield from self._unblurred()
            return
        yield from evaluation_pairs(
            self.source,
            scale=SCALES[self.size],
            limit=self.limit,
            all_lengths=self.all_lengths,
        )

    def _unblurred(self) -> Iterator[EvaluationPair]:
        assert isinstance(self.source, PhotoSource)  # as find_pictures made it
        for photo in spread(self.source.photos, self.limit):
            sharp = photo.read()
            yield EvaluationPair(photo.name, sharp, sharp, 0.0).scaled(SCALES[self.size])

    def check(self, smallest: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode all that will be measured, before an hour is spent on half of it.

        Raises ``DeblurError`` for a picture that does not decode, has fewer than
        ``smallest`` pixels a side when measured, or differs in size from its partner.
        """
        smallest = -int(-smallest // SCALES[self.size])
        if self.kind == "photos":
            smallest = max(smallest, SMALLEST_PICTURE)
        source = self.source
        if isinstance(source, PairSource):
            pairs = tuple(spread(source.pairs, self.limit))
            source = PairSource(source.path, source.layout, pairs)
        else:
            source = PhotoSource(source.path, tuple(spread(source.photos, self.limit)))
        check_source(source, smallest, progress)


def find_pictures(
    kind: Kind,
    data: str | Path,
    *,
    size: Size = "full",
    limit: int | None = None,
    all_lengths: bool = False,
    gamma: bool = False,
) -> Pictures:
    """The pictures in a folder: of the ``kind`` "pairs" any layout that training takes,
    with or without its word before the path; else photographs. What is in a folder's
    test part counts, where it has one.

    ``limit`` takes no more pictures, evenly spread; ``all_lengths`` blurs each
    photograph once at every length of ``eval-v1``, instead of at the next one in turn;
    ``gamma`` takes GOPRO_Large's ``blur_gamma``. At half ``size`` both pictures of a
    pair are made smaller before anything is measured. Raises ``DeblurError`` for a
    folder that holds something else.
    """
    source = find_source(str(data) if kind == "pairs" else f"sharp:{data}", "test", gamma=gamma)
    if kind == "pairs" and not isinstance(source, PairSource):
        raise DeblurError(
            source.path,
            expected="pairs of a blurred and a sharp picture",
            found="photographs alone",
            remedy=f"to blur them, give them as --photos {source.path}",
        )
    if gamma:
        check_gamma(source)
    return Pictures(kind, source, size, limit, all_lengths)
