"""Where a ladder is written: all of it or nothing, and no word of hidden folders."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from deblurgan.export.ladder.target import check_target, publish, staging
from deblurgan.export.new_folder import new_folder
from deblurgan.runtime import DeblurError
from deblurgan.runtime.whole_file import write_whole

NAMES = ["edge-int8.onnx", "edge.onnx", "edge.plan", "edge.plan.json", "ladder.html", "ladder.json"]
FULL = (errno.ENOSPC, "No space left on device")


def fill(folder: Path, content: str) -> None:
    for name in NAMES:
        (folder / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("earlier", [False, True])
def test_the_page_goes_first_and_comes_last(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen, rename = tmp_path / "report", list[set[str]](), os.rename

    def look(source: Any, target: Any) -> None:
        rename(source, target)
        seen.append({path.name for path in folder.glob("[!.]*")})

    with staging(folder) as stage:
        fill(stage, "new")
        (stage / "calibration").mkdir()
        if earlier:
            fill(folder, "old")
            (folder / "notes.txt").write_text("mine")
        monkeypatch.setattr(os, "rename", look)
        publish(stage, folder)
    assert set(NAMES) - seen[-2] == {"ladder.html"}
    assert contents(folder) == dict.fromkeys(NAMES, "new") | (
        {"notes.txt": "mine"} if earlier else {}
    )
    if earlier:
        assert set(NAMES) - seen[0] == {"ladder.html"}


@pytest.mark.parametrize(
    ("earlier", "moves"),
    [(False, n) for n in range(len(NAMES))] + [(True, n) for n in range(2 * len(NAMES))],
)
def test_a_move_that_fails_leaves_what_was_there(
    earlier: bool, moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done, rename = tmp_path / "new" / "report", list[Any](), os.rename
    if earlier:
        folder.mkdir(parents=True)
        fill(folder, "old")

    def fail(source: Any, target: Any) -> None:
        done.append(source)
        if len(done) == moves + 1:
            raise OSError(*FULL)
        rename(source, target)

    def write() -> None:
        with staging(folder) as stage:
            fill(stage, "new")
            monkeypatch.setattr(os, "rename", fail)
            publish(stage, folder)

    with pytest.raises(DeblurError, match=r"report: expected .*found no space left") as told:
        write()
    assert ".part" not in str(told.value)
    if earlier:
        assert contents(folder) == dict.fromkeys(NAMES, "old")
    else:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["edge.onnx", "edge-int8.plan", "edge.plan.json", "ladder.json"])
def test_whatever_would_be_replaced_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DeblurError, match=f"{name}: .*--overwrite"):
        check_target(tmp_path, "edge", ["fp32", "int8"], overwrite=False)
    check_target(tmp_path, "edge", ["fp32", "int8"], overwrite=True)
    check_target(tmp_path, "other", ["fp32"], overwrite=name == "ladder.json")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(DeblurError, match="a folder of that name"):
        check_target(tmp_path, "edge", ["fp32", "int8"], overwrite=True)


def test_a_full_disk_is_told_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"

    def full(*_: object) -> None:
        raise OSError(*FULL)

    def write() -> None:
        with staging(folder) as stage:
            (stage / "calibration").mkdir()
            monkeypatch.setattr(os, "replace", full)
            write_whole(stage / "calibration" / "0002.png", b"12345")

    with pytest.raises(DeblurError) as told:
        write()
    assert str(told.value).startswith(
        f"{folder}: expected room and permission to write 5 bytes for calibration/0002.png, "
        "found no space left on device; "
    )
    assert not folder.exists()


def test_an_error_of_the_system_is_told_of_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    with (
        pytest.raises(DeblurError, match=r"report: .* write for edge\.onnx, found no space"),
        staging(folder) as stage,
    ):
        raise OSError(*FULL, str(stage / ".edge.123.part.onnx"))
    assert not folder.exists()


def test_what_is_wrong_elsewhere_is_told_as_it_is(tmp_path: Path) -> None:
    other = DeblurError("--pairs", expected="pairs", found="none", remedy="name some")
    for error in (PermissionError(errno.EACCES, "denied", str(tmp_path / "other")), other):
        with pytest.raises(type(error)) as told, staging(tmp_path / "report"):
            raise error
        assert told.value is error
        assert list(tmp_path.iterdir()) == []


def test_folders_made_for_nothing_go_again(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for folder in (tmp_path / "a" / "b", tmp_path / "kept" / "c", tmp_path / "kept"):
        with suppress(KeyError), new_folder(folder):
            assert folder.is_dir()
            raise KeyError
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]
    with new_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "file").touch()
    assert (tmp_path / "a" / "b" / "file").exists()
