"""What an earlier call wrote may be replaced, and nothing that only looks like it."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblurgan.benchmarks.earlier import is_free_or_drawn, is_free_or_result
from deblurgan.benchmarks.result_file import write_result


def test_a_result_may_be_replaced_and_no_other_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert is_free_or_result(path)
    write_result(path, "quality", {})
    assert is_free_or_result(path)
    assert is_free_or_result(path, "quality")
    assert not is_free_or_result(path, "gate-baseline")
    path.write_bytes(b"")
    assert is_free_or_result(path, "gate-baseline")


@pytest.mark.parametrize(
    "content", [b"{}", b'{"mine": 1}', b'{"schema": 1}', b"[]", b"{", b"\xff", b"[" * 100_000]
)
def test_a_users_own_json_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert not is_free_or_result(path)


def test_what_is_drawn_here_is_told_from_other_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from deblurgan.benchmarks.drawing import new_figure, pixels_to_png, to_png

    path, pixels = tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8)
    assert is_free_or_drawn(path)
    for drawn in (to_png(new_figure(1, 1)), pixels_to_png(pixels), b""):
        path.write_bytes(drawn)
        assert is_free_or_drawn(path)
    new_figure(1, 1).savefig(path)
    assert not is_free_or_drawn(path)
    cv2.imwrite(str(path), pixels)
    assert not is_free_or_drawn(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    assert not is_free_or_drawn(tmp_path / "p.png")


def test_pixels_are_the_same_in_the_file() -> None:
    pytest.importorskip("matplotlib")
    from deblurgan.benchmarks.drawing import pixels_to_png

    pixels = np.random.default_rng(1).integers(0, 256, (7, 9, 3), np.uint8)
    coded = np.frombuffer(pixels_to_png(pixels), np.uint8)
    assert np.array_equal(cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1], pixels)
