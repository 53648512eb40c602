"""Photographs are read whatever they are, and pairs really come from them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import data
from deblurgan.train.blur import BlurRecipe
from deblurgan.train.data import PairPool, list_pictures, read_photos, read_picture

CLEAN = BlurRecipe(sharp_share=1, noise_share=0, compressed_share=0)
CPU = torch.device("cpu")


def make_pool(photos: list[Tensor], recipe: BlurRecipe = CLEAN, **changes: int) -> PairPool:
    return PairPool(
        photos,
        recipe,
        device=CPU,
        **{"seed": 1, "region": 64, "capacity": 4, "reuse": 4, **changes},
    )


@pytest.fixture(scope="module")
def map_photo() -> Tensor:
    """Red is the column, green the row, blue follows from both."""
    y, x = np.mgrid[:64, :80]
    return torch.from_numpy(np.stack([x, y, (7 * x + 13 * y) % 256]).astype(np.uint8))


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the blur: the n-th region made is all of level n. Grows with each."""
    made: list[int] = []

    def degrade(sharp: Tensor, recipe: BlurRecipe, random: torch.Generator) -> tuple[Tensor, ...]:
        made.append(len(made))
        level = torch.full_like(sharp, made[-1] / 255)
        return level, level

    monkeypatch.setattr(data, "degrade", degrade)
    return made


# Reading


