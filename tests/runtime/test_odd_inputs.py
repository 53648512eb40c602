"""Inputs that nobody thought of: the right output, or one line that says why not."""

from __future__ import annotations

import json
import socket
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime.contract import ModelCard

Make = Callable[..., Path]
Deblur = Callable[..., int]
Refused = Callable[..., str]
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def any_size(
    write_negative: Make, card: ModelCard, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The negative, of frames down to a single pixel."""
    metadata = {**card.to_metadata(), "deblurgan.minimum_size": "1"}
    return write_negative(tmp_path_factory.mktemp("model") / "any.onnx", metadata=metadata)


def frames_of(path: Path) -> list[Pixels]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


# Videos.


def test_sound_alone(negative: Path, tmp_path: Path, refused: Refused) -> None:
    clip = tmp_path / "in.m4a"
    with av.open(str(clip), "w") as output:
        tone = output.add_stream("aac", rate=48000, layout="mono")
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
        heard.sample_rate = 48000
        output.mux([*tone.encode(heard), *tone.encode(None)])
    said = refused(tmp_path, clip, tmp_path / "out.mp4", "--model", negative)
    assert "a file without a video stream" in said


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_no_frames(suffix: str, negative: Path, tmp_path: Path, refused: Refused) -> None:
    clip = tmp_path / f"in{suffix}"
    with av.open(str(clip), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    said = refused(tmp_path, clip, tmp_path / "out.mp4", "--model", negative)
    assert "expected a video" in said


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_one_frame(
    make_clip: Make, negative: Path, tmp_path: Path, suffix: str, deblur: Deblur
) -> None:
    clip, out = make_clip(tmp_path / f"in{suffix}", times=[0]), tmp_path / f"out{suffix}"
    assert deblur(clip, out, "--model", negative, "--quality", "1") == 0
    (before,), (after,) = frames_of(clip), frames_of(out)
    # Colours of the clip that RGB does not hold stay as far outside it.
    assert np.abs(255.0 - before - after).mean() < 8


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (2, 100), (1, 7)])
@pytest.mark.parametrize("codec", [None, "ffv1", "hevc"])
def test_tiny_videos(
    size: tuple[int, int],
    codec: str | None,
    make_clip: Make,
    any_size: Path,
    photo: Pixels,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    deblur: Deblur,
) -> None:
    picture = cv2.resize(photo, size).reshape(size[1], size[0], 3)
    clip, out = tmp_path / "in.avi", tmp_path / "out.mkv"
    make_clip(clip, picture, codec="rawvideo", times=[0, 1, 2], time_base=Fraction(1, 30))
    code = deblur(clip, out, "--model", any_size, *(["--codec", codec] if codec else []))
    if code == 0:
        assert [frame.shape for frame in frames_of(out)] == [(size[1], size[0], 3)] * 3
    else:
        said = capfd.readouterr().err.strip().splitlines()[-1]
        assert code == 2
        assert f"{size[0]}x{size[1]}" in said
        assert "which it refuses" in said
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.avi"]


def test_below_the_models_smallest_size(
    make_clip: Make, negative: Path, photo: Pixels, tmp_path: Path, refused: Refused
) -> None:
    clip = make_clip(tmp_path / "in.mkv", photo[:17, :15].copy(), codec="ffv1")
    said = refused(tmp_path, clip, tmp_path / "out.mp4", "--model", negative)
    assert "at least 16x16 pixels, found 15x17; scale it up first" in said


def test_sixteen_thousand_pixels_wide(
    make_clip: Make, any_size: Path, photo: Pixels, tmp_path: Path, deblur: Deblur
) -> None:
    wide = cv2.resize(photo, (16384, 16))
    clip = make_clip(tmp_path / "in.mkv", wide, codec="ffv1", times=[0, 512])
    out = tmp_path / "out.mkv"
    assert deblur(clip, out, "--model", any_size, "--quality", "4") == 0
    before, after = frames_of(clip), frames_of(out)
    assert [frame.shape for frame in after] == [(16, 16384, 3)] * 2
    assert np.abs(255.0 - before[0] - after[0]).mean() < 8


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("libvpx-vp9", "yuva420p", ".webm"),
        ("png", "rgba", ".mov"),
        ("ffv1", "gray", ".mkv"),
        ("png", "pal8", ".mov"),
        ("rawvideo", "pal8", ".avi"),
        ("libx264", "yuv444p", ".mp4"),
        ("libx264", "yuv422p10le", ".mp4"),
        ("qtrle", "rgb24", ".mov"),
        ("gif", "rgb8", ".gif"),
        ("libwebp_anim", "bgra", ".webp"),
        ("mjpeg", "yuvj444p", ".avi"),
    ],
)
def test_codings_of_every_kind(
    codec: str,
    pixel_format: str,
    suffix: str,
    make_clip: Make,
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    deblur: Deblur,
) -> None:
    clip = tmp_path / f"in{suffix}"
    times, base = [0, 1, 2, 3], Fraction(1, 25)
    if pixel_format == "pal8":
        write_palette(clip, codec, photo)
    else:
        make_clip(clip, codec=codec, pixel_format=pixel_format, times=times, time_base=base)
    out = tmp_path / "out.mkv"
    if suffix == ".webp":  # a picture, of which the first is read; FFmpeg decodes no others
        out = tmp_path / "out.png"
    code = deblur(clip, out, "--model", negative)
    said = capsys.readouterr().err
    assert code == 0, said
    if suffix == ".webp":
        after, count = [cv2.imread(str(out))[:, :, ::-1]], 1
        before = [cv2.imread(str(clip))[:, :, ::-1]]
    else:
        before, after, count = frames_of(clip), frames_of(out), 4
    assert len(after) == count
    assert np.abs(255.0 - before[0] - after[0]).mean() < 12
    if pixel_format in ("rgba", "yuva420p"):
        assert "left out: transparency" in said


def write_palette(path: Path, codec: str, photo: Pixels) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "pal8"
        colours = np.stack(
            [np.arange(256), np.arange(256) // 2, 255 - np.arange(256), np.full(256, 255)], -1
        )
        for index in range(4):
            frame = av.VideoFrame(160, 96, "pal8")
            grey = np.ascontiguousarray(np.roll(photo[:, :, 0], index, 1))
            rows = np.zeros((96, frame.planes[0].line_size), np.uint8)
            rows[:, :160] = grey
            frame.planes[0].update(rows.tobytes())
            frame.planes[1].update(colours.astype(np.uint8).tobytes())
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


# Pictures, and what is neither.


def test_a_palette_and_its_grey(any_size: Path, tmp_path: Path, deblur: Deblur) -> None:
    """Written by FFmpeg: OpenCV writes none."""
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    photo = np.arange(96 * 160, dtype=np.int64).reshape(96, 160) % 256
    clip = tmp_path / "p.mov"
    write_palette(clip, "png", np.dstack([photo] * 3).astype(np.uint8))
    with av.open(str(clip)) as file:
        source.write_bytes(bytes(next(file.demux(video=0))))
    assert deblur(source, out, "--model", any_size) == 0
    assert np.array_equal(cv2.imread(str(out)), 255 - cv2.imread(str(source)))


def test_a_jpeg_of_printers_colours(any_size: Path, tmp_path: Path, deblur: Deblur) -> None:
    """CMYK as Adobe writes it, inverted: no ink at all in a field is white."""
    source, out = tmp_path / "in.jpg", tmp_path / "out.png"
    source.write_bytes(cmyk_jpeg())
    assert deblur(source, out, "--model", any_size) == 0
    before, after = cv2.imread(str(source)), cv2.imread(str(out))
    assert before.shape == after.shape == (8, 8, 3)
    assert np.array_equal(after, 255 - before)


def cmyk_jpeg() -> bytes:
    """8x8, four components, one block each of which only the mean is coded, as grey."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content

    components = b"".join(bytes([number, 0x11, 0]) for number in range(1, 5))
    scan = b"".join(bytes([number, 0]) for number in range(1, 5))
    # One code each: "no difference" (DC), and "end of block" (AC), both the single bit 0.
    codes = bytes([1] + [0] * 15) + b"\0"
    return (
        b"\xff\xd8"
        + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")
        + segment(0xDB, b"\0" + bytes([1] * 64))
        + segment(0xC0, b"\x08\0\x08\0\x08\x04" + components)
        + segment(0xC4, b"\0" + codes)
        + segment(0xC4, b"\x10" + codes)
        + segment(0xDA, b"\x04" + scan + b"\0\x3f\0")
        + b"\0"
        + b"\xff\xd9"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.png", b""),
        ("in.png", b"not a picture\n" * 50),
        ("in.jpg", b"\xff\xd8\xff\xe0"),
        ("in.webp", b"RIFF\x10\0\0\0WEBPVP8L"),
        ("in.mp4", b""),
        ("in.mp4", b"not a video\n" * 50),
        ("in.unknown", bytes(5000)),
        ("in.y4m", b"YUV4MPEG2 W99999 H99999 F25:1\nFRAME\n"),
        ("in.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
        ("in.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
    ],
)
def test_what_is_neither_is_one_line(
    name: str, content: bytes, negative: Path, tmp_path: Path, refused: Refused
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    target = tmp_path / ("out.png" if name[-4:] in (".png", ".jpg", "webp") else "out.mp4")
    said = refused(tmp_path, source, target, "--model", negative)
    assert "expected a " in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{there}\n#EXT-X-ENDLIST\n"),
        ("in.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{there}\n#EXT-X-ENDLIST\n"),
        ("in.mp4", "ffconcat version 1.0\nfile {there}\n"),
        (
            "in.mpd",
            '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT1S"><Period><AdaptationSet><Representation id="0" '
            'bandwidth="1"><BaseURL>{there}</BaseURL></Representation></AdaptationSet></Period>'
            "</MPD>",
        ),
    ],
)
def test_a_list_of_places_leads_to_no_network(
    name: str, content: str, negative: Path, tmp_path: Path, refused: Refused
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        there = f"http://127.0.0.1:{port}/clip.ts"
        (tmp_path / name).write_text(content.format(there=there))
        refused(tmp_path, tmp_path / name, tmp_path / "out.mp4", "--model", negative)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", ["in.mp4", "in.png"])
def test_an_archive(name: str, negative: Path, tmp_path: Path, refused: Refused) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("clip.mp4", b"0" * 1000)
    refused(tmp_path, tmp_path / name, tmp_path / f"out{name[2:]}", "--model", negative)


def test_of_several_pictures_the_others_are_done(
    negative: Path,
    photo: Pixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    deblur: Deblur,
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), photo)
    (folder / "b.png").write_text("no")
    cv2.imwrite(str(folder / "c.png"), photo)
    cv2.imwrite(str(folder / "d.png"), photo[:8, :8])
    cv2.imwrite(str(folder / "e.png"), photo)
    (folder / "._a.png").write_text("what a Mac leaves on a stick")
    (folder / "._clip.mp4").write_text("the same")
    report = tmp_path / "report.json"
    assert deblur(folder, tmp_path / "out", "--model", negative, "--json", report) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("b.png: expected a picture") == 1
    assert said.count("d.png: expected at least 16x16 pixels, found 8x8") == 1
    assert "2 failed: b.png, d.png" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "e.png"]
    values = json.loads(report.read_text())
    assert values["frames"] == 3
    assert len(values["failed"]) == 2


def test_several_pictures_of_which_none_can_be_read(
    any_size: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], deblur: Deblur
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_text("no")
    assert deblur(tmp_path / "in", tmp_path / "out", "--model", any_size) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "expected pictures, found none of 2 that could be deblurred" in said
    assert not (tmp_path / "out").exists()


def test_a_picture_too_wide_for_its_kind(
    any_size: Path, photo: Pixels, tmp_path: Path, refused: Refused
) -> None:
    wide = np.tile(photo[:32], (1, 110, 1))
    cv2.imwrite(str(tmp_path / "in.png"), wide)
    said = refused(tmp_path, tmp_path / "in.png", tmp_path / "out.webp", "--model", any_size)
    assert "expected a picture that .webp holds, found one of 17600x32; write out.png" in said
