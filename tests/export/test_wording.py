from __future__ import annotations

from typing import Any

import pytest

from deblurgan.export.wording import LONGEST_LIST, megabytes, plain


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"channels": 48, "data": {"photos": 45}}, "channels 48, data (photos 45)"),
        ({"bias": None, "affine": False, "tracked": True}, "affine no, tracked yes"),
        ({"betas": [0.9, 0.99]}, "betas 0.9 0.99"),
        (list(range(LONGEST_LIST)), "0 1 2 3 4 5 6 7 8 9 10 11"),
        (
            {"data": [f"{n}.png" for n in range(541)], "batch": 16},
            "data 0.png … 540.png (541 in all), batch 16",
        ),
        (
            {"steps": 2, "before": {"steps": 1, "recipe": {"loss": 1}, "before": {"steps": 0}}},
            "steps 2, before (steps 1, recipe …, before …)",
        ),
    ],
)
def test_json_is_said_in_words(value: Any, words: str) -> None:
    assert plain(value) == words


def test_sizes_are_in_megabytes() -> None:
    assert megabytes(3_000_431) == "3.00 MB"
