"""``deblur-video`` between two other programs: frames in, frames out, and how it ends."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import console
from deblurgan.runtime.app import app

Make = Callable[..., Path]
Pixels = NDArray[np.uint8]
PROGRAM = "from deblurgan.runtime.app import main; main()"
QUICK = ("--backend", "onnxruntime")
TIMES = [512 * i for i in range(9)]


@contextmanager
def standard_input(content: bytes, folder: Path) -> Iterator[None]:
    """This process's own, from a file."""
    file = folder / "stdin"
    file.write_bytes(content)
    before = os.dup(0)
    with file.open("rb") as opened:
        os.dup2(opened.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        file.unlink()


@pytest.fixture
def through(
    negative: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., tuple[int, bytes, str]]:
    """Runs the program with bytes on its standard input: its status, output and messages."""

    def run(content: bytes, *words: object) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        with standard_input(content, tmp_path):
            code = console.run(app, [*map(str, words), "--model", str(negative), *QUICK])
        out, said = capfdbinary.readouterr()
        return code, out, said.decode()

    return run


def start(*words: object, **settings: Any) -> subprocess.Popen[bytes]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words), *QUICK], **{**pipes, **settings}
    )


def read(content: bytes | Path, **settings: Any) -> list[av.VideoFrame]:
    source = BytesIO(content) if isinstance(content, bytes) else str(content)
    with av.open(source, **settings) as file:
        return list(file.decode(video=0))


