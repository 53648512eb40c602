from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from av.video.format import VideoFormat

from deblurgan.runtime import DeblurError
from deblurgan.runtime.video import codecs
from deblurgan.runtime.video.codecs import CODECS, Coding, Encoder, Encoding, choose_encoder
from deblurgan.runtime.video.encoder import VideoLayout
from deblurgan.runtime.video.source import VideoSource

SIZE = (64, 48)


def choose(
    encoding: Encoding,
    given: str = "yuv420p",
    container: str = "matroska",
    size: tuple[int, int] = SIZE,
) -> tuple[Encoder, list[str]]:
    said: list[str] = []
    return choose_encoder(encoding, container, VideoFormat(given), size, said.append), said


@pytest.mark.parametrize(
    ("given", "chroma", "bits"),
    [
        ("yuv420p", 420, 8), ("nv12", 420, 8), ("p010le", 420, 10), ("p210le", 422, 10),
        ("yuv422p10le", 422, 10), ("yuvj444p", 444, 8), ("gbrp12le", 444, 12), ("rgb24", 444, 8),
        ("gray", 420, 8), ("yuva420p", 420, 8), ("yuv411p", 422, 8),
    ],
)  # fmt: skip
def test_codings_are_read(given: str, chroma: int, bits: int) -> None:
    assert Coding.of(VideoFormat(given)) == Coding(chroma, bits)


@pytest.mark.parametrize(
    ("codec", "given", "chosen", "lost"),
    [
        ("h264", "nv12", "yuv420p", ()),
        ("h264", "yuv422p10le", "yuv422p10le", ()),
        ("h264", "yuv420p12le", "yuv420p10le", ("colour depth beyond 10 bits",)),
        ("hevc", "yuv444p12le", "yuv444p12le", ()),
        ("av1", "yuv444p10le", "yuv420p10le", ("chroma beyond 4:2:0",)),
        ("prores", "yuv420p", "yuv422p10le", ()),
        ("prores", "gbrp", "yuv444p10le", ()),
        ("ffv1", "yuva422p10le", "yuv422p10le", ("transparency",)),
    ],
)
def test_the_nearest_format_is_taken_and_what_it_loses_is_said(
    codec: str, given: str, chosen: str, lost: tuple[str, ...]
) -> None:
    encoder, _ = choose(Encoding(codec), given)
    assert (encoder.pixel_format, encoder.lost) == (chosen, lost)


def test_the_same_frames_make_the_same_packets(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """With AVX-512 libx264 made others, of a dozen runs in three."""
    clip = make_clip(tmp_path / "in.mp4", times=[512 * i for i in range(60)])
    with VideoSource(clip) as source:
        encoder = choose_encoder(Encoding("h264"), "mp4", source.pixel_format, source.size, print)
        layout = VideoLayout.of(source, encoder, None, "mp4")
        frames = [pair.origin for pair in source]
    digests = set()
    for _ in range(8):
        context, digest = layout.open_encoder(), hashlib.sha256()
        for frame in [*frames, None]:
            for packet in context.encode(frame):
                digest.update(bytes(packet))
        digests.add(digest.hexdigest())
    assert len(digests) == 1


@pytest.mark.skipif(
    not Path("/proc/self/task").exists() or os.geteuid() != 0, reason="SVT-AV1 asks root alone"
)
def test_no_encoder_takes_all_turns(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    def policies() -> set[int]:
        return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}

    before, clip = policies(), make_clip(tmp_path / "in.mp4")
    with VideoSource(clip) as source:
        encoder = choose_encoder(Encoding("av1"), "webm", source.pixel_format, source.size, print)
        context = VideoLayout.of(source, encoder, None, "webm").open_encoder()
        frames = [pair.origin for pair in source]
    for frame in [*frames, None]:
        context.encode(frame)
    assert policies() == before


def test_x264_is_kept_from_avx_512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "find_instructions", lambda: ("AVX2", "AVX-512"))
    assert codecs.repeatable("libx264") == {"x264-params": "asm=avx2"}
    assert codecs.repeatable("libx265") == {}
    monkeypatch.setattr(codecs, "find_instructions", lambda: ("AVX2",))
    assert codecs.repeatable("libx264") == {}


def test_odd_sizes_get_whole_chroma() -> None:
    assert choose(Encoding("h264"), size=(63, 48))[0].pixel_format == "yuv444p"
    assert choose(Encoding("h264"), "yuv422p", size=(64, 47))[0].pixel_format == "yuv422p"


def test_the_default_is_what_players_of_the_container_play() -> None:
    assert choose(Encoding(), container="mp4")[0].codec == "h264"
    assert choose(Encoding(), "yuv420p10le", "mp4")[0].codec == "hevc"
    assert choose(Encoding(), "yuv420p10le", "webm")[0].codec == "av1"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        (Encoding("mpeg2"), "one of h264, hevc, av1, ffv1, prores"),
        (Encoding("h264", quality=99), r"0 \(best\) to 51 for h264"),
        (Encoding("ffv1", quality=3), r"one quality \(lossless\)"),
        (Encoding("prores", preset="fast"), "prores has no presets"),
    ],
)
def test_what_a_codec_does_not_take_is_refused(encoding: Encoding, said: str) -> None:
    with pytest.raises(DeblurError, match=said):
        choose(encoding)


def test_an_encoder_of_the_gpu_that_does_not_start_is_said() -> None:
    """As on every machine without one; FFmpeg lists the encoder all the same."""
    if codecs.find_device() is not None:
        pytest.skip("this machine has a GPU")
    encoder, said = choose(Encoding(hardware="cuda"))
    assert encoder.name == "libx264"
    assert len(said) == 1
    assert said[0].startswith("encoding on the processor, not the GPU: h264_nvenc does not start")
    assert choose(Encoding()) == choose(Encoding(hardware="none"))


def test_the_gpu_encodes_where_it_can_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "find_device", lambda: SimpleNamespace())
    monkeypatch.setattr(codecs, "why_not_open", lambda *_: "")
    encoder, said = choose(Encoding(quality=20))
    assert (encoder.name, encoder.options["cq"], said) == ("h264_nvenc", "20", [])
    assert choose(Encoding("hevc"), "yuv420p10le")[0].pixel_format == "p010le"
    assert choose(Encoding(preset="slow"))[0].name == "libx264"
    encoder, said = choose(Encoding("h264"), "yuv420p10le")
    assert encoder.name == "libx264"
    assert "does not take such colours" in said[0]
    encoder, said = choose(Encoding("prores"))
    assert "it has no prores encoder" in said[0]


@pytest.mark.gpu
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_gpu_encodes(codec: str) -> None:
    try:
        ctypes.CDLL("libnvidia-encode.so.1")
    except OSError as error:  # GPUs of data centres are without
        pytest.skip(str(error))
    encoder, said = choose(Encoding(codec, hardware="cuda"), size=(640, 368))
    assert (encoder.name, said) == (CODECS[codec].nvenc, [])


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_encoders_look_less_far_ahead_of_large_frames(codec: str) -> None:
    small, large = (
        str(choose(Encoding(codec), size=size)[0].options) for size in (SIZE, (7680, 4320))
    )
    assert "lookahead" not in small
    assert "lookahead" in large