def test_pictures_are_listed_by_name_and_other_files_left_out(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.tiff", "notes.txt", "d.webp"):
        (tmp_path / name).touch()
    names = [path.name for path in list_pictures(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "c.tiff", "d.webp"]


def test_a_missing_or_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match="missing: expected a folder of pictures, found none"):
        list_pictures(tmp_path / "missing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DeblurError, match=r"expected pictures \(\.jpg, .*, found none"):
        list_pictures(tmp_path)
    with pytest.raises(DeblurError, match="expected a folder"):
        list_pictures(tmp_path / "notes.txt")


def test_what_does_not_decode_is_told(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    path = tmp_path / "broken.png"
    cv2.imwrite(str(path), photo)
    whole = path.read_bytes()
    for content in (b"", b"no picture", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DeblurError, match=r"broken\.png.*does not decode"):
            read_picture(path)


def test_colour_grey_alpha_and_16_bits_become_the_same_three_planes(
    tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    bgr, grey = photo[:, :, ::-1], photo[:, :, 1]
    kinds = {
        "colour": (bgr, photo),
        "alpha": (np.dstack([bgr, grey]), photo),
        "deep": (bgr.astype(np.uint16) * 257, photo),
        "grey": (grey, np.dstack([grey] * 3)),
        "deep-grey": (grey.astype(np.uint16) * 257, np.dstack([grey] * 3)),
    }
    for name, (stored, expected) in kinds.items():
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), stored)
        picture = read_picture(path)
        assert (picture.dtype, picture.shape) == (torch.uint8, (3, *photo.shape[:2])), name
        assert picture.is_contiguous()
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), expected), name


# The pool


def test_a_batch_is_float_in_range(picture: Tensor) -> None:
    recipe = BlurRecipe(length=(1.0, 8.0))
    blurred, sharp = make_pool([picture], recipe).batch(5, 32)
    for crops in (blurred, sharp):
        assert (crops.dtype, crops.shape) == (torch.float32, (5, 3, 32, 32))
        assert crops.min() >= -1
        assert crops.max() <= 1
        assert crops.max() - crops.min() > 1
    assert not torch.equal(blurred, sharp)


def test_sharp_crops_are_places_of_the_photo(map_photo: Tensor) -> None:
    blurred, sharp = make_pool([map_photo]).batch(64, 24)
    assert torch.equal(blurred, sharp)  # nothing was degraded: so the two are aligned
    orientations, places = set(), set()
    for crop in ((sharp + 1) * 127.5).round().to(torch.uint8):
        columns, rows = crop[0].int(), crop[1].int()
        assert torch.equal(crop, map_photo[:, rows, columns])
        steps = tuple(
            int(plane.diff(dim=axis).unique().item())
            for plane in (columns, rows)
            for axis in (0, 1)
        )
        assert sorted(map(abs, steps)) == [0, 0, 1, 1]
        orientations.add(steps)
        places.add((int(columns.min()), int(rows.min())))
    assert len(orientations) == 8
    assert len(places) > 30
    assert max(x for x, _ in places) > 64 - 24  # the region itself is anywhere in the photo


def test_blurred_and_sharp_crops_show_the_same_place(picture: Tensor) -> None:
    recipe = BlurRecipe(
        sharp_share=0, highlight_share=0, noise_share=0, compressed_share=0, length=(0.0, 0.1),
        shake_share=1,
    )  # fmt: skip
    blurred, sharp = make_pool([picture], recipe).batch(16, 24)
    assert float((blurred - sharp).abs().mean()) < 0.01


def test_large_photos_are_also_seen_at_smaller_scales(map_photo: Tensor) -> None:
    enlarged = map_photo.repeat_interleave(2, 1).repeat_interleave(2, 2)  # 128 x 160
    _, sharp = make_pool([enlarged], capacity=32).batch(64, 32)
    # A step of one level every two pixels, along one axis or, turned, the other.
    ramps = [sharp[:, 0].diff(dim=axis).abs().mean((1, 2)) * 127.5 for axis in (-2, -1)]
    per_pixel = torch.maximum(*ramps)
    assert per_pixel.min() == pytest.approx(0.5, abs=0.1)
    assert per_pixel.max() == pytest.approx(1.0, abs=0.1)


def test_every_region_serves_as_many_crops_as_asked(map_photo: Tensor, renewals: list[int]) -> None:
    pool = make_pool([map_photo], reuse=4)
    for _ in range(10):
        pool.batch(6, 16)
    assert len(renewals) == 8 + 10 * 6 // 4


def test_the_pool_grows_to_its_capacity_and_then_drops_the_oldest(
    map_photo: Tensor, renewals: list[int]
) -> None:
    pool = make_pool([map_photo], capacity=10, reuse=2)
    for _ in range(12):
        blurred, _ = pool.batch(2, 16)
        made = len(renewals)
        assert len(pool.pairs) == min(10, made)
        kept = {int(pair[0, 0, 0, 0]) for pair in pool.pairs}
        assert kept == set(range(max(0, made - 10), made))
        assert {int(v) for v in ((blurred + 1) * 127.5).round().unique()} <= kept


def test_every_photo_is_used(renewals: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def degrade(sharp: Tensor, recipe: BlurRecipe, random: torch.Generator) -> tuple[Tensor, ...]:
        seen.add(round(float(sharp[0, 0, 0, 0]) * 255))
        return sharp, sharp

    monkeypatch.setattr(data, "degrade", degrade)
    flat = [torch.full((3, 64, 64), 10 * level, dtype=torch.uint8) for level in range(5)]
    make_pool(flat, reuse=1).batch(40, 16)
    assert seen == {0, 10, 20, 30, 40}


def test_a_photo_too_small_is_told(tmp_path: Path, map_photo: Tensor) -> None:
    path = tmp_path / "small.png"
    cv2.imwrite(str(path), map_photo.permute(1, 2, 0).numpy())
    height, width = map_photo.shape[-2:]
    with pytest.raises(DeblurError, match=f"at least 96x96 pixels, found {width}x{height}"):
        read_photos(tmp_path, smallest=96)


def test_the_same_seed_gives_the_same_batches(picture: Tensor) -> None:
    def batches(seed: int) -> list[Tensor]:
        pool = make_pool([picture], BlurRecipe(length=(1.0, 8.0)), seed=seed)
        return [crops for _ in range(3) for crops in pool.batch(3, 16)]

    first = batches(1)
    torch.manual_seed(99)  # the global generator has no say
    assert all(torch.equal(a, b) for a, b in zip(first, batches(1), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, batches(2), strict=True))
