"""The curve over the length of blur."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the benchmarks want PyTorch")
pytest.importorskip("skimage", reason="the benchmarks want scikit-image")
pytest.importorskip("matplotlib")

from deblurgan.benchmarks.drawing import to_png
from deblurgan.benchmarks.pictures import find_pictures
from deblurgan.benchmarks.quality import ModelQuality, Score
from deblurgan.benchmarks.quality_curve import check_lengths, draw_quality_curve
from deblurgan.runtime.errors import DeblurError


def model(name: str, gain: float) -> ModelQuality:
    scores = [
        Score("a", "full", px, 30 - px / 4, 30 - px / 4 + gain, 0.5, 0.6, None, None, 0.0, 0.0)
        for px in (8.0, 16.0, 24.0, 32.0)
    ]
    return ModelQuality(name, "fp32", "engine", tuple(scores))


def draw(*models: ModelQuality) -> NDArray[np.uint8]:
    data = to_png(draw_quality_curve(models, "title"))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.uint8)


def colourful(image: NDArray[np.uint8]) -> int:
    return int((np.ptp(image.astype(int), axis=2) > 60).sum())


def test_every_model_has_a_line_in_both_halves() -> None:
    one, two = (draw(*models) for models in ([model("a", 1)], [model("a", 1), model("b", 2)]))
    for before, after in zip(np.array_split(one, 2, 1), np.array_split(two, 2, 1), strict=True):
        assert 0 < colourful(before) < colourful(after)


def test_pairs_have_no_lengths_to_draw(pairs: Path) -> None:
    check_lengths(find_pictures("photos", pairs / "sharp"))
    for kind, folder in (("pairs", pairs), ("sharp", pairs / "sharp")):
        with pytest.raises(DeblurError, match=f"--curve: .*found --{kind}; .*--photos"):
            check_lengths(find_pictures(kind, folder))  # type: ignore[arg-type]
