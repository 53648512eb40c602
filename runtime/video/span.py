"""A part of a video: from one time on, for some seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from deblurgan.runtime.errors import DeblurError


@dataclass(frozen=True)
class Span:
    """In seconds after the video's first frame; ``duration`` None is to the end."""

    start: Fraction = Fraction(0)
    duration: Fraction | None = None

    @property
    def is_whole(self) -> bool:
        return not self.start and self.duration is None

    @property
    def end(self) -> Fraction | None:
        return None if self.duration is None else self.start + self.duration

    def place(self, time: Fraction) -> int:
        """Of seconds after the first frame: -1 before the span, 0 in it, 1 behind it."""
        if self.start and time < self.start:
            return -1
        return 0 if self.end is None or time < self.end else 1

    def seconds_of(self, whole: Fraction) -> Fraction:
        """How much of a video of ``whole`` seconds it takes."""
        end = whole if self.end is None else min(whole, self.end)
        return max(end - self.start, Fraction(0))


def parse_time(option: str, text: str) -> Fraction:
    """``90``, ``1:30`` or ``0:01:30.5`` in seconds; raises :class:`DeblurError` for others."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?", text.strip())
    if match is None:
        raise DeblurError(
            option,
            expected="seconds, or hours:minutes:seconds",
            found=repr(text),
            remedy=f"write it like {option} 90, {option} 1:30 or {option} 0:01:30.5",
        )
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_span(start: str | None, duration: str | None) -> Span:
    """Of the options ``--start`` and ``--duration``."""
    begin = Fraction(0) if start is None else parse_time("--start", start)
    length = None if duration is None else parse_time("--duration", duration)
    if length == 0:
        raise DeblurError(
            "--duration",
            expected="more than nothing",
            found=repr(duration),
            remedy="leave it out for the rest of the video",
        )
    return Span(begin, length)
