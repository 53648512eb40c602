"""``deblur-video`` as a user calls it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import console
from deblurgan.runtime.app import app
from deblurgan.runtime.disk import DiskError
from deblurgan.runtime.video.muxer import VideoMuxer
from deblurgan.runtime.video.unfinished import finished_folder_of

Make = Callable[..., Path]


def deblur_video(*words: object) -> int:
    return console.run(app, [str(word) for word in words])


def test_a_clip_goes_all_the_way(make_clip: Make, negative: Path, tmp_path: Path) -> None:
    clip, out, picture = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", tmp_path / "ba.png"
    assert deblur_video(clip, out, "--model", negative, "--before-after", picture, "-q") == 0
    with av.open(str(clip)) as old, av.open(str(out)) as new:
        for before, after in zip(old.decode(video=0), new.decode(video=0), strict=True):
            difference = 255 - before.to_ndarray(format="rgb24") - after.to_ndarray(format="rgb24")
            # Colours of the clip that RGB does not hold stay as far outside it.
            assert np.abs(difference.astype(np.int8)).mean() < 8
    assert cv2.imread(str(picture)).shape[1] > 2 * 160
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ba.png", "in.mp4", "out.mp4"]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_a_still_goes_all_the_way(
    negative: Path, photo: NDArray[np.uint8], tmp_path: Path, suffix: str
) -> None:
    still, out = tmp_path / "in.png", tmp_path / f"out{suffix}"
    cv2.imwrite(str(still), photo)
    assert deblur_video(still, out, "--model", negative) == 0
    if suffix != ".webp":  # the one that loses a little
        assert np.array_equal(cv2.imread(str(out)), 255 - photo)


def test_alpha_and_grey_stay_what_they_are(
    negative: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    alpha, grey = np.dstack([photo, photo[:, :, 0]]), photo[:, :, 1]
    deep = photo.astype(np.uint16) * 257
    for name, picture in (("alpha", alpha), ("grey", grey), ("deep", deep)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        assert (
            deblur_video(tmp_path / f"{name}.png", tmp_path / "out.png", "-y", "--model", negative)
            == 0
        )
        out = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
        if name == "alpha":
            assert np.array_equal(out, np.dstack([255 - photo, photo[:, :, 0]]))
        else:
            assert np.array_equal(out, 255 - (grey if name == "grey" else photo))


def test_what_a_picture_loses_is_said_once(
    negative: Path, photo: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, report = tmp_path / "in", tmp_path / "report.json"
    source.mkdir()
    alpha = np.dstack([photo, photo[:, :, 0]])
    for name in "ab":
        cv2.imwrite(str(source / f"{name}.png"), alpha.astype(np.uint16) * 257)
    assert deblur_video(source, tmp_path / "out", "--model", negative, "--json", report) == 0
    depth = "colour depth beyond 8 bits"
    said = " ".join(capsys.readouterr().err.split())
    assert f"left out of {source / 'a.png'}, and of others like it: {depth}" in said
    assert said.count("left out") == 1
    assert json.loads(report.read_text())["left_out"] == [depth]

    assert deblur_video(source / "b.png", tmp_path / "b.jpg", "--model", negative) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"left out of {source / 'b.png'}: {depth}, transparency" in said
    assert cv2.imread(str(tmp_path / "b.jpg"), cv2.IMREAD_UNCHANGED).shape == photo.shape


def test_a_folder_of_pictures_of_several_sizes(
    negative: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index in range(5):
        cv2.imwrite(str(source / f"{index}.png"), photo[: 96 - 16 * (index // 3)])
    assert deblur_video(source, out, "--model", negative) == 0
    assert [p.name for p in sorted(out.iterdir())] == [f"{i}.png" for i in range(5)]
    assert np.array_equal(cv2.imread(str(out / "4.png")), 255 - photo[:80])


def test_what_is_there_is_not_overwritten_unless_told(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    out.write_text("precious")
    assert deblur_video(clip, out, "--model", negative) == 2
    assert "replace it with -y" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert deblur_video(clip, out, "--model", negative, "-y") == 0
    assert out.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.mp4", "out.mp4"], "missing.mp4: expected a video, a picture or a folder"),
        (["in.mp4", "in.mp4", "-y"], "found the input itself"),
        (["in.mp4", "out.xyz"], "a video name ending in .mp4"),
        (["in.mp4", "nowhere/out.mp4"], "found no such folder; make it with: mkdir -p"),
        (["in.mp4", "out.mp4", "--codec", "mpeg2"], "one of h264, hevc, av1, ffv1, prores"),
        (["in.mp4", "out.mp4", "--quality", "99"], "0 (best) to 51 for h264"),
        (["in.mp4", "out.mp4", "--backend", "abacus"], "found abacus"),
        (["in.mp4"], "OUT: expected where to write, found nothing; deblur-video"),
        (["in.mp4", "out.mp4", "--start", "soon"], "--start: expected seconds"),
        (["in.mp4", "out.mp4", "--start", "60"], "--start: expected a part with frames"),
        (["in.mp4", "--preview", "look.png", "--json", "r.json"], "an OUT to go with them"),
        (
            ["in.mp4", "out.mp4", "--preview", "look.png", "--before-after", "look.png"],
            "a name of its own for each output",
        ),
        (["in.mp4", "out.mp4", "--duration", "0"], "more than nothing"),
        (["in.mp4", "out.mp4", "--compare", "diagonal"], "side or split, found diagonal"),
        (["in.mp4", "out.mp4", "--hardware", "steam"], "one of auto, cuda, none"),
        (["in.mp4", "out.mp4", "--tile", "large"], "auto, none or a number of pixels"),
        (["in.mp4", "out.mp4", "--tile", "8"], "neighbours share"),
        (["in.mp4", "out.mp4", "--memory-limit", "4"], "write --memory-limit 4G"),
        (["in.mp4", "out.mp4", "--json", "out.mp4"], "a name of its own for each output"),
        (["in.mp4", "out.mp4", "--json", "nowhere/r.json"], "no such folder"),
        (["in.mp4", "--preview", "look.txt"], "a picture name ending in"),
        (["photo.png", "out.png", "--start", "1"], "--start, --duration: expected a video"),
        (["photo.png", "out.png", "--compare", "side"], "--compare: expected a video"),
        (["photo.png", "--preview", "look.png"], "--preview: expected a video"),
        (["in.mp4", "out.mp4", "--model", "nowhere.onnx"], "found no such file"),
        (["text.png", "out.png"], "found a file that does not decode"),
        (["empty", "out"], "empty: expected pictures"),
        (["tiny.png", "out.png"], "at least 16x16 pixels, found 8x8"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: list[str],
    said: str,
    make_clip: Make,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_clip(tmp_path / "in.mp4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("not a picture")
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((32, 32, 3), np.uint8))
    before = sorted(tmp_path.rglob("*"))
    places = [tmp_path / word if "." in word else word for word in words]
    if words[0] == "empty":
        places = [tmp_path / word for word in words]
    model = [] if "--model" in words else ["--model", negative]
    assert deblur_video(*places, *model) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_said(make_clip: Make, negative: Path, tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: both fail the write in the middle."""
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(200)])
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from deblurgan.runtime.app import main; main()"
    )
    words = [clip, tmp_path / "out.mp4", "--model", negative, "--quality", "0"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "expected room" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("width", [426, 480, 854, 1080, 1366])
def test_widths_whose_rows_the_decoder_pads(
    width: int, make_clip: Make, negative: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", cv2.resize(photo, (width, 64)), times=[0, 512, 1024])
    assert deblur_video(clip, tmp_path / "out.mp4", "--model", negative) == 0


@pytest.mark.parametrize(
    ("pixel_format", "left_out"),
    [
        ("yuva444p", "transparency"),
        ("yuv420p10le", None),
        ("yuv422p14le", "colour depth beyond 12 bits"),
        ("bgr0", None),
        ("yuv410p", None),
    ],
)
def test_codings_that_do_not_fit_are_said_or_fit(
    pixel_format: str,
    left_out: str | None,
    make_clip: Make,
    negative: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format=pixel_format)
    assert deblur_video(clip, tmp_path / "out.mp4", "--model", negative, "--quality", "4") == 0
    said = capsys.readouterr().err
    assert (f"left out: {left_out}" in said) if left_out else ("left out" not in said)
    assert deblur_video(clip, tmp_path / "pictures" / "%d.png", "--model", negative) == 0
    said = capsys.readouterr().err
    assert ("colour depth beyond 8 bits" in said) == (pixel_format[-2:] == "le")
    assert ("transparency" in said) == (pixel_format == "yuva444p")
    with av.open(str(clip)) as old, av.open(str(tmp_path / "out.mp4")) as new:
        before = next(old.decode(video=0)).to_ndarray(format="rgb24")
        after = next(new.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs((255.0 - before).mean((0, 1)) - after.mean((0, 1))).max() < 3


@pytest.mark.parametrize("size", [(33, 17), (160, 97), (161, 96)])
def test_odd_sizes(
    size: tuple[int, int],
    make_clip: Make,
    negative: Path,
    photo: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", cv2.resize(photo, size), codec="ffv1")
    assert deblur_video(clip, tmp_path / "out.mp4", "--model", negative) == 0
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert (out.streams.video[0].width, out.streams.video[0].height) == size


def test_a_preset_that_the_encoder_refuses(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", "--preset", "silly"]
    assert deblur_video(*words, "--model", negative) == 2
    assert "preset silly" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_clip_that_was_cut_off_is_said(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make_clip(tmp_path / "whole.mp4", times=[512 * i for i in range(200)])
    cut = tmp_path / "cut.mp4"
    with (
        av.open(str(whole)) as old,
        av.open(str(cut), "w", options={"movflags": "+faststart"}) as new,
    ):
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    assert deblur_video(cut, tmp_path / "out.mp4", "--model", negative) == 2
    assert "expected a whole video" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


def test_a_preview_alone_and_before_the_run(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, look, out = make_clip(tmp_path / "in.mp4"), tmp_path / "look.png", tmp_path / "out.mp4"
    assert deblur_video(clip, "--preview", look, "--model", negative) == 0
    picture = cv2.imread(str(look))
    assert picture.shape[1] > 2 * 160
    assert picture.shape[0] > 3 * 96
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "look.png"]
    assert deblur_video(clip, out, "--preview", look, "--model", negative) == 2
    assert "replace it with -y" in capsys.readouterr().err
    assert deblur_video(clip, out, "--preview", look, "--model", negative, "-y") == 0
    assert out.exists()


def test_a_part_compared_and_reported(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(60)], sound=True)
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    words = [clip, out, "--start", "0:00:01", "--duration", "0.5", "--compare", "side"]
    assert deblur_video(*words, "--json", report, "--model", negative) == 0
    assert "read again: 15 frames" in capsys.readouterr().err
    with av.open(str(out)) as video:
        assert (video.streams.video[0].width, video.streams.video[0].height) == (320, 96)
        times = [frame.time for frame in video.decode(video=0)]
    assert times[0] == 0
    assert len(times) == 15
    values = json.loads(report.read_text())
    assert values["frames"] == 15
    assert values["verified"] is True
    assert values["packets_passed_on"] > 20
    assert values["limit"] in values["stages"]
    assert values["peak_memory"] > 10_000_000
    assert 0 < values["stages"]["engine"]["share"] <= 1


def test_streams_that_do_not_fit_are_refused_and_dropped_when_told(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", sound=True), tmp_path / "out.webm"
    assert deblur_video(clip, out, "--model", negative, "--preset", "12") == 2
    assert "write out.mkv, or leave such out with --drop-streams" in capsys.readouterr().err
    words = [clip, out, "--model", negative, "--preset", "12", "--drop-streams"]
    assert deblur_video(*words) == 0
    assert "left out: stream 1 (audio aac)" in capsys.readouterr().err


def test_hdr_is_refused_with_the_command_that_converts(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(
        tmp_path / "in.mkv", codec="libx265", pixel_format="yuv420p10le", tags=(9, 1, 9, 16)
    )
    assert deblur_video(clip, tmp_path / "out.mp4", "--model", negative) == 2
    assert "found HDR (PQ); convert it first: ffmpeg" in capsys.readouterr().err
    assert deblur_video(clip, "--preview", tmp_path / "look.png", "--model", negative) == 2
    assert "found HDR (PQ); convert it first: ffmpeg" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


def test_a_preview_of_a_clip_that_changes_its_size(
    make_clip: Make, negative: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    parts = [make_clip(tmp_path / "a.ts"), tmp_path / "b.ts", tmp_path / "in.ts"]
    make_clip(parts[1], photo[:80, :128].copy(), times=[512 * i for i in range(12, 36)])
    parts[2].write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    look = tmp_path / "look.png"
    assert deblur_video(parts[2], "--preview", look, "--model", negative) == 0
    assert cv2.imread(str(look)).shape[1] == 2 * 160 + 4


def test_a_picture_is_made_though_an_earlier_run_had_finished_all(
    make_clip: Make, negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    words = [clip, out, "--model", negative, "--before-after", tmp_path / "pair.png"]

    def is_full(*_: object) -> None:
        raise DiskError(out, expected="room", found="none", remedy="make some")

    with monkeypatch.context() as broken:
        broken.setattr(VideoMuxer, "write", is_full)
        assert deblur_video(*words) != 0
    assert not (tmp_path / "pair.png").exists()
    assert deblur_video(*words, "--json", tmp_path / "report.json") == 0
    assert json.loads((tmp_path / "report.json").read_text())["frames"] == 0
    assert cv2.imread(str(tmp_path / "pair.png")).shape[1] == 2 * 160 + 4


def test_a_run_that_was_killed_while_it_cleaned_up_had_finished(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert deblur_video(clip, out, "--model", negative) == 0
    left = finished_folder_of(out)
    for more, code, said in (
        ([], 0, "the run before had finished it"),
        (["--json", tmp_path / "report.json"], 2, "make it anew with -y"),
        (["--json", tmp_path / "report.json", "-y"], 0, "12 frames"),
    ):
        left.mkdir()
        assert deblur_video(clip, out, "--model", negative, *more) == code
        assert said in " ".join(capsys.readouterr().err.split())
        assert not left.exists()


def test_quiet_says_errors_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deblur_video(tmp_path / "missing.mp4", tmp_path / "out.mp4", "-q") == 2
    assert "missing.mp4: expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["in.png", "out.png", "there.png", "look.txt", "nowhere/x.png"])
def test_before_after_destroys_nothing(
    name: str, negative: Path, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), photo)
    (tmp_path / "there.png").write_text("precious")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    words = [tmp_path / "in.png", tmp_path / "out.png", "--model", negative]
    assert deblur_video(*words, "--before-after", tmp_path / name) == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_is_no_place_for_a_file_nor_a_video_name_for_a_folder(
    make_clip: Make, negative: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, folder = make_clip(tmp_path / "in.mp4"), tmp_path / "folder"
    folder.mkdir()
    assert deblur_video(clip, folder, "-y", "--model", negative) == 2
    assert f"write {folder / 'in.mp4'}" in capsys.readouterr().err
    assert deblur_video(folder, tmp_path / "out.mp4", "--model", negative) == 2
    assert "the name of a video" in capsys.readouterr().err


def test_a_refused_picture_leaves_no_folder(negative: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "tiny.png"), np.zeros((8, 8, 3), np.uint8))
    assert deblur_video(tmp_path / "in", tmp_path / "out", "--model", negative) == 2
    assert not (tmp_path / "out").exists()


def test_a_terminal_sees_a_bar_with_fps_and_engine_time(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    pty = pytest.importorskip("pty")
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(400)])
    program = "from deblurgan.runtime.app import main; main()"
    ours, theirs = pty.openpty()
    words = [clip, tmp_path / "out.mp4", "--model", negative]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal's end is an error on Linux
        while data := os.read(ours, 4096):
            seen += data
    os.close(ours)
    assert process.wait(60) == 0, seen
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search(
        r"\d+/400 frames +[\d.]+ fps, engine \d+ ms a frame, (decode|engine|encode)-bound \d+%",
        text,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gopro_max-heromode.mp4", "bikes.mp4", "intel_car-detection.mp4"])
def test_real_clips_go_all_the_way_with_the_shipped_model(
    shared: Path, tmp_path: Path, name: str
) -> None:
    clip, out = shared / "data" / "videos" / name, tmp_path / "out.mp4"
    assert deblur_video(clip, out) == 0
    assert timestamps(out) == timestamps(clip)


@pytest.mark.slow
def test_the_gopro_sequence_goes_all_the_way_as_frames(shared: Path, tmp_path: Path) -> None:
    frames, out = shared / "data" / "gopro" / "sequence", tmp_path / "out"
    assert deblur_video(frames, out) == 0
    assert [p.name for p in sorted(out.iterdir())] == [p.name for p in sorted(frames.iterdir())]


def timestamps(path: Path) -> dict[int, list[tuple[Fraction, bytes | None]]]:
    """By stream: when each frame is shown, and when each sound packet is heard, with its bytes."""
    found: dict[int, list[tuple[Fraction, bytes | None]]] = {}
    with av.open(str(path)) as file:
        streams = [s for s in file.streams if s.type in ("video", "audio")]
        for packet in file.demux(streams):
            times = found.setdefault(packet.stream.index, [])
            if packet.stream.type == "video":
                times += [(frame.pts * frame.time_base, None) for frame in packet.decode()]
            elif packet.dts is not None:
                times.append((packet.pts * packet.time_base, bytes(packet)))
    return found
