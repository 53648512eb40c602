"""GOPRO_Large becomes A and B folders, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.layouts import PairSource, find_source
from deblurgan.train.organize import organize

SEQUENCES = ("train/GOPR1_00", "train/GOPR2_00", "test/GOPR3_00")


@pytest.fixture
def gopro(tmp_path: Path) -> Path:
    """Two frames of three sequences; every file's content says where it was."""
    root = tmp_path / "GOPRO_Large"
    for sequence in SEQUENCES:
        for kind in ("blur", "blur_gamma", "sharp"):
            for number in (1, 2):
                path = root / sequence / kind / f"{number:06}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{sequence}/{kind}/{number}")
    return root


def texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


EXPECTED = {
    f"{split}/{side}/{sequence}_{number:06}.png": f"{split}/{sequence}/{kind}/{number}"
    for split, sequence in (place.split("/") for place in SEQUENCES)
    for side, kind in (("A", "blur"), ("B", "sharp"))
    for number in (1, 2)
}


@pytest.mark.parametrize("link", [False, True])
def test_blurred_pictures_come_to_a_and_sharp_ones_to_b(
    gopro: Path, tmp_path: Path, link: bool
) -> None:
    told: list[tuple[int, int]] = []
    organize(gopro, tmp_path / "out", link=link, watch=lambda *done: told.append(done))
    assert texts(tmp_path / "out") == EXPECTED
    assert told == [(i, 12) for i in range(1, 13)]
    same = [path.stat().st_nlink == 2 for path in gopro.rglob("blur/*.png")]
    assert same == [link] * 6
    source = find_source(str(tmp_path / "out"), "train")
    assert isinstance(source, PairSource)
    assert (source.layout, len(source.pairs), len(source.held_out)) == ("ab", 4, 2)


@pytest.mark.parametrize("link", [False, True])
def test_started_again_it_goes_on(gopro: Path, tmp_path: Path, link: bool) -> None:
    out = tmp_path / "out"
    organize(gopro, out, link=link)
    (out / "train/A/GOPR1_00_000001.png").unlink()
    (out / "train/B/GOPR1_00_000001.png").unlink()
    (out / "train/B/GOPR1_00_000001.png").write_text("half")
    organize(gopro, out, link=link)
    assert texts(out) == EXPECTED


def test_a_missing_partner_is_named_before_anything_is_written(gopro: Path, tmp_path: Path) -> None:
    (gopro / "test/GOPR3_00/sharp/000002.png").unlink()
    with pytest.raises(DeblurError, match=r"GOPR3_00/blur/000002\.png: expected a partner"):
        organize(gopro, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("link", [False, True])
def test_a_disk_that_fills_up_leaves_whole_files(
    gopro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    module, name = (os, "link") if link else (shutil, "copyfile")
    real, calls = getattr(module, name), []

    def full_at_the_fourth(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) < 4:
            real(source, target)
            return
        Path(target).write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, name, full_at_the_fourth)
    with pytest.raises(DeblurError, match="found no space left on device") as caught:
        organize(gopro, tmp_path / "out", link=link)
    assert ("without --link" in str(caught.value)) == link
    written = texts(tmp_path / "out")
    assert len(written) == 3
    assert written.items() <= EXPECTED.items()


def test_what_is_not_gopro_is_told(gopro: Path, tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match="found neither train/ nor test/ in it"):
        organize(gopro / "train", tmp_path / "out")
    with pytest.raises(DeblurError, match="found the same folder twice"):
        organize(gopro, gopro / "train/..")
    (tmp_path / "other/train/empty").mkdir(parents=True)
    with pytest.raises(DeblurError, match="expected sequences with blur/ and sharp/"):
        organize(tmp_path / "other", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_are_told_before_anything_is_written(tmp_path: Path) -> None:
    for sequence, name in (("a_b", "c.png"), ("a", "b_c.png")):
        for kind in ("blur", "sharp"):
            path = tmp_path / "gopro" / "train" / sequence / kind / name
            path.parent.mkdir(parents=True)
            path.write_text("")
    shutil.copytree(tmp_path / "gopro" / "train" / "a", tmp_path / "gopro" / "test" / "a")
    with pytest.raises(DeblurError, match="which is"):
        organize(tmp_path / "gopro", tmp_path / "out")
