"""The preview shows the pairs that a set begins with, beside what blurred them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deblurgan.train import preview as preview_module
from deblurgan.train.layouts import PhotoSource, find_source
from deblurgan.train.preview import GAP, HEIGHT, MARGIN, NIGHT, PAPER, WIDTH, preview
from deblurgan.train.synthesis import Method, plan_pairs


@pytest.fixture(scope="module")
def source(photos: Path) -> PhotoSource:
    found = find_source(str(photos), "train")
    assert isinstance(found, PhotoSource)
    return found


def cell(page: Tensor, row: int, column: int) -> Tensor:
    """The ``column``-th panel of the ``row``-th pair."""
    top = MARGIN + 26 + row * (HEIGHT + 26 + GAP)
    left = MARGIN + column * (WIDTH + GAP)
    return page[:, top : top + HEIGHT, left : left + WIDTH]


def test_pairs_are_shown_at_their_own_scale(source: PhotoSource) -> None:
    page = preview(source, seed=5, rows=3)
    assert (page.dtype, page.shape[0]) == (torch.uint8, 3)
    assert page.shape[2] == 2 * MARGIN + 3 * WIDTH + 2 * GAP
    assert page[:, 0, 0].tolist() == list(PAPER)
    top, left = (HEIGHT - 96) // 2, (WIDTH - 96) // 2
    for row, plan in enumerate(plan_pairs(source, count=3, seed=5, method="both")):
        for column, picture in zip((2, 1), plan.make(), strict=True):
            shown = cell(page, row, column)
            assert torch.equal(shown[:, top : top + 96, left : left + 96], picture)
            assert shown[:, 0, 0].tolist() == list(PAPER)


@pytest.mark.parametrize(("method", "spots"), [("trajectory", 1), ("shake", 5)])
def test_kernels_are_light_in_the_dark(source: PhotoSource, method: Method, spots: int) -> None:
    panel = cell(preview(source, seed=2, method=method, rows=1), 0, 0).int()
    assert panel[:, 0, WIDTH // 4].tolist() == list(NIGHT)
    bright = panel.amax(0) > 120
    centres = [(HEIGHT * y // 6, WIDTH * x // 6) for y in (1, 3, 5) for x in (1, 3, 5)]
    lit = [bool(bright[y - 20 : y + 20, x - 20 : x + 20].any()) for y, x in centres]
    assert lit == ([False] * 4 + [True] + [False] * 4 if spots == 1 else [True, False] * 4 + [True])


def test_a_kernel_is_shown_as_what_a_point_of_light_becomes(
    source: PhotoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []
    panel = preview_module.kernel_panel
    monkeypatch.setattr(preview_module, "kernel_panel", lambda k: shown.append(k) or panel(k))
    preview(source, seed=2, method="trajectory", rows=1)
    plan = plan_pairs(source, count=1, seed=2, method="trajectory")[0]
    point = torch.zeros(1, 3, 128, 128)
    point[..., 64, 64] = 1
    trace = plan.blur(point)[0, 0, 64 - 32 : 64 + 32, 64 - 32 : 64 + 32]
    assert torch.allclose(shown[0], trace, atol=1e-6)


def test_of_a_clip_it_shows_how_five_places_moved(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    make_clip(tmp_path / "moving.mp4", times=[512 * i for i in range(9)])
    clips = find_source(str(tmp_path), "train")
    page = preview(clips, seed=2, method="frames", rows=1)
    panel = cell(page, 0, 0).int().amax(0)
    centre = panel[HEIGHT // 2 - 90 : HEIGHT // 2 + 90, WIDTH // 2 - 90 : WIDTH // 2 + 90] > 120
    wide, high = (int(centre.any(axis).sum()) for axis in (0, 1))
    assert wide > 3 * high  # by 3 pixels a frame, to the side
    blurred, sharp = plan_pairs(clips, count=1, seed=2, method="frames")[0].make()
    for column, picture in ((1, sharp), (2, blurred)):
        shown = cell(page, 0, column)
        height, width = picture.shape[-2:]
        top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
        assert torch.equal(shown[:, top : top + height, left : left + width], picture)
