"""What a video comes from: a file, numbered pictures, a pipe, a camera, an address."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.pictures import is_picture
from deblurgan.runtime.video.standard_input import StandardInput

STANDARD_STREAM = "-"  # input or output
NUMBER = re.compile(r"%0?(\d*)d")
ADDRESS = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|srt|rtp)://")
CAMERA = "/dev/video"
# How long a network or a camera may say nothing, in seconds.
PATIENCE = 10.0


@dataclass(frozen=True)
class VideoInput:
    """``name`` is the user's, ``url`` what FFmpeg opens as ``format`` (None: it finds out)
    with ``options``, or reads from ``pipe``.

    ``is_stream`` is what can be read once and from the start only; ``is_live`` what does
    not wait for its reader.
    """

    name: str
    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    is_stream: bool = False
    is_live: bool = False
    pipe: StandardInput | None = field(default=None, compare=False)

    @classmethod
    def of_file(cls, path: Path) -> VideoInput:
        # Without the protocol a colon in the name would be taken for one.
        return cls(str(path), f"file:{path}")

    def identity(self) -> str:
        """What tells it from another one that had its name; empty where nothing does."""
        if self.is_stream:
            return ""
        try:
            if self.format == "image2":
                files = [p.stat() for p in numbered(Path(self.name)).values()]
                text = repr([(f.st_size, f.st_mtime_ns) for f in files])
                return f"{len(files)} pictures, {hashlib.sha256(text.encode()).hexdigest()}"
            found = Path(self.name).stat()
        except OSError:
            return ""
        return f"{found.st_size} bytes of {found.st_mtime_ns}"

    @property
    def exists(self) -> bool:
        return self.is_stream or self.format == "image2" or Path(self.name).exists()


def is_special(text: str) -> bool:
    """Whether IN is a video, but no file."""
    return bool(
        text == STANDARD_STREAM
        or ADDRESS.match(text)
        or text.startswith(CAMERA)
        or is_numbered(text)
    )


def is_numbered(text: str) -> bool:
    """Like ``frames/%05d.png``."""
    return (
        bool(NUMBER.search(Path(text).name)) and is_picture(Path(text)) and not Path(text).exists()
    )


def parse_input(
    text: str,
    raw: RawVideo | None = None,
    rate: Fraction | None = None,
    *,
    is_live: bool = False,
) -> VideoInput:
    """Of IN; ``raw`` describes frames on standard input without a header, ``rate`` is that
    of numbered pictures, in frames a second. Standard input may be what ``is_live``.
    """
    if text == STANDARD_STREAM:
        return parse_standard_input(raw, is_live)
    if ADDRESS.match(text):
        # Datagrams get lost, and half a picture is blurred in its own way.
        options = {"rtsp_transport": "tcp"} if text.startswith("rtsp") else {}
        return VideoInput(text, text, None, options, is_stream=True, is_live=True)
    if text.startswith(CAMERA):
        return parse_camera(text)
    if is_numbered(text):
        return parse_numbered(Path(text), rate or Fraction(30))
    return VideoInput.of_file(Path(text))


def parse_standard_input(raw: RawVideo | None, is_live: bool) -> VideoInput:
    pipe = StandardInput()
    if pipe.is_terminal:
        raise DeblurError(
            pipe.name,
            expected="a video, from a pipe or a file",
            found="a terminal",
            remedy="write it like: ffmpeg -i FILE -f yuv4mpegpipe - | deblur-video - OUT",
        )
    format, options = (None, {}) if raw is None else ("rawvideo", raw.options())
    return VideoInput(
        pipe.name, "pipe:0", format, options, is_stream=True, is_live=is_live, pipe=pipe
    )


def parse_camera(text: str) -> VideoInput:
    if not Path(text).exists():
        raise DeblurError(
            text,
            expected="a camera",
            found="no such device",
            remedy="look what there is with: ls /dev/video*",
        )
    if "v4l2" not in av.formats_available:  # as in PyAV's own wheels
        raise DeblurError(
            text,
            expected="an FFmpeg that reads cameras (v4l2)",
            found="PyAV with one that does not",
            remedy=f"let another one read it: ffmpeg -f v4l2 -i {text} -f yuv4mpegpipe - "
            "| deblur-video - OUT",
        )
    return VideoInput(text, text, "v4l2", {}, is_stream=True, is_live=True)


def parse_numbered(pattern: Path, rate: Fraction) -> VideoInput:
    files = numbered(pattern)
    if not files:
        raise DeblurError(
            pattern,
            expected="pictures of this name with numbers in it",
            found="none",
            remedy=f"look what there is with: ls {shlex.quote(str(pattern.parent))}",
        )
    for number, following in zip(files, [*files][1:], strict=False):
        if following != number + 1:
            raise DeblurError(
                pattern,
                expected="numbers without a gap",
                found=f"none between {number} and {following}",
                remedy="number the pictures anew, or name the folder, to get a picture for each",
            )
    options = {
        "start_number": str(min(files)),
        "framerate": str(rate),
        # Or else a name with a star or a bracket would be another kind of pattern.
        "pattern_type": "sequence",
    }
    number_at = NUMBER.search(pattern.name)
    assert number_at is not None
    before, after = pattern.name[: number_at.start()], pattern.name[number_at.end() :]
    parts = [str(pattern.parent / before) if before else f"{pattern.parent}/", after]
    escaped = [part.replace("%", "%%") for part in parts]
    return VideoInput(str(pattern), f"file:{number_at[0].join(escaped)}", "image2", options)


def numbered(pattern: Path) -> dict[int, Path]:
    """The files that a pattern names, by their numbers."""
    before, after = NUMBER.split(pattern.name, maxsplit=1)[::2]
    name = re.compile(re.escape(before) + r"([0-9]+)" + re.escape(after))
    try:
        found = [(name.fullmatch(p.name), p) for p in pattern.parent.iterdir()]
    except OSError:
        return {}
    numbers = ((int(match[1]), path) for match, path in found if match)
    return dict(sorted((n, path) for n, path in numbers if name_of(pattern, n) == path.name))


def name_of(pattern: Path, number: int) -> str:
    """Of the picture of that number."""
    return NUMBER.sub(lambda m: str(number).zfill(int(m[1] or 0)), pattern.name, count=1)


@dataclass(frozen=True)
class RawVideo:
    """Frames one after the other without a header: RGB, 8 bits, ``size`` (width, height),
    ``rate`` a second.
    """

    size: tuple[int, int]
    rate: Fraction = Fraction(30)

    def options(self) -> dict[str, str]:
        return {
            "video_size": f"{self.size[0]}x{self.size[1]}",
            "framerate": str(self.rate),
            "pixel_format": "rgb24",
        }


def parse_raw(text: str) -> RawVideo:
    """``1280x720`` or ``1280x720@25``; raises :class:`DeblurError` for others."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})(?:@(.+))?", text.strip())
    if match is None:
        raise DeblurError(
            "--raw",
            expected="WIDTHxHEIGHT, with @RATE if it is not 30 frames a second",
            found=repr(text),
            remedy="write it like --raw 1280x720@25",
        )
    rate = Fraction(30) if match[3] is None else parse_rate("--raw", match[3])
    return RawVideo((int(match[1]), int(match[2])), rate)


def parse_rate(option: str, text: str) -> Fraction:
    """``25``, ``29.97`` or ``30000/1001`` frames a second."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise DeblurError(
            option,
            expected="frames a second",
            found=repr(text),
            remedy="write it like 25, 29.97 or 30000/1001",
        )
    return rate
