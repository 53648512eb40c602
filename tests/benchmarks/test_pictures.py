"""What is measured on is what the user named, as often as was asked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("skimage", reason="the benchmarks want scikit-image")

from deblurgan.benchmarks.pictures import find_pictures
from deblurgan.benchmarks.quality import frame
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.evaluation import EVAL_V1
from deblurgan.train.picture_files import read_picture

Picture = NDArray[np.uint8]


def write(path: Path, picture: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[:, :, ::-1])


def write_photos(folder: Path, photo: Picture, count: int) -> None:
    for index in range(count):
        write(folder / f"{index}.png", np.roll(photo, 20 * index, 1))


def test_pairs_are_matched_by_name(tmp_path: Path, photo: Picture) -> None:
    for level, name in enumerate(("b.png", "a.png")):
        write(tmp_path / "sharp" / name, photo + level)
        write(tmp_path / "blur" / name, cv2.blur(photo, (5, 5)))
    pairs = list(find_pictures("pairs", tmp_path))
    assert [pair.name for pair in pairs] == ["a.png", "b.png"]
    for pair, level in zip(pairs, (1, 0), strict=True):
        assert np.array_equal(frame(pair.sharp), photo + level)
        assert np.array_equal(frame(pair.blurred), cv2.blur(photo, (5, 5)))
        assert pair.length is None


def test_gopros_test_part_counts_as_it_was_unpacked(tmp_path: Path, photo: Picture) -> None:
    for part, sequences in (("train", ("s0",)), ("test", ("s1", "s2"))):
        for sequence in sequences:
            for kind in ("blur", "blur_gamma", "sharp"):
                write(tmp_path / part / sequence / kind / "000001.png", photo)
    pictures = find_pictures("pairs", tmp_path)
    assert pictures.layout == "gopro"
    assert [pair.name for pair in pictures] == ["s1_000001.png", "s2_000001.png"]


def test_a_and_b_and_combined_pictures_are_pairs_too(tmp_path: Path, photo: Picture) -> None:
    for name in ("A", "B"):
        write(tmp_path / "ab" / name / "0.png", photo)
    write(tmp_path / "combined" / "0.png", np.hstack([photo, 255 - photo]))
    assert find_pictures("pairs", tmp_path / "ab").layout == "ab"
    (pair,) = find_pictures("pairs", f"combined:{tmp_path / 'combined'}")
    assert np.array_equal(frame(pair.blurred), photo)
    assert np.array_equal(frame(pair.sharp), 255 - photo)


def test_a_missing_partner_is_told(tmp_path: Path, photo: Picture) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / "blur" / name, photo)
    write(tmp_path / "sharp" / "b.png", photo)
    with pytest.raises(DeblurError, match="partner") as caught:
        find_pictures("pairs", tmp_path)
    assert caught.value.subject == tmp_path / "blur" / "a.png"


def test_a_folder_without_pairs_is_told(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "a.png", photo)
    with pytest.raises(DeblurError, match=f"--photos {tmp_path}"):
        find_pictures("pairs", tmp_path)


def test_partners_of_different_size_are_told_before_anything_is_measured(
    tmp_path: Path, photo: Picture
) -> None:
    write(tmp_path / "blur" / "a.png", photo)
    write(tmp_path / "sharp" / "a.png", photo[:64])
    with pytest.raises(DeblurError, match="160x96"):
        find_pictures("pairs", tmp_path).check(16)


def test_a_picture_that_is_too_small_at_the_size_measured_is_told(pairs: Path) -> None:
    find_pictures("pairs", pairs).check(64)
    find_pictures("pairs", pairs, size="half").check(32)
    with pytest.raises(DeblurError, match="at least 66x66 pixels, found 64x64"):
        find_pictures("pairs", pairs, size="half").check(33)


def test_what_is_left_out_is_not_checked(tmp_path: Path, photo: Picture) -> None:
    for name in ("blur", "sharp"):
        write_photos(tmp_path / name, photo, 2)
        (tmp_path / name / "1.png").write_bytes(b"no picture")
    for kind, folder in (("photos", tmp_path / "sharp"), ("pairs", tmp_path)):
        find_pictures(kind, folder, limit=1).check(16)  # type: ignore[arg-type]
        with pytest.raises(DeblurError, match=r"1\.png"):
            find_pictures(kind, folder).check(16)  # type: ignore[arg-type]


def test_photos_are_blurred_by_eval_v1_in_the_order_of_their_names(
    tmp_path: Path, photo: Picture
) -> None:
    write_photos(tmp_path, photo, 6)
    pictures = find_pictures("photos", tmp_path)
    assert (pictures.blur, len(pictures)) == ("eval-v1", 6)
    pairs = list(pictures)
    assert [pair.length for pair in pairs] == [8, 16, 24, 32, 8, 16]
    for index, pair in enumerate(pairs):
        assert np.array_equal(frame(pair.sharp), np.roll(photo, 20 * index, 1))
        blurred = EVAL_V1.blur(read_picture(tmp_path / f"{index}.png"), index)
        assert torch.equal(pair.blurred, blurred)


def test_all_lengths_are_of_the_same_pictures(tmp_path: Path, photo: Picture) -> None:
    write_photos(tmp_path, photo, 2)
    pictures = find_pictures("photos", tmp_path, all_lengths=True)
    assert len(pictures) == 8
    names_of = {length: set() for length in EVAL_V1.lengths}  # type: dict[float, set[str]]
    for pair in pictures:
        assert pair.length is not None
        names_of[pair.length].add(pair.name)
    assert all(names == {"0.png", "1.png"} for names in names_of.values())


@pytest.mark.parametrize("kind", ["pairs", "photos", "sharp"])
def test_a_limit_takes_no_more_and_half_the_size_is_half(
    kind: str, tmp_path: Path, photo: Picture
) -> None:
    for name in ("blur", "sharp"):
        write_photos(tmp_path / name, photo, 4)
    folder = tmp_path if kind == "pairs" else tmp_path / "sharp"
    pictures = find_pictures(kind, folder, size="half", limit=2)  # type: ignore[arg-type]
    pairs = list(pictures)
    assert len(pictures) == len(pairs) == 2
    assert [pair.name for pair in pairs] == ["0.png", "2.png"]
    assert {pair.sharp.shape for pair in pairs} == {(3, 48, 80)} == {p.blurred.shape for p in pairs}


def test_sharp_photos_are_left_as_they_are(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "a.png", photo)
    (pair,) = find_pictures("sharp", tmp_path)
    assert (pair.name, pair.length) == ("a.png", 0.0)
    assert np.array_equal(frame(pair.blurred), photo)
    assert np.array_equal(frame(pair.sharp), photo)


def test_photos_twice_as_wide_as_high_are_photos(tmp_path: Path, photo: Picture) -> None:
    write(tmp_path / "a.png", photo[:64])
    assert len(list(find_pictures("photos", tmp_path))) == 1
