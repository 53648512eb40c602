"""What a detector finds in blurred and in deblurred pictures, as the paper tested it.

What it finds in the sharp picture is the reference, not what is really there. A box is
right that has an IoU of at least a half with a reference of its class that no better box
has taken: greedily, the best score first, as COCO counts. Boxes are counted over all
pictures before the shares are taken of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from deblurgan.benchmarks.boxes import Detections, Numbers, intersection_over_union
from deblurgan.benchmarks.quality import frame
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.evaluation import EvaluationPair

IOU = 0.5
# Pictures that a gain has to be seen in before anything can be said of how sure it is.
FEWEST = 8
DRAWS, CONFIDENCE, SEED = 2000, 0.95, 1
# One threshold can flatter: the same is counted at these as well.
SCORES = (0.1, 0.2, 0.3, 0.4, 0.5)
BLURRED, SHARP = "blurred", "sharp"

Detect = Callable[[Frames], Detections]


@dataclass(frozen=True)
class Match:
    """Which of the boxes found are right, and which of the references were found."""

    right: Numbers
    found: Numbers

    @property
    def counts(self) -> Counts:
        right = int(self.right.sum())
        return Counts(right, len(self.right) - right, len(self.found) - right)


@dataclass(frozen=True)
class Counts:
    """Boxes that are right, boxes without a reference, references without a box. Shares
    of nothing are None.
    """

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.right + other.right, self.wrong + other.wrong, self.missed + other.missed
        )

    @property
    def precision(self) -> float | None:
        return share(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float | None:
        return share(self.right, self.right + self.missed)

    @property
    def f1(self) -> float | None:
        return share(2 * self.right, 2 * self.right + self.wrong + self.missed)


@dataclass(frozen=True)
class View:
    """One version of a picture: blurred, what a model made of it, or sharp."""

    name: str
    picture: Frames
    boxes: Detections
    match: Match


@dataclass(frozen=True)
class PictureDetection:
    """The counts of one picture, by the versions' names; ``length`` of the blur in pixels
    where it is known.
    """

    name: str
    length: float | None
    references: int
    counts: dict[str, Counts]


@dataclass(frozen=True)
class DetectionReport:
    """The pictures in their order. ``by_class`` has the counts of each class that was
    found anywhere, by the versions' names and the class's number; ``by_score`` those at
    other thresholds, by the threshold and the versions' names.
    """

    pictures: tuple[PictureDetection, ...]
    by_class: dict[str, dict[int, Counts]] = field(default_factory=dict)
    by_score: dict[float, dict[str, Counts]] = field(default_factory=dict)

    @property
    def references(self) -> int:
        return sum(picture.references for picture in self.pictures)

    @property
    def totals(self) -> dict[str, Counts]:
        names = self.pictures[0].counts
        return {
            name: sum((picture.counts[name] for picture in self.pictures), Counts())
            for name in names
        }

    def f1_gain(self, name: str) -> tuple[float, float] | None:
        """Where F1 over the blurred pictures' lies with 95 % confidence: the bootstrap over
        the pictures, as a few of them may hold most of the objects. None of too few.
        """
        if len(self.pictures) < FEWEST:
            return None
        table = np.array(
            [
                [[c.right, c.wrong, c.missed] for c in (p.counts[name], p.counts[BLURRED])]
                for p in self.pictures
            ]
        )
        drawn = np.random.default_rng(SEED).integers(len(table), size=(DRAWS, len(table)))
        right, wrong, missed = np.moveaxis(table[drawn].sum(1), -1, 0)
        f1 = 2 * right / np.maximum(1, 2 * right + wrong + missed)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(f1[:, 0] - f1[:, 1], [tail, 1 - tail])
        return float(low), float(high)


def measure_detection(
    detect: Detect,
    deblurrers: Mapping[str, Deblurrer],
    pairs: Iterable[EvaluationPair],
    score: float,
    watch: Callable[[EvaluationPair, list[View]], None] | None = None,
) -> DetectionReport:
    """Detect in each pair's blurred picture, in what each model makes of it, and in the
    sharp one against itself, which is a check: all its shares are 1. ``watch`` hears of
    each picture's versions, the sharp one last. What scores ``score`` or more counts, in the
    reference as well; ``detect`` has to find what scores less, down to the least of ``SCORES``.

    Raises ``DeblurError`` where nothing is found in any sharp picture.
    """
    pictures: list[PictureDetection] = []
    by_class: dict[str, dict[int, Counts]] = {}
    by_score: dict[float, dict[str, Counts]] = {threshold: {} for threshold in SCORES}
    for pair in pairs:
        sharp, blurred = frame(pair.sharp), frame(pair.blurred)
        versions = {BLURRED: blurred}
        versions |= {name: deblur(blurred) for name, deblur in deblurrers.items()}
        versions[SHARP] = sharp
        found = {name: detect(version) for name, version in versions.items()}
        references = found[SHARP].above(score)
        views = []
        for name, version in versions.items():
            boxes = found[name].above(score)
            views.append(View(name, version, boxes, match(boxes, references)))
            for threshold, counts_at in by_score.items():
                all_ = match(found[name].above(threshold), found[SHARP].above(threshold))
                counts_at[name] = counts_at.get(name, Counts()) + all_.counts
        counts = {view.name: view.match.counts for view in views}
        pictures.append(PictureDetection(pair.name, pair.length, len(references), counts))
        for view in views:
            add_classes(by_class.setdefault(view.name, {}), view, references)
        if watch is not None:
            watch(pair, views)
    report = DetectionReport(tuple(pictures), by_class, by_score)
    if not report.references:
        raise DeblurError(
            "--detector",
            expected="one that finds something in the sharp pictures, which is the reference",
            found=f"nothing in {len(pictures)} of them",
            remedy="lower --score, or give pictures of what it knows",
        )
    return report


def match(boxes: Detections, references: Detections, iou: float = IOU) -> Match:
    """``boxes`` are in the order of their scores, best first; each takes, of the
    references of its class that are free, the one that it overlaps most.
    """
    overlaps = intersection_over_union(boxes.boxes, references.boxes)
    overlaps[boxes.classes[:, None] != references.classes[None]] = 0
    right, found = np.zeros(len(boxes), bool), np.zeros(len(references), bool)
    for index, row in enumerate(overlaps):
        free = np.where(found, 0, row)
        if len(free) and free.max() >= iou:
            right[index] = found[free.argmax()] = True
    return Match(right, found)


def add_classes(counts: dict[int, Counts], view: View, references: Detections) -> None:
    for number in {*view.boxes.classes.tolist(), *references.classes.tolist()}:
        right = view.match.right[view.boxes.classes == number]
        found = view.match.found[references.classes == number]
        counts[number] = counts.get(number, Counts()) + Match(right, found).counts


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
