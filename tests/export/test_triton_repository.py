"""A model's folder appears whole or not at all, under a name that the server takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblurgan.export.triton import CONFIG, workplace, write_repository
from deblurgan.runtime import DeblurError
from deblurgan.runtime.console import Interrupted


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/edge", ".hidden", "-x", "two words", "schärfer", 'a"b', "a" * 129],
)
def test_names_that_the_server_or_an_address_does_not_take(
    name: str, negative: Path, tmp_path: Path
) -> None:
    with pytest.raises(DeblurError, match="choose one with --name"):
        write_repository(negative, tmp_path / "repository", name=name)
    assert not (tmp_path / "repository").exists()


def test_a_model_that_is_there_stays_unless_told(
    negative: Path, write_negative: Callable[..., Path], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    folder = write_repository(negative, repository)
    fixed = write_negative(tmp_path / "negative.onnx", size=(96, 64))
    with pytest.raises(DeblurError, match="--overwrite"):
        write_repository(fixed, repository)
    assert "dims: [-1, -1, 3]" in (folder / CONFIG).read_text()
    write_repository(fixed, repository, overwrite=True)
    assert "dims: [64, 96, 3]" in (folder / CONFIG).read_text()
    assert (folder / "1" / "model.onnx").read_bytes() == fixed.read_bytes()
    assert leftovers(tmp_path) == []


def test_overwrite_takes_away_nothing_but_what_it_wrote(negative: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "precious.py").touch()
    with pytest.raises(DeblurError, match="a model's folder to replace"):
        write_repository(negative, tmp_path, name="src", overwrite=True)
    folder = write_repository(negative, tmp_path)
    mine = folder / "1" / "notes.txt"
    mine.touch()
    with pytest.raises(DeblurError, match=r"found also 1/notes\.txt; move that away"):
        write_repository(negative, tmp_path, overwrite=True)
    mine.unlink()
    (folder / "2").mkdir()
    with pytest.raises(DeblurError, match="found also 2; move that away"):
        write_repository(negative, tmp_path, overwrite=True)
    assert (tmp_path / "src" / "precious.py").exists()
    assert (folder / "2").exists()


@pytest.mark.parametrize("step", ["copyfile", "rename"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Interrupted()])
def test_a_failure_leaves_what_was_there(
    step: str,
    error: BaseException,
    negative: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = tmp_path / "repository"
    folder = write_repository(negative, repository)
    before = (folder / CONFIG).read_text()
    rename = os.rename

    def fail(source: Any, target: Any) -> None:
        if step == "rename" and not str(source).endswith(".part"):
            rename(source, target)
            return
        raise error

    monkeypatch.setattr(shutil if step == "copyfile" else os, step, fail)
    for name in ("negative", "new"):
        with pytest.raises(DeblurError if isinstance(error, OSError) else Interrupted):
            write_repository(negative, repository, name=name, max_batch=2, overwrite=True)
    monkeypatch.undo()
    assert (folder / CONFIG).read_text() == before
    assert (folder / "1" / "model.onnx").is_file()
    assert [path.name for path in repository.iterdir()] == ["negative"]
    assert leftovers(tmp_path) == []


def test_a_full_disk_leaves_no_empty_folders(
    negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DeblurError, match="no space left on device"):
        write_repository(negative, tmp_path / "small" / "repository")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_watches_never_sees_a_part(
    negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, seen = tmp_path / "repository", []
    rename = os.rename

    def look(source: Any, target: Any) -> None:
        seen.append(sorted(path.name for path in repository.iterdir()))
        rename(source, target)

    monkeypatch.setattr(os, "rename", look)
    folder = write_repository(negative, repository)
    assert seen == [[]]
    # On another disk, which a link leads to, it must be inside too.
    link, disk = tmp_path / "link", repository.resolve()
    link.symlink_to(repository)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda path: Path(path) == disk)
        assert workplace(link) == disk
    # Where nothing may be written beside it, it must be inside.
    monkeypatch.setattr(os, "access", lambda *_: False)
    write_repository(negative, repository, name="inside")
    assert seen[1] == [f".inside.{os.getpid()}.part", "negative"]
    # A server in a container reads it as another user.
    umask = os.umask(0o022)
    os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (folder / "1" / "model.onnx").stat().st_mode & 0o777 == 0o666 & ~umask


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".")]
