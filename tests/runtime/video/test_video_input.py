"""What IN may name besides a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.video import video_input
from deblurgan.runtime.video.video_input import (
    VideoInput,
    is_special,
    name_of,
    numbered,
    parse_input,
    parse_rate,
    parse_raw,
)


@pytest.mark.parametrize(
    ("text", "special"),
    [
        ("-", True),
        ("rtsp://camera/1", True),
        ("http://127.0.0.1:80/a", True),
        ("udp://@:1234", True),
        ("/dev/video0", True),
        ("frames/%05d.png", True),
        ("frames/%d.jpg", True),
        ("clip.mp4", False),
        ("100%d.mp4", False),  # no picture
        ("http.mp4", False),
        ("videos/dev/video0.mp4", False),
        ("a%sd.png", False),
    ],
)
def test_what_is_no_file(text: str, special: bool) -> None:
    assert is_special(text) == special


def test_a_file_that_looks_like_numbers_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "50%d.png").touch()
    assert not is_special(str(tmp_path / "50%d.png"))


@pytest.mark.parametrize("pattern", ["%05d.png", "a %3d b.jpg", "%d.webp", "x%d%d.png"])
@pytest.mark.parametrize("number", [0, 7, 123456])
def test_a_number_is_found_in_its_name(pattern: str, number: int, tmp_path: Path) -> None:
    path = tmp_path / pattern
    (tmp_path / name_of(path, number)).touch()
    assert list(numbered(path)) == [number]


def test_only_names_that_the_pattern_makes_count(tmp_path: Path) -> None:
    for name in ("1.png", "001.png", "0002.png", "003.png", "a004.png", "005.png.bak", "²³⁴.png"):
        (tmp_path / name).touch()
    assert list(numbered(tmp_path / "%03d.png")) == [1, 3]
    assert list(numbered(tmp_path / "%d.png")) == [1]
    assert numbered(tmp_path / "nowhere" / "%d.png") == {}


def test_numbered_pictures_are_told_to_ffmpeg(tmp_path: Path) -> None:
    folder = tmp_path / "50% off"
    folder.mkdir()
    for number in (17, 18, 19):
        (folder / f"a%{number:04d}.png").touch()
    given = parse_input(str(folder / "a%%04d.png"), rate=Fraction(25))
    assert given.options["start_number"] == "17"
    assert given.options["framerate"] == "25"
    assert given.url == f"file:{tmp_path}/50%% off/a%%%04d.png"
    before = given.identity()
    assert before.startswith("3 pictures, ")
    (folder / "a%0018.png").write_text("another")
    assert given.identity() != before


@pytest.mark.parametrize(
    ("numbers", "said"),
    [([], "found none; look what there is with: ls"), ([1, 2, 5], "found none between 2 and 5")],
)
def test_pictures_that_are_missing_are_said(numbers: list[int], said: str, tmp_path: Path) -> None:
    for number in numbers:
        (tmp_path / f"{number:02d}.png").touch()
    with pytest.raises(DeblurError, match=said):
        parse_input(str(tmp_path / "%02d.png"))


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(DeblurError, match=r"/dev/video77: expected a camera, found no such device"):
        parse_input("/dev/video77")


@pytest.mark.parametrize("known", [True, False])
def test_a_camera_that_is_there(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV's wheels have an FFmpeg without cameras: another one may read them."""
    monkeypatch.setattr(video_input, "CAMERA", str(tmp_path / "video"))
    monkeypatch.setattr(av, "formats_available", {"v4l2"} if known else set())
    camera = tmp_path / "video0"
    camera.touch()
    if known:
        given = parse_input(str(camera))
        assert (given.format, given.is_live, given.is_stream) == ("v4l2", True, True)
        return
    with pytest.raises(DeblurError) as caught:
        parse_input(str(camera))
    remedy = f"ffmpeg -f v4l2 -i {camera} -f yuv4mpegpipe - | deblur-video - OUT"
    assert remedy in str(caught.value)


def test_addresses_are_live_and_rtsp_does_not_lose_packets() -> None:
    given = parse_input("rtsp://camera/1")
    assert (given.is_live, given.options) == (True, {"rtsp_transport": "tcp"})
    assert parse_input("http://host/live.ts").is_live
    assert given.identity() == ""


def test_standard_input_may_be_live() -> None:
    assert not parse_input("-").is_live
    assert parse_input("-", is_live=True).is_live
    given = parse_input("-", parse_raw("64x48@25"))
    assert given.options == {"video_size": "64x48", "framerate": "25", "pixel_format": "rgb24"}


@pytest.mark.parametrize("text", ["64", "64x", "0x48", "64x48@", "64x48@0", "64x48@-1", "x48", "a"])
def test_raw_frames_of_no_size(text: str) -> None:
    with pytest.raises(DeblurError, match=r"--raw: expected .*; write it like"):
        parse_raw(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("25", Fraction(25)), ("29.97", Fraction(2997, 100)), ("30000/1001", Fraction(30000, 1001))],
)
def test_rates(text: str, rate: Fraction) -> None:
    assert parse_rate("--rate", text) == rate


@pytest.mark.parametrize("text", ["fast", "0", "-5", "1/0", "1e9", "nan", ""])
def test_no_rates(text: str) -> None:
    with pytest.raises(DeblurError, match=r"--rate: expected frames a second"):
        parse_rate("--rate", text)


def test_a_colon_in_a_name_is_no_protocol() -> None:
    assert VideoInput.of_file(Path("a:b.mp4")).url == "file:a:b.mp4"
