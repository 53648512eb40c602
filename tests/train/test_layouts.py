"""Every layout is told from its folders, and what is wrong with it before training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.layouts import (
    PairSource,
    PhotoFile,
    PhotoSource,
    Source,
    check_source,
    find_source,
    hash_files,
    hold_out,
)
from deblurgan.train.partners import PairFiles

BLURRED, SHARP, GAMMA = 40, 200, 90  # levels of the made pictures


def write(path: Path, level: int = SHARP, width: int = 24, height: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), level, np.uint8))
    return path


def write_pairs(folder: Path, blurred: str, sharp: str, names: Sequence[str]) -> Path:
    for name in names:
        write(folder / blurred / name, BLURRED)
        write(folder / sharp / name, SHARP)
    return folder


def write_gopro(root: Path) -> Path:
    for sequence in ("train/GOPR1", "train/GOPR2", "test/GOPR3"):
        write_pairs(root / sequence, "blur", "sharp", ["000001.png", "000002.png"])
        for name in ("000001.png", "000002.png"):
            write(root / sequence / "blur_gamma" / name, GAMMA)
    return root


def pairs_of(data: str | Path, split: str = "train", **options: bool) -> PairSource:
    source = find_source(str(data), split, **options)  # type: ignore[arg-type]
    assert isinstance(source, PairSource)
    return source


def photos_of(data: str | Path, split: str = "train") -> PhotoSource:
    source = find_source(str(data), split)  # type: ignore[arg-type]
    assert isinstance(source, PhotoSource)
    return source


def names(files: Sequence[PairFiles] | Sequence[PhotoFile]) -> list[str]:
    return [file.name for file in files]


def levels(pair: PairFiles) -> tuple[int, int]:
    blurred, sharp = pair.read()
    return int(blurred[0, 0, 0]), int(sharp[0, 0, 0])


# Layouts


def test_gopro_as_it_is_unpacked(tmp_path: Path) -> None:
    source = pairs_of(write_gopro(tmp_path))
    assert source.layout == "gopro"
    assert names(source.pairs) == [
        "GOPR1_000001.png", "GOPR1_000002.png", "GOPR2_000001.png", "GOPR2_000002.png"
    ]  # fmt: skip
    assert names(source.held_out) == ["GOPR3_000001.png", "GOPR3_000002.png"]
    assert {levels(pair) for pair in source.pairs} == {(BLURRED, SHARP)}
    test = pairs_of(tmp_path, "test")
    assert (test.pairs, test.held_out) == (source.held_out, ())
    gamma = pairs_of(tmp_path, gamma=True)
    assert {levels(pair) for pair in (*gamma.pairs, *gamma.held_out)} == {(GAMMA, SHARP)}


def test_a_part_of_gopro_is_taken_whole_for_training_and_testing(tmp_path: Path) -> None:
    write_gopro(tmp_path)
    for split in ("train", "test"):
        part = pairs_of(tmp_path / "train", split)
        assert (part.layout, len(part.pairs), part.held_out) == ("gopro", 4, ())
        sequence = pairs_of(tmp_path / "train/GOPR2", split, gamma=True)
        assert names(sequence.pairs) == ["GOPR2_000001.png", "GOPR2_000002.png"]
        assert levels(sequence.pairs[0]) == (GAMMA, SHARP)


@pytest.mark.parametrize(("layout", "blurred", "sharp"), [("pairs", "blur", "sharp"),
                                                          ("ab", "A", "B")])  # fmt: skip
def test_two_folders_of_partners(tmp_path: Path, layout: str, blurred: str, sharp: str) -> None:
    write_pairs(tmp_path / "whole", blurred, sharp, ["b.png", "a.png"])
    write(tmp_path / "whole/preview.png")  # beside them, it does not matter
    for split in ("train", "test"):
        source = pairs_of(tmp_path / "whole", split)
        assert (source.layout, names(source.pairs)) == (layout, ["a.png", "b.png"])
        assert levels(source.pairs[0]) == (BLURRED, SHARP)
    write_pairs(tmp_path / "parts/train", blurred, sharp, ["a.png"])
    write_pairs(tmp_path / "parts/test", blurred, sharp, ["b.png"])
    source = pairs_of(tmp_path / "parts")
    assert (source.layout, names(source.pairs), names(source.held_out)) == (
        layout, ["a.png"], ["b.png"]
    )  # fmt: skip
    assert names(pairs_of(tmp_path / "parts", "test").pairs) == ["b.png"]


def test_partners_may_have_different_endings(tmp_path: Path) -> None:
    write(tmp_path / "A/one.jpg", BLURRED)
    write(tmp_path / "B/one.PNG", SHARP)
    (pair,) = pairs_of(tmp_path).pairs
    assert (pair.blurred.name, pair.sharp.name) == ("one.jpg", "one.PNG")
    write(tmp_path / "B/one.bmp", SHARP)
    with pytest.raises(DeblurError, match=r"one\.bmp: expected one picture of each name"):
        find_source(str(tmp_path), "train")


def test_combined_pictures_are_blurred_on_the_left(tmp_path: Path) -> None:
    both = np.hstack([np.full((16, 24, 3), level, np.uint8) for level in (BLURRED, SHARP)])
    cv2.imwrite(str(tmp_path / "one.png"), both)
    (pair,) = pairs_of(f"combined:{tmp_path}").pairs
    blurred, sharp = pair.read()
    assert blurred.shape == sharp.shape == (3, 16, 24)
    assert (blurred == BLURRED).all()
    assert (sharp == SHARP).all()
    cv2.imwrite(str(tmp_path / "one.png"), both[:, 1:])
    with pytest.raises(DeblurError, match="found an odd width, 47x16"):
        pair.read()


def test_a_folder_of_wide_pictures_might_be_combined_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.png", width=32)
    write(tmp_path / "b.png", width=40)
    with pytest.raises(DeblurError, match=f"write combined:{tmp_path} .* sharp:{tmp_path}"):
        find_source(str(tmp_path), "train")
    assert len(photos_of(f"sharp:{tmp_path}").photos) == 2
    write(tmp_path / "c.png", width=31)
    assert len(photos_of(tmp_path).photos) == 3


def test_photographs_and_clips_side_by_side(
    tmp_path: Path, photo: NDArray[np.uint8], make_clip: Callable[..., Path]
) -> None:
    write(tmp_path / "z.png")
    make_clip(tmp_path / "moving.mp4", times=[512 * i for i in range(70)])
    (tmp_path / "notes.txt").touch()
    photos = photos_of(tmp_path).photos
    assert names(photos) == ["moving.mp4-0", "moving.mp4-15360", "moving.mp4-30720", "z.png"]
    assert photos[-1].frame is None
    second = photos[1].read().permute(1, 2, 0).numpy().astype(int)
    assert np.abs(second - np.roll(photo, 90, 1)).mean() < 12


def test_photographs_may_have_a_test_part(tmp_path: Path) -> None:
    write(tmp_path / "train/a.png")
    write(tmp_path / "test/b.png")
    source = photos_of(tmp_path)
    assert (names(source.photos), names(source.held_out)) == (["a.png"], ["b.png"])
    write(tmp_path / "other/a.png")
    write(tmp_path / "other/test/b.png")  # one folder more beside photographs is no part
    assert names(photos_of(tmp_path / "other", "test").photos) == ["a.png"]


@pytest.mark.parametrize("word", ["gopro", "pairs", "sharp"])
def test_a_layout_can_be_forced(tmp_path: Path, word: str) -> None:
    """One sequence with a stray picture in it could be any of these."""
    write_pairs(tmp_path / "one", "blur", "sharp", ["a.png"])
    write(tmp_path / "one/stray.png")
    source = find_source(f"{word}:{tmp_path / 'one'}", "train")
    if word == "sharp":
        assert isinstance(source, PhotoSource)
        assert names(source.photos) == ["stray.png"]
    else:
        assert isinstance(source, PairSource)
        assert names(source.pairs) == ["one_a.png" if word == "gopro" else "a.png"]


# What is wrong


@pytest.mark.parametrize(("removed", "lonely"), [("sharp", "blur"), ("blur", "sharp")])
def test_a_missing_partner_is_named(tmp_path: Path, removed: str, lonely: str) -> None:
    write_gopro(tmp_path)
    (tmp_path / f"test/GOPR3/{removed}/000002.png").unlink()
    with pytest.raises(
        DeblurError, match=rf"GOPR3/{lonely}/000002\.png: .*GOPR3/{removed}, found none;"
    ):
        find_source(str(tmp_path), "train")
    write(tmp_path / f"test/GOPR3/{lonely}/000003.png")
    with pytest.raises(DeblurError, match=r"found none \(nor for 1 more\)"):
        find_source(str(tmp_path), "test")


def test_a_missing_half_is_named(tmp_path: Path) -> None:
    write(tmp_path / "ab/A/a.png")
    with pytest.raises(DeblurError, match="ab: expected A/ and B/, found no B/"):
        find_source(str(tmp_path / "ab"), "train")
    write_gopro(tmp_path / "gopro")
    for path in (tmp_path / "gopro/train/GOPR2/blur_gamma").iterdir():
        path.unlink()
    (tmp_path / "gopro/train/GOPR2/blur_gamma").rmdir()
    with pytest.raises(DeblurError, match="GOPR2: expected blur_gamma/ and sharp/"):
        find_source(str(tmp_path / "gopro"), "train", gamma=True)


def test_what_is_no_data_is_told(tmp_path: Path) -> None:
    def message(data: str | Path, split: str = "train") -> str:
        with pytest.raises(DeblurError) as caught:
            find_source(str(data), split)  # type: ignore[arg-type]
        return str(caught.value)

    assert "expected a folder, found nothing" in message(tmp_path / "missing")
    assert "expected a folder, found a file" in message(write(tmp_path / "files/a.png"))
    (tmp_path / "empty/blur").mkdir(parents=True)
    (tmp_path / "empty/sharp").mkdir()
    assert "empty/blur: expected pictures" in message(tmp_path / "empty")
    (tmp_path / "void").mkdir()
    assert "void: expected GOPRO_Large, A/ and B/, " in message(tmp_path / "void")
    assert "found nothing" in message(tmp_path / "void")
    for name in "vwxyz":
        (tmp_path / "strange" / name).mkdir(parents=True)
    assert "found v, w, x, y, …;" in message(tmp_path / "strange")
    assert "expected sequences with blur/ and sharp/" in message(f"gopro:{tmp_path / 'strange'}")
    assert "expected pictures (.jpg" in message(f"combined:{tmp_path / 'strange'}")


def test_training_needs_a_training_part(tmp_path: Path) -> None:
    write_pairs(tmp_path / "test", "A", "B", ["a.png"])
    assert len(pairs_of(tmp_path, "test").pairs) == 1
    with pytest.raises(DeblurError, match=f"found only test/; .*name it: {tmp_path}/test"):
        find_source(str(tmp_path), "train")
    write(tmp_path / "train/a.png")
    with pytest.raises(DeblurError, match="found photographs beside pairs"):
        find_source(str(tmp_path), "train")


# Holding out


@given(count=st.integers(1, 60))
def test_every_ninth_picture_is_held_out_and_never_all(count: int) -> None:
    photos = tuple(PhotoFile(f"{i:03}", Path(f"{i:03}")) for i in range(count))
    training, held_out = hold_out(PhotoSource(Path("photos"), photos))
    assert isinstance(training, PhotoSource)
    assert isinstance(held_out, PhotoSource)
    assert names(held_out.photos) == [f"{i:03}" for i in range(0, count, 9)]
    assert training.photos
    if count > 1:
        assert sorted(names(training.photos) + names(held_out.photos)) == names(photos)
    else:
        assert training.photos == held_out.photos == photos


def test_a_test_part_of_its_own_is_what_is_held_out(tmp_path: Path) -> None:
    source = pairs_of(write_gopro(tmp_path))
    training, held_out = hold_out(source)
    assert isinstance(training, PairSource)
    assert isinstance(held_out, PairSource)
    assert (training.pairs, held_out.pairs) == (source.pairs, source.held_out)
    assert training.held_out == held_out.held_out == ()


# Checking


def test_every_picture_is_decoded_and_progress_told(
    tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    for index in range(12):
        write(tmp_path / f"{index:02}.png")
    make_clip(tmp_path / "moving.mp4", times=[512 * i for i in range(70)])
    told: list[tuple[int, int]] = []
    check_source(photos_of(tmp_path), 16, lambda *progress: told.append(progress))
    assert told == [*((i, 15) for i in range(1, 13)), (15, 15)]
    check_source(pairs_of(write_gopro(tmp_path / "gopro")), 16)


def rejected(source: Source, smallest: int = 16) -> str:
    with pytest.raises(DeblurError) as caught:
        check_source(source, smallest)
    return str(caught.value)


def test_the_first_bad_picture_in_the_order_of_names_is_told(tmp_path: Path) -> None:
    for index in range(30):
        write(tmp_path / f"{index:02}.png", width=640, height=480)
    for name in ("29.png", "07.png", "11.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
    assert "07.png: expected a picture" in rejected(photos_of(tmp_path))


def test_small_pictures_and_unequal_partners_are_told(
    tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    write(tmp_path / "photos/tiny.png", width=8, height=8)
    message = rejected(photos_of(tmp_path / "photos"))
    assert "tiny.png: expected at least 16x16 pixels, found 8x8" in message
    write_pairs(tmp_path / "pairs", "A", "B", ["a.png", "b.png"])
    assert "A/a.png: expected at least 17x17 pixels, found 24x16" in rejected(
        pairs_of(tmp_path / "pairs"), 17
    )
    write(tmp_path / "pairs/B/b.png", width=25)
    assert "A/b.png: expected the size of its sharp partner" in rejected(
        pairs_of(tmp_path / "pairs")
    )
    (tmp_path / "clips").mkdir()
    make_clip(tmp_path / "clips/small.mp4")
    message = rejected(photos_of(tmp_path / "clips"), 200)
    assert "small.mp4: expected at least 200x200 pixels, found 160x96" in message


def test_held_out_pictures_are_checked_too(tmp_path: Path) -> None:
    write_gopro(tmp_path)
    (tmp_path / "test/GOPR3/sharp/000002.png").write_bytes(b"")
    assert "GOPR3/sharp/000002.png" in rejected(pairs_of(tmp_path))


def test_what_stops_the_check_stops_it_at_once(tmp_path: Path) -> None:
    """Ctrl-C in the middle of thousands of pictures."""
    for index in range(200):
        write(tmp_path / f"{index:03}.png")
    seen: list[int] = []

    def interrupt(done: int, total: int) -> None:
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_source(photos_of(tmp_path), 16, interrupt)
    assert seen == [1]


def test_a_locked_folder_inside_is_told_with_what_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is for all but root, whom nothing is locked for."""
    write_gopro(tmp_path)
    iterdir = Path.iterdir

    def locked(folder: Path) -> Iterator[Path]:
        if folder.name == "train":
            raise PermissionError(13, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(DeblurError, match=r"train: expected a folder that may be read.*u\+rX"):
        find_source(str(tmp_path), "train")


def test_names_that_are_no_utf8_are_hashed(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    assert hash_files([PhotoSource(tmp_path, (PhotoFile(name, tmp_path / name),))])


def test_an_empty_name_is_not_this_folder() -> None:
    for data in ("", "combined:"):
        with pytest.raises(DeblurError, match="expected a folder, found nothing"):
            find_source(data, "train")