def planes(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Without what pads their rows."""
    wide = np.uint16 if "10" in frame.format.name else np.uint8
    return [
        np.frombuffer(p, np.uint8).reshape(p.height, p.line_size).view(wide)[:, : p.width]
        for p in frame.planes
    ]


def pixels(frame: av.VideoFrame) -> Pixels:
    return frame.to_ndarray(format="rgb24")


def y4m(picture: Pixels, pixel_format: str = "yuv420p", frames: int = 9, head: str = "") -> bytes:
    """``picture`` moving sideways, as YUV4MPEG; ``head`` is more of its header."""
    coding = pixel_format[3:6] + ("p10" if "10" in pixel_format else "")
    size = f"W{picture.shape[1]} H{picture.shape[0]}"
    content = f"YUV4MPEG2 {size} F30:1 Ip C{coding} {head}\n".encode()
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * index, 1), format="rgb24")
        rows = planes(frame.reformat(format=pixel_format))
        content += b"FRAME\n" + b"".join(row.tobytes() for row in rows)
    return content


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv422p10le", "yuv420p10le"])
@pytest.mark.parametrize("size", [(160, 96), (75, 49)])
def test_frames_go_through_as_they_do_with_a_file(
    pixel_format: str,
    size: tuple[int, int],
    make_clip: Make,
    through: Callable[..., tuple[int, bytes, str]],
    photo: Pixels,
    tmp_path: Path,
) -> None:
    given = y4m(photo[: size[1], : size[0]].copy(), pixel_format)
    (tmp_path / "in.y4m").write_bytes(given)
    code, out, said = through(given, "-", "-")
    assert code == 0, said
    code, _, said = through(b"", tmp_path / "in.y4m", tmp_path / "out.mkv", "--codec", "ffv1")
    assert code == 0, said
    piped, filed = read(out), read(tmp_path / "out.mkv")
    assert [(f.width, f.height) for f in piped] == [size] * 9
    assert {f.format.name for f in piped} == {filed[0].format.name}
    for one, other in zip(piped, filed, strict=True):
        assert all(map(np.array_equal, planes(one), planes(other)))
    if size == (160, 96):
        assert piped[0].format.name == pixel_format
    for before, after in zip(read(given), piped, strict=True):
        assert np.abs(255.0 - pixels(before) - pixels(after)).mean() < 8


@pytest.mark.parametrize(
    ("pixel_format", "of_y4m", "of_raw"),
    [
        ("yuv420p10le", "", "colour depth beyond 8 bits"),
        ("yuva420p", "transparency", "transparency"),
        ("yuv422p", "", ""),
    ],
)
def test_what_a_pipe_cannot_hold_is_said(
    pixel_format: str,
    of_y4m: str,
    of_raw: str,
    make_clip: Make,
    through: Callable[..., tuple[int, bytes, str]],
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format=pixel_format)
    for words, lost in (((), of_y4m), (("--raw", "160x96"), of_raw)):
        code, _, said = through(b"", clip, "-", *words)
        assert code == 0, said
        assert (f"left out: {lost}" in said) if lost else ("left out" not in said), words


def test_raw_frames_go_through_to_the_bit(
    through: Callable[..., tuple[int, bytes, str]], photo: Pixels
) -> None:
    frames = [np.roll(photo[:49, :75], 3 * i, 1) for i in range(7)]
    given = b"".join(frame.tobytes() for frame in frames)
    code, out, said = through(given, "-", "-", "--raw", "75x49")
    assert code == 0, said
    assert out == b"".join((255 - frame).tobytes() for frame in frames)


def test_the_part_of_a_raw_frame_at_the_end_is_left_out_and_said(
    through: Callable[..., tuple[int, bytes, str]], photo: Pixels, tmp_path: Path
) -> None:
    given = b"".join(np.roll(photo, i, 1).tobytes() for i in range(3)) + photo.tobytes()[:7000]
    code, out, said = through(given, "-", "-", "--raw", "160x96@25")
    assert code == 0, said
    assert len(out) == 3 * photo.nbytes
    assert "left out: the frame at the end, which is not whole" in said
    code, _, said = through(given, "-", tmp_path / "out.mp4", "--raw", "160x96@25")
    assert code == 0, said
    written = read(tmp_path / "out.mp4")
    assert [round(float(f.time or 0) * 25) for f in written] == [0, 1, 2]


def test_a_video_becomes_raw_frames_of_the_size_that_was_told(
    make_clip: Make, through: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=TIMES)
    code, out, said = through(b"", clip, "-", "--raw", "160x96")
    assert code == 0, said
    assert len(out) == 9 * 160 * 96 * 3
    code, out, said = through(b"", clip, "-", "--raw", "96x160")
    assert (code, out) == (2, b"")
    assert "--raw: expected the size of the frames that are written, 160x96, found 96x160" in said


def test_frames_that_come_unevenly_are_said(
    make_clip: Make, through: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    even = make_clip(tmp_path / "even.mp4", times=[512 * i for i in range(12)])
    uneven = make_clip(
        tmp_path / "uneven.mp4", times=[512 * i for i in (*range(6), *range(8, 26, 3))]
    )
    assert "evenly" not in through(b"", even, "-")[2]
    code, out, said = through(b"", uneven, "-")
    assert code == 0, said
    assert said.count("frames do not follow each other evenly, from 0.27 s on") == 1
    assert len(read(out)) == 12


def test_frames_that_drift_away_from_their_times_are_said(
    make_clip: Make, through: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    """No step is far from the mean of all, and after half of them they are 0.4 s late."""
    slow = [640 * i for i in range(60)]
    fast = [640 * 60 + 384 * i for i in range(60)]
    clip = make_clip(tmp_path / "drift.mp4", times=slow + fast)
    assert through(b"", clip, "-")[2].count("do not follow each other evenly") == 1


def test_range_and_shape_of_pixels_stay(
    make_clip: Make, through: Callable[..., tuple[int, bytes, str]], photo: Pixels, tmp_path: Path
) -> None:
    given = y4m(photo, head="A4:3 XCOLORRANGE=FULL")
    code, out, said = through(given, "-", "-")
    assert code == 0, said
    head = out.split(b"\n", 1)[0]
    assert b"XCOLORRANGE=FULL" in head
    assert b" A4:3" in head
    assert b" F30:1" in head
    assert np.abs(255.0 - pixels(read(given)[0]) - pixels(read(out)[0])).mean() < 4


def test_compared_frames_go_through_a_pipe(
    make_clip: Make, through: Callable[..., tuple[int, bytes, str]], photo: Pixels, tmp_path: Path
) -> None:
    code, out, said = through(y4m(photo), "-", "-", "--compare", "side")
    assert code == 0, said
    assert [f.width for f in read(out)] == [320] * 9


@pytest.mark.parametrize("container", ["matroska", "nut", "mpegts"])
def test_a_container_from_a_pipe_becomes_a_file(
    container: str,
    make_clip: Make,
    through: Callable[..., tuple[int, bytes, str]],
    tmp_path: Path,
) -> None:
    suffix = {"matroska": "mkv", "nut": "nut", "mpegts": "ts"}[container]
    clip = make_clip(tmp_path / f"in.{suffix}", times=TIMES, sound=True)
    code, _, said = through(clip.read_bytes(), "-", tmp_path / "out.mp4")
    assert code == 0, said
    assert "left out: stream 1 (audio aac)" in said
    written = read(tmp_path / "out.mp4")
    assert len(written) == 9
    # Whoever looks in at a broadcast finds its clock anywhere: a file begins at 0.
    assert written[0].time == 0


@pytest.mark.parametrize("words", [("-", "-"), ("-", "out.mp4"), ("-", "-", "--raw", "64x48")])
def test_nothing_on_standard_input(
    words: tuple[str, ...], through: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    places = [tmp_path / word if word == "out.mp4" else word for word in words]
    code, out, said = through(b"", *places)
    assert (code, out) == (2, b"")
    assert said.startswith("standard input: expected a video, found ")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_garbage_on_standard_input(
    through: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    code, out, said = through(np.random.default_rng(0).bytes(100_000), "-", "-")
    assert (code, out) == (2, b"")
    assert "standard input: expected a video" in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_breaks_off_is_kept_as_far_as_it_came(
    make_clip: Make, through: Callable[..., tuple[int, bytes, str]], photo: Pixels, tmp_path: Path
) -> None:
    given = y4m(photo)
    code, out, said = through(given[: len(given) * 2 // 3], "-", "-")
    assert code == 0, said
    assert len(read(out)) == 5


def test_a_reader_that_leaves_ends_it_quietly(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(300)])
    process = start(clip, "-", "--model", negative)
    assert process.stdout is not None
    assert process.stdout.read(100_000).startswith(b"YUV4MPEG2 W160 H96 ")
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Traceback" not in said
    assert b"failed" not in said


def test_frames_come_out_while_others_still_go_in(
    make_clip: Make, negative: Path, photo: Pixels, tmp_path: Path
) -> None:
    """A live pipe would show nothing otherwise; and messages are no frames."""
    given = y4m(photo)
    process = start("-", "-", "--model", negative)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(given)
    process.stdin.flush()
    head = process.stdout.readline()
    # One frame at least without the end of the input.
    assert process.stdout.read(6 + 160 * 96 * 3 // 2).startswith(b"FRAME\n")
    process.stdin.close()
    process.stdin = None
    rest, said = process.stdout.read(), process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert head.startswith(b"YUV4MPEG2")
    assert rest.count(b"FRAME\n") == 8
    assert b"negative (fp32) on" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_though_nobody_reads_standard_output(
    number: signal.Signals, make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(60)])
    process = start(clip, "-", "--model", negative)
    assert process.stdout is not None
    assert process.stderr is not None
    descriptor, full = process.stdout.fileno(), fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)

    def is_full() -> bool:
        waiting = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]
        return bool(waiting > full - 2 * select.PIPE_BUF)

    wait_until(is_full, process)
    time.sleep(0.2)  # until it waits
    process.send_signal(number)
    process.wait(20)
    assert process.stderr.read().endswith(b"stopped\n")
    assert process.returncode == 130
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("frames", [0, 5])
def test_a_signal_ends_it_though_standard_input_stalls(
    number: signal.Signals,
    frames: int,
    make_clip: Make,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
) -> None:
    """Before the first frame as any other run; from then on what there is becomes the output."""
    given = y4m(photo)
    out = tmp_path / "out.mp4"
    process = start("-", out, "--model", negative)
    assert process.stdin is not None
    assert process.stderr is not None
    said = b""
    if frames:
        head = given.index(b"\n") + 1
        process.stdin.write(given[: head + frames * (6 + 160 * 96 * 3 // 2)])
        process.stdin.flush()
        said = process.stderr.readline()
        assert b"negative (fp32) on" in said
        wait_until(lambda: any(tmp_path.glob(".out.mp4.unfinished/*.part")), process)
    else:
        wait_until(lambda: is_reading(process.pid), process)
    process.send_signal(number)
    process.wait(20)
    said += process.stderr.read()
    process.stdin.close()
    process.stderr.close()
    assert b"Traceback" not in said
    if frames:
        assert process.returncode == 0, said
        assert 1 <= len(read(out)) <= frames
        assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    else:
        assert process.returncode == 130, said
        assert said == b"stopped\n"
        assert not list(tmp_path.iterdir())


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_reading(pid: int) -> bool:
    """Whether it waits in a select, as it does for its input and for nothing before it."""
    calls = Path(f"/proc/{pid}/syscall")
    try:
        # select and pselect6 of x86 and Arm.
        return calls.read_text().split()[0] in ("23", "270", "72")
    except OSError:
        pytest.skip("no /proc that tells what a process waits for")


def test_a_terminal_is_no_pipe(
    make_clip: Make, negative: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    clip = make_clip(tmp_path / "in.mp4", times=TIMES)
    monkeypatch.setattr(os, "isatty", lambda _: True)
    for words in ([clip, "-"], ["-", tmp_path / "out.mp4"]):
        assert console.run(app, [*map(str, words), "--model", str(negative)]) == 2
        assert "found a terminal" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_full_disk_behind_standard_output_is_said(
    make_clip: Make, negative: Path, tmp_path: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    clip = make_clip(tmp_path / "in.mp4", times=TIMES)
    with Path("/dev/full").open("wb") as full:
        process = start(clip, "-", "--model", negative, stdout=full)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.splitlines()[-1].startswith(b"standard output: expected room on the disk")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["in.mp4", "-", "--codec", "hevc"], "--preset: expected a video file as OUT"),
        (["in.mp4", "%d.png", "--no-resume"], "--no-resume: expected a video file as OUT"),
        (["in.mp4", "-", "--raw", "64"], "--raw: expected WIDTHxHEIGHT, with @RATE"),
        (["in.mp4", "out.mp4", "--raw", "64x48"], "--raw: expected standard input or output"),
        (["in.mp4", "out.mp4", "--rate", "25"], "--rate: expected numbered pictures"),
        (["in.mp4", "out.mp4", "--max-latency", "9"], "--max-latency: expected a camera, an"),
        (["-", "out.mp4", "--start", "1"], "--start: expected a file"),
        (["-", "out.mp4", "--preview", "look.png"], "--preview: expected a file"),
        (["-"], "OUT: expected where to write, found nothing; deblur-video - sharp.mp4"),
        (["/dev/video99", "out.mp4"], "/dev/video99: expected a camera, found no such device"),
        (["%d.png", "out.mp4"], "%d.png: expected pictures of this name with numbers in it"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str],
    said: str,
    make_clip: Make,
    through: Callable[..., tuple[int, bytes, str]],
    tmp_path: Path,
) -> None:
    make_clip(tmp_path / "in.mp4", times=TIMES)
    places = [tmp_path / word if word.endswith((".mp4", ".png")) else word for word in words]
    code, out, error = through(b"", *places)
    assert (code, out) == (2, b"")
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_the_help_names_what_goes_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(app, ["--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--max-latency", "--raw", "--rate", "--sharp-frames", "/dev/video0", "rtsp://"):
        assert option in said
