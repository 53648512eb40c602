"""A part of a video is the same frames, whether one comes to it by reading or by searching."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from deblurgan.runtime.video.segment import digest_of, segment_of
from deblurgan.runtime.video.source import Part, VideoSource
from deblurgan.runtime.video.span import Span

HALF = [512 * i for i in range(0, 300, 2)]  # ten seconds of 15 frames
X265 = {"x265-params": "log-level=error"}
CLIPS: dict[str, dict[str, Any]] = {
    "in.mp4": {},
    "open.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=10:b-adapt=0"}},
    # A key frame right behind the beginning of each segment, where a search may end.
    "late.ts": {"options": {"bf": "0", "x264-params": "keyint=31:min-keyint=31:scenecut=0"}},
    "in.mkv": {"codec": "libx265", "options": X265},
    "one-key.ts": {"options": {"bf": "2", "g": "10000"}},
    "in.avi": {"codec": "mpeg4", "time_base": Fraction(1, 15), "times": list(range(150))},
    "far.mkv": {"times": [15360 * t for t in (0, 1, 9, 10, 27, 28, 29)]},
    "raw.h264": {},
}


@pytest.mark.parametrize(
    "span", [Span(), Span(Fraction(3, 2), Fraction(28))], ids=["whole", "span"]
)
@pytest.mark.parametrize("name", CLIPS)
def test_every_segment_alone_has_the_frames_that_it_has_in_the_whole(
    make_clip: Callable[..., Path], tmp_path: Path, name: str, span: Span
) -> None:
    if name == "raw.h264" and span.start:
        pytest.skip("its frames tell no time to begin at")
    clip = make_clip(tmp_path / name, **{"times": HALF, **CLIPS[name]})
    with VideoSource(clip, span=span) as source:
        whole = [(segment_of(f.origin), f.origin.pts, digest_of(f.origin)) for f in source]
    numbers = sorted({number for number, *_ in whole})
    assert len(numbers) > 2
    with VideoSource(clip, span=span) as source:
        if name != "raw.h264":
            assert set(numbers) <= set(source.segment_numbers())
        for number in numbers:
            part = [
                (number, frame.origin.pts, digest_of(frame.origin))
                for frame in source.frames(Part(number, number + 1))
            ]
            assert part == [frame for frame in whole if frame[0] == number]


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_broadcast_is_searched_to_the_very_frame(
    make_clip: Callable[..., Path], tmp_path: Path, late: int
) -> None:
    """Some are found at the key frame behind the start of the span."""
    options = {"g": "12", "bf": "2", "sc_threshold": "0"}
    clip = make_clip(tmp_path / "in.ts", times=[512 * i for i in range(60)], options=options)
    with VideoSource(clip) as source:
        times = [frame.origin.pts * source.time_base for frame in source]
    start = times[10 + late] - times[0]
    with VideoSource(clip, span=Span(start)) as source:
        assert len(list(source)) == 50 - late
