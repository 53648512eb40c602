"""Whatever a file lacks of what went into it is found, each in a file that lacks just that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from deblurgan.runtime.errors import Failure
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.manifest import Manifest, compare_times, find_difference
from deblurgan.runtime.video.muxer import VideoMuxer
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource

FAST = Encoding(preset="ultrafast")


@pytest.fixture
def written(make_clip: Callable[..., Path], tmp_path: Path) -> tuple[Path, Manifest]:
    clip = make_clip(tmp_path / "in.mkv", sound=True, tags=(1, 1, 1, 1), rotation=90)
    out = tmp_path / "out.mkv"
    with VideoSource(clip) as source, VideoSink(out, source, FAST) as sink:
        for frame in source:
            sink.write(frame.origin, frame.pixels, frame.pixels)
        sink.commit()
        assert sink.manifest is not None
    return out, sink.manifest


def test_a_whole_file_differs_in_nothing(written: tuple[Path, Manifest]) -> None:
    assert find_difference(*written) is None
    assert len(written[1].frames) == 12
    assert written[1].packets > 10


def test_a_lost_and_a_moved_frame_are_found(written: tuple[Path, Manifest]) -> None:
    path, manifest = written
    manifest.frames.append(100_000)
    assert find_difference(path, manifest) == "12 of 13 frames"
    manifest.frames.pop()
    manifest.frames[-1] += 40  # ticks of a fifteenth of a millisecond and a bit
    assert (find_difference(path, manifest) or "").startswith("frame 11 at 0.36")


def test_sound_that_is_lost_changed_or_moved_is_found(written: tuple[Path, Manifest]) -> None:
    path, manifest = written
    (track,) = manifest.tracks.values()
    track.times[3] += 3
    assert "(audio aac) packet 3 at" in (find_difference(path, manifest) or "")
    track.times[3] -= 3
    track._digest.update(b"more")
    assert "other content in its stream" in (find_difference(path, manifest) or "")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("matrix", 6, "matrix 1, not 6"),
        ("transfer", 6, "transfer 1, not 6"),
        ("primaries", 9, "primaries 1, not 9"),
        ("full_range", True, "full range False, not True"),
    ],
)
def test_other_colours_are_found(
    written: tuple[Path, Manifest], name: str, value: int, said: str
) -> None:
    path, manifest = written
    manifest.colour = replace(manifest.colour, **{name: value})  # type: ignore[arg-type]
    assert find_difference(path, manifest) == f"colours with {said}"


def test_another_rotation_and_other_chapters_are_found(written: tuple[Path, Manifest]) -> None:
    path, manifest = written
    manifest.chapters = 2
    assert find_difference(path, manifest) == "0 chapters of 2"
    manifest.display_matrix = None
    assert find_difference(path, manifest) == "another rotation"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, written: tuple[Path, Manifest]) -> None:
    (tmp_path / "bad.mkv").write_bytes(b"no video")
    assert "cannot be read again" in (find_difference(tmp_path / "bad.mkv", written[1]) or "")


def test_uncompressed_sound_may_be_cut_anew_but_starts_where_it_did() -> None:
    thousandth, frame = Fraction(1, 1000), Fraction(1, 30)
    assert compare_times("frame", [0, 1, 2], frame, [67, 0, 33], thousandth) is None
    assert compare_times("frame", [0, 1], frame, [0, 35], thousandth) is not None


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fifth packet is lost on the way into the container."""
    write, packets = VideoMuxer._mux, []

    def lose(muxer: VideoMuxer, packet: Any) -> None:
        packets.append(packet)
        if len(packets) != 5:
            write(muxer, packet)

    monkeypatch.setattr(VideoMuxer, "_mux", lose)


@pytest.mark.usefixtures("careless")
@pytest.mark.parametrize("verify", [True, False])
def test_a_file_that_lacks_something_gets_no_name(
    make_clip: Callable[..., Path], tmp_path: Path, verify: bool
) -> None:
    clip, out = make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def run() -> None:
        with VideoSource(clip) as source, VideoSink(out, source, FAST) as sink:
            for frame in source:
                sink.write(frame.origin, frame.pixels, frame.pixels)
            sink.commit(verify=verify)

    if verify:
        with pytest.raises(Failure, match=r"found 11 of 12 frames; look at out.unverified.mp4"):
            run()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.unverified.mp4"]
    else:
        run()
        assert out.exists()
