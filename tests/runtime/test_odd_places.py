"""Places and names that nobody thought of: nothing is destroyed, and one line says why not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import console
from deblurgan.runtime.app import app

Make = Callable[..., Path]
Deblur = Callable[..., int]
Refused = Callable[..., str]
Pixels = NDArray[np.uint8]
PROGRAM = "from deblurgan.runtime.app import main; print('ready', flush=True); main()"


@pytest.mark.parametrize("link", ["itself", "symlink", "hard link", "through a folder"])
@pytest.mark.parametrize("name", ["in.mp4", "in.png"])
def test_the_input_is_never_the_output(
    link: str,
    name: str,
    make_clip: Make,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    refused: Refused,
) -> None:
    source, other = tmp_path / name, tmp_path / f"other{name[2:]}"
    make_clip(source) if name.endswith("mp4") else cv2.imwrite(str(source), photo)
    content = source.read_bytes()
    if link == "symlink":
        other.symlink_to(source)
    elif link == "hard link":
        other.hardlink_to(source)
    elif link == "through a folder":
        (tmp_path / "there").symlink_to(tmp_path)
        other = tmp_path / "there" / name
    else:
        other = source
    said = refused(tmp_path, source, other, "-y", "--model", negative)
    assert "found the input itself" in said
    assert source.read_bytes() == content


def test_a_folder_onto_itself_and_into_itself(
    negative: Path, photo: Pixels, tmp_path: Path, refused: Refused, deblur: Deblur
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), photo)
    refused(tmp_path, folder, folder, "-y", "--model", negative)
    assert deblur(folder, folder / "sharp", "--model", negative) == 0
    assert [path.name for path in sorted(folder.iterdir())] == ["a.png", "sharp"]


@pytest.mark.parametrize("name", ["in.mp4", "in.png"])
def test_a_file_where_a_folder_should_be(
    name: str, make_clip: Make, negative: Path, photo: Pixels, tmp_path: Path, refused: Refused
) -> None:
    source = tmp_path / name
    make_clip(source) if name.endswith("mp4") else cv2.imwrite(str(source), photo)
    (tmp_path / "file").write_text("precious")
    target = tmp_path / "file" / f"out{name[2:]}"
    assert "a folder that exists" in refused(tmp_path, source, target, "--model", negative)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_file_where_the_folder_of_pictures_should_be_made(
    negative: Path, photo: Pixels, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), photo)
    (tmp_path / "file").write_text("precious")
    words = [tmp_path / "in", tmp_path / "file" / "out", "--model", negative]
    assert "a folder" in refused(tmp_path, *words)


def test_a_folder_whose_pictures_names_are_folders_there(
    negative: Path, photo: Pixels, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), photo)
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    refused(tmp_path, tmp_path / "in", tmp_path / "out", "-y", "--model", negative)


@pytest.mark.parametrize("output", [False, True])
def test_a_folder_of_no_permission(
    output: bool, make_clip: Make, negative: Path, tmp_path: Path, refused: Refused
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read and write everything")
    folder = tmp_path / "closed"
    folder.mkdir()
    clip = make_clip((tmp_path if output else folder) / "in.mp4")
    if not output:
        clip.chmod(0)
    target = (folder if output else tmp_path) / "out.mp4"
    folder.chmod(0o500)
    said = refused(tmp_path, clip, target, "--model", negative)
    folder.chmod(0o700)
    assert "permission" in said.lower()


@pytest.mark.parametrize("name", ["in.png", "in.mp4"])
def test_a_folder_that_not_even_root_writes_to(
    name: str,
    make_clip: Make,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    deblur: Deblur,
) -> None:
    if not Path("/sys/kernel").is_dir():
        pytest.skip("no /sys here")
    source = tmp_path / name
    make_clip(source) if name.endswith("mp4") else cv2.imwrite(str(source), photo)
    assert deblur(source, Path("/sys/kernel") / f"out{name[2:]}", "--model", negative) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "permission" in said or "read-only" in said


@pytest.mark.parametrize("name", ["in.png", "in.mp4"])
def test_no_permission_on_the_input(
    name: str,
    make_clip: Make,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
) -> None:
    """As a user without rights would see it, which root cannot be."""
    source = tmp_path / name
    make_clip(source) if name.endswith("mp4") else cv2.imwrite(str(source), photo)

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(source))

    if name.endswith("png"):
        monkeypatch.setattr(Path, "read_bytes", closed)
    else:
        denied = av.error.PermissionError(13, "Permission denied", str(source))
        monkeypatch.setattr(av, "open", lambda *_, **__: (_ for _ in ()).throw(denied))
    said = refused(tmp_path, source, tmp_path / f"out{name[2:]}", "--model", negative)
    assert "permission denied" in said.lower()


@pytest.mark.parametrize(
    "name",
    [
        "with spaces.mp4",
        "new\nline.mp4",
        "[brackets] [red]*?.mp4",
        "überraschung 動画.mp4",
        "%d-%05d.mp4",
        "a:b.mp4",
        "file:c.mp4",
        "concat:d|e.mp4",
        "http:f.mp4",
        "'quoted' \"twice\" $(x) `y`.mp4",
        "tab\tand\x1b[31mcolour.mp4",
        "..mp4.mp4",
        "n" * 240 + ".mp4",
        os.fsdecode(b"latin-\xe9.mp4"),
        "%d.png",
        "new\nline [x].png",
        os.fsdecode(b"latin-\xe9.png"),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_names_of_every_kind(
    name: str,
    relative: bool,
    make_clip: Make,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deblur: Deblur,
) -> None:
    (tmp_path / "out").mkdir()
    if name.endswith("png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", photo)[1].tobytes())
    else:
        made = make_clip(tmp_path / "made.mp4", times=[0, 512])
        os.rename(made, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    root = Path() if relative else tmp_path
    assert deblur(root / name, root / "out" / name, "--model", negative) == 0
    assert os.listdir(tmp_path / "out") == [name]


def test_names_that_look_like_options(
    make_clip: Make, negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.rename(make_clip(tmp_path / "in.mp4"), tmp_path / "-y.mp4")
    monkeypatch.chdir(tmp_path)
    words = ["--model", str(negative), "--backend", "onnxruntime", "--", "-y.mp4", "--out.mp4"]
    assert console.run(app, words) == 0
    assert sorted(os.listdir(tmp_path)) == ["--out.mp4", "-y.mp4"]


@pytest.mark.parametrize("name", ["in.mp4", "in.png"])
@pytest.mark.parametrize("target", ["pipe", "device"])
def test_an_output_that_is_no_file_stays_what_it_is(
    name: str,
    target: str,
    make_clip: Make,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    refused: Refused,
) -> None:
    source, out = tmp_path / name, tmp_path / f"out{name[2:]}"
    make_clip(source) if name.endswith("mp4") else cv2.imwrite(str(source), photo)
    if target == "pipe":
        os.mkfifo(out)
    else:
        out.symlink_to("/dev/null")
    refused(tmp_path, source, out, "--model", negative)
    assert out.is_fifo() or out.is_char_device()


def test_a_pipe_is_not_replaced_by_a_picture(
    negative: Path, photo: Pixels, tmp_path: Path, refused: Refused
) -> None:
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), photo)
    os.mkfifo(out)
    said = refused(tmp_path, source, out, "-y", "--model", negative)
    assert "a pipe or a device of that name" in said
    assert out.is_fifo()


def test_a_video_in_a_pipe_of_a_name_is_refused_before_it_is_read(
    tmp_path: Path, refused: Refused
) -> None:
    os.mkfifo(tmp_path / "in.mp4")
    said = refused(tmp_path, tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert said.endswith(
        "found a pipe or a device; name a file, or give it to standard input: "
        "… | deblur-video - OUT"
    )


def test_a_link_stays_one_and_its_file_is_written(
    make_clip: Callable[..., Path], negative: Path, tmp_path: Path, deblur: Callable[..., int]
) -> None:
    clip, link, file = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", tmp_path / "real.mp4"
    link.symlink_to(file)
    assert deblur(clip, link, "--model", negative) == 0
    assert link.is_symlink()
    first = file.stat().st_ino
    assert deblur(clip, link, "--model", negative, "--duration", "0.1") == 2
    assert deblur(clip, link, "--model", negative, "--duration", "0.1", "-y") == 0
    assert link.is_symlink()
    assert file.stat().st_ino != first


@pytest.mark.parametrize("end", ["out.mp4", "store"])
def test_a_link_to_nowhere_that_can_be_written_is_replaced(
    end: str,
    make_clip: Callable[..., Path],
    negative: Path,
    tmp_path: Path,
    deblur: Callable[..., int],
) -> None:
    """To itself, and to a name of no video."""
    clip, link = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    link.symlink_to(tmp_path / end)
    assert deblur(clip, link, "--model", negative) == 0
    assert link.is_file()
    assert not (tmp_path / "store").exists()


def test_a_pipe_that_nobody_writes_to_can_be_stopped(negative: Path, tmp_path: Path) -> None:
    """It may be written to yet, so waiting is right, and Ctrl-C ends it."""
    name = "in.png"
    os.mkfifo(tmp_path / name)
    words = [tmp_path / name, tmp_path / f"out{name[2:]}", "--model", negative]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert process.returncode in (2, 130), said
    assert "Traceback" not in said
    assert os.listdir(tmp_path) == [name]
