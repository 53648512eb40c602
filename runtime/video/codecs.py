"""Codecs: which encoder writes the frames, how well, and in which pixel format."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.processor import find_instructions
from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.tiling.frame_memory import FRAMES_AHEAD, codec_limits

HARDWARE = ("auto", "cuda", "none")
# By chroma and bits.
EIGHT = ("yuv420p", "yuv422p", "yuv444p")
TEN = tuple(f"{name}10le" for name in EIGHT)
TWELVE = tuple(f"{name}12le" for name in EIGHT)
NVENC_8, NVENC_10 = ("yuv420p", "yuv444p"), ("p010le",)
# Constant quality, without a bit rate that bounds it.
NVENC = (("rc", "vbr"), ("b", "0"), ("tune", "hq"))


@dataclass(frozen=True)
class Codec:
    """An encoder of FFmpeg's on the processor, and NVIDIA's for the same codec.

    ``quality`` is what no loss is seen at, in the encoder's own measure from
    ``best`` to ``worst``; None where it has none. ``preset`` likewise.
    """

    encoder: str
    pixel_formats: tuple[str, ...]
    quality: int | None = None
    best: int = 0
    worst: int = 51
    preset: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    nvenc: str | None = None
    nvenc_formats: tuple[str, ...] = ()
    tag: str | None = None  # in MP4 and MOV, where players ask for one


CODECS = {
    "h264": Codec(
        "libx264", EIGHT + TEN, 16, preset="medium", nvenc="h264_nvenc", nvenc_formats=NVENC_8
    ),
    "hevc": Codec(
        "libx265", EIGHT + TEN + TWELVE, 18, preset="medium",
        options=(("x265-params", "log-level=error"),),
        nvenc="hevc_nvenc", nvenc_formats=NVENC_8 + NVENC_10, tag="hvc1",
    ),
    "av1": Codec(
        "libsvtav1", ("yuv420p", "yuv420p10le"), 22, best=1, worst=63, preset="8",
        options=(("svtav1-params", "fast-decode=0"),),
        nvenc="av1_nvenc", nvenc_formats=("yuv420p", "p010le"),
    ),
    "ffv1": Codec("ffv1", EIGHT + TEN + TWELVE, options=(("level", "3"), ("slicecrc", "1"))),
    "prores": Codec("prores_ks", ("yuv422p10le", "yuv444p10le")),
}  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """What is wished for; ``None`` is the codec's default. ``quality`` is a CRF: less is
    better. ``hardware``: ``auto`` encodes on an NVIDIA GPU where there is one, ``cuda``
    tries it and says when it falls back, ``none`` stays on the processor.
    """

    codec: str | None = None
    quality: int | None = None
    preset: str | None = None
    hardware: str = "auto"


@dataclass(frozen=True)
class Encoder:
    """What writes the frames: FFmpeg's name, its options, its pixel format and its threads,
    of which the result may depend.

    ``lost`` is what that format cannot keep of the input's.
    """

    codec: str
    name: str
    options: dict[str, str]
    pixel_format: str
    lost: tuple[str, ...] = ()
    tag: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Coding:
    """How a picture is coded: chroma as 420, 422 or 444, and bits of each colour."""

    chroma: int
    bits: int

    @classmethod
    def of(cls, given: VideoFormat) -> Coding:
        bits = max(component.bits for component in given.components)
        if given.is_rgb:
            return cls(444, bits)
        if len(given.components) < 3:  # grey
            return cls(420, bits)
        if given.chroma_width(4) == 4:
            return cls(444, bits)
        return cls(420 if given.chroma_height(4) < 4 else 422, bits)


RGB = Coding(444, 8)  # of pictures, and of frames without a header


def choose_encoder(
    encoding: Encoding,
    container: str,
    given: VideoFormat,
    size: tuple[int, int],
    warn: Callable[[str], None],
) -> Encoder:
    """For pictures like ``given`` of ``size`` (width, height).

    Raises :class:`DeblurError` for settings that the codec does not take; ``warn`` is
    told why the GPU does not encode.
    """
    coding = for_size(Coding.of(given), size)
    name = encoding.codec or default_codec(container, coding.bits)
    if name not in CODECS:
        raise DeblurError(
            "--codec",
            expected=f"one of {', '.join(CODECS)}",
            found=name,
            remedy="leave it out for the container's default",
        )
    codec = CODECS[name]
    if name == "av1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it tells its settings otherwise
    quality = check_quality(name, codec, encoding.quality)
    if encoding.preset is not None and codec.preset is None:
        raise DeblurError(
            "--preset",
            expected=f"none, as {name} has no presets",
            found=encoding.preset,
            remedy="leave it out",
        )
    on_gpu = choose_nvenc(encoding, name, codec, quality, coding, size, warn)
    if on_gpu is not None:
        return Encoder(name, *on_gpu, lost=transparency(given), tag=codec.tag)
    pixel_format = nearest(coding, codec.pixel_formats)
    options = dict(codec.options)
    if quality is not None:
        options["crf"] = str(quality)
    if codec.preset is not None:
        options["preset"] = encoding.preset or codec.preset
    if (lookahead := codec_limits(*size).lookahead) < FRAMES_AHEAD:
        look_less_far(codec.encoder, options, lookahead)
    if name == "prores":
        options["profile"] = "4444" if pixel_format.startswith("yuv444") else "hq"
    lost = (*what_is_lost(coding, Coding.of(VideoFormat(pixel_format))), *transparency(given))
    threads = threads_of(codec.encoder)
    return Encoder(name, codec.encoder, options, pixel_format, lost, codec.tag, threads)


def threads_of(encoder: str) -> int:
    """As many as it takes by itself here; told, as what it writes depends on it."""
    cores = min(os.cpu_count() or 1, 16)
    # x265 counts frames that are encoded at a time, each by several threads.
    return min(4, 1 + cores // 4) if encoder == "libx265" else cores


def repeatable(encoder: str) -> dict[str, str]:
    """What the encoder needs on this processor to make the same packets of the same frames:
    with AVX-512 libx264, of PyAV 18.1, makes others from run to run.
    """
    if encoder == "libx264" and "AVX-512" in find_instructions():
        return {"x264-params": "asm=avx2"}
    return {}


@contextmanager
def taking_turns() -> Iterator[None]:
    """SVT-AV1 moves a process of root's, as in a container, with all its threads into the
    real-time class while it opens: whoever computes there leaves nothing else a turn.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    policy, setting = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in os.listdir("/proc/self/task"):
                with suppress(OSError):  # it may have ended
                    os.sched_setscheduler(int(thread), policy, setting)


