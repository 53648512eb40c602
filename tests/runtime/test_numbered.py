"""Numbered pictures in, numbered pictures out."""

from __future__ import annotations

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
Pixels = NDArray[np.uint8]


def deblur(*words: object) -> int:
    return console.run(app, [*map(str, words), "--backend", "onnxruntime"])


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


@pytest.fixture
def pictures(photo: Pixels, tmp_path: Path) -> Path:
    """Six of them, from number 17 on."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f"{17 + index:04d}.png"), np.roll(photo, 5 * index, 1))
    return folder / "%04d.png"


def test_pictures_become_a_video(
    pictures: Path, negative: Path, photo: Pixels, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    code = deblur(
        pictures, out, "--rate", "30000/1001", "--model", negative, "--codec", "ffv1",
    )  # fmt: skip
    assert code == 0
    with av.open(str(out)) as file:
        assert file.streams.video[0].average_rate == pytest.approx(30000 / 1001, abs=0.01)
    written = frames_of(out)
    assert [round(float(f.time or 0) * 30000 / 1001) for f in written] == [*range(6)]
    for index, frame in enumerate(written):
        expected = 255 - np.roll(photo, 5 * index, 1)[:, :, ::-1]
        assert np.abs(expected.astype(int) - frame.to_ndarray(format="rgb24")).mean() < 3


def test_pictures_become_pictures_with_their_numbers(
    pictures: Path, negative: Path, photo: Pixels, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    assert deblur(pictures, out / "%05d.png", "--model", negative) == 0
    assert sorted(p.name for p in out.iterdir()) == [f"{17 + i:05d}.png" for i in range(6)]
    for index in range(6):
        made = cv2.imread(str(out / f"{17 + index:05d}.png"))
        assert np.array_equal(made, 255 - np.roll(photo, 5 * index, 1))


def test_a_video_becomes_pictures(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True)
    words = [clip, tmp_path / "50% off" / "%d.png", "--model", negative]
    assert deblur(*words) == 0
    assert "left out: stream 1 (audio aac)" in capsys.readouterr().err
    names = {p.name for p in (tmp_path / "50% off").iterdir()}
    assert names == {f"{i}.png" for i in range(1, 13)}
    for index, frame in enumerate(frames_of(clip), 1):
        made = cv2.imread(str(tmp_path / "50% off" / f"{index}.png"))[:, :, ::-1]
        assert np.abs(255.0 - frame.to_ndarray(format="rgb24") - made).mean() < 8
    assert deblur(*words) == 2
    assert "found 12 pictures there already" in capsys.readouterr().err
    assert deblur(*words, "-y") == 0


def test_pictures_are_not_written_over_while_they_are_read(
    pictures: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [p.read_bytes() for p in sorted(pictures.parent.iterdir())]
    assert deblur(pictures, pictures, "-y", "--model", negative) == 2
    assert "found the input itself" in capsys.readouterr().err
    assert [p.read_bytes() for p in sorted(pictures.parent.iterdir())] == before


def test_a_folder_with_a_percent_sign(pictures: Path, negative: Path, tmp_path: Path) -> None:
    folder = pictures.parent.rename(tmp_path / "100%d [a]*")
    out = tmp_path / "out.mp4"
    assert deblur(folder / pictures.name, out, "--model", negative) == 0
    assert len(frames_of(out)) == 6


def test_a_gap_in_the_numbers_is_said(
    pictures: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures.parent / "0019.png").unlink()
    assert deblur(pictures, tmp_path / "out.mp4", "--model", negative) == 2
    said = capsys.readouterr().err
    assert "expected numbers without a gap, found none between 18 and 20" in said
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("kind", ["deep", "alpha", "grey"])
def test_pictures_of_other_kinds(
    kind: str, negative: Path, photo: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {
        "deep": photo.astype(np.uint16) * 257,
        "alpha": np.dstack([photo, photo[:, :, 0]]),
        "grey": photo[:, :, 1],
    }[kind]
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), made)
    assert deblur(tmp_path / "%d.png", tmp_path / "out.mkv", "--model", negative) == 0
    said = capsys.readouterr().err
    assert ("transparency" in said) == (kind == "alpha")
    expected = 255 - (np.dstack([photo[:, :, 1]] * 3) if kind == "grey" else photo[:, :, ::-1])
    for frame in frames_of(tmp_path / "out.mkv"):
        shown = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(shown - expected).mean() < 8
        assert (frame.format.components[0].bits > 8) == (kind == "deep")


def test_pictures_of_another_size_are_scaled_and_said(
    pictures: Path,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cv2.imwrite(str(pictures.parent / "0020.png"), photo[:80, :100])
    for out in (tmp_path / "out.mp4", tmp_path / "out" / "%d.png"):
        assert deblur(pictures, out, "--model", negative) == 0
        said = capsys.readouterr().err
        assert "frames of 100x80 from 0.10 s on: scaled to 160x96, like the first" in said
    assert [f.width for f in frames_of(tmp_path / "out.mp4")] == [160] * 6
    assert {cv2.imread(str(p)).shape for p in (tmp_path / "out").iterdir()} == {(96, 160, 3)}


def test_a_picture_that_is_broken_is_said(
    pictures: Path, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures.parent / "0020.png").write_bytes(b"no picture")
    out = tmp_path / "out.mp4"
    assert deblur(pictures, out, "--model", negative) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "expected a whole video, found damage" in said
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