def look_less_far(encoder: str, options: dict[str, str], frames: int) -> None:
    """Large frames by the dozen are gigabytes."""
    if encoder == "libx264":
        options["rc-lookahead"] = str(frames)
    elif encoder == "libx265":
        options["x265-params"] += f":rc-lookahead={frames}"
    elif encoder == "libsvtav1":
        options["svtav1-params"] += f":lookahead={frames}"


def check_hardware(wished: str) -> None:
    """Raises :class:`DeblurError` for a word that is none of ``HARDWARE``."""
    if wished not in HARDWARE:
        raise DeblurError(
            "--hardware",
            expected=f"one of {', '.join(HARDWARE)}",
            found=wished,
            remedy="leave it out for auto",
        )


def default_codec(container: str, bits: int) -> str:
    """What players of the container expect; few play H.264 of more than 8 bits."""
    if container == "webm":
        return "av1"
    return "h264" if bits <= 8 else "hevc"


def check_quality(name: str, codec: Codec, wished: int | None) -> int | None:
    if wished is None or (codec.quality is not None and codec.best <= wished <= codec.worst):
        return codec.quality if wished is None else wished
    if codec.quality is None:
        raise DeblurError(
            "--quality",
            expected=f"none, as {name} has one quality" + (" (lossless)" * (name == "ffv1")),
            found=str(wished),
            remedy="leave it out",
        )
    raise DeblurError(
        "--quality",
        expected=f"{codec.best} (best) to {codec.worst} for {name}",
        found=str(wished),
        remedy=f"leave it out for {codec.quality}",
    )


def for_size(coding: Coding, size: tuple[int, int]) -> Coding:
    """Chroma at half the size needs an even one."""
    odd_width, odd_height = size[0] % 2, size[1] % 2
    if (odd_width and coding.chroma < 444) or (odd_height and coding.chroma == 420):
        return Coding(444, coding.bits)
    return coding


def nearest(wanted: Coding, formats: tuple[str, ...]) -> str:
    """The format that loses least, and of those the smallest."""

    def badness(name: str) -> tuple[int, int, int, int]:
        has = Coding.of(VideoFormat(name))
        chroma, bits = wanted.chroma - has.chroma, wanted.bits - has.bits
        return max(chroma, 0), max(bits, 0), abs(chroma), abs(bits)

    return min(formats, key=badness)


def what_is_lost(given: Coding, kept: Coding) -> tuple[str, ...]:
    lost = []
    if kept.bits < given.bits:
        lost.append(f"colour depth beyond {kept.bits} bits")
    if kept.chroma < given.chroma:
        lost.append(f"chroma beyond {':'.join(str(kept.chroma))}")
    return tuple(lost)


def transparency(given: VideoFormat) -> tuple[str, ...]:
    """Its name, where there is any to lose."""
    return ("transparency",) if any(part.is_alpha for part in given.components) else ()


def choose_nvenc(
    encoding: Encoding,
    name: str,
    codec: Codec,
    quality: int | None,
    coding: Coding,
    size: tuple[int, int],
    warn: Callable[[str], None],
) -> tuple[str, dict[str, str], str] | None:
    """Name, options and pixel format of the GPU's encoder, where it can do the same."""
    asked = encoding.hardware == "cuda"
    # A preset is the processor's encoder's: whoever names one wants that encoder.
    if encoding.hardware == "none" or (not asked and (encoding.preset or find_device() is None)):
        return None
    reason = f"it has no {name} encoder"
    if codec.nvenc is not None:
        pixel_format = nearest(coding, codec.nvenc_formats)
        options = {**dict(NVENC), "preset": "p5", "cq": str(quality)}
        if Coding.of(VideoFormat(pixel_format)) != coding:
            reason = f"its {name} encoder does not take such colours"
        elif (reason := why_not_open(codec.nvenc, options, pixel_format, size)) == "":
            return codec.nvenc, options, pixel_format
    warn(f"encoding on the processor, not the GPU: {reason}")
    return None


def why_not_open(
    encoder: str, options: dict[str, str], pixel_format: str, size: tuple[int, int]
) -> str:
    """Why an encoder does not work on this machine; empty where it does."""
    try:
        context = av.CodecContext.create(encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = size
        context.pix_fmt, context.options = pixel_format, dict(options)
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.open()
    except (av.FFmpegError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        return f"{encoder} does not start ({said.lower()})"
    return ""
