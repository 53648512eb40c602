"""Frames of clips: evenly taken, found again by their time stamps, upright."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.clips import list_frames, read_frame, read_frames

TICKS = 15360  # a second, of the clips that make_clip writes


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames in 3.3 seconds of ``photo`` moving sideways by 3 pixels a frame."""
    path = tmp_path_factory.mktemp("clips") / "moving.mp4"
    return make_clip(path, times=[512 * i for i in range(100)])


def test_one_frame_a_second_is_taken(clip: Path) -> None:
    assert list_frames(clip) == [0, TICKS, 2 * TICKS, 3 * TICKS]


def test_at_most_one_frame_a_second_is_taken_where_times_are_uneven(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    seconds = [0, 0.4, 0.9, 1.2, 1.9, 2.1, 2.3, 9.0, 9.5, 10.1]
    clip = make_clip(tmp_path / "uneven.mp4", times=[int(s * TICKS) for s in seconds])
    assert [round(stamp / TICKS, 1) for stamp in list_frames(clip)] == [0, 1.2, 2.3, 9.0, 10.1]


def test_a_frame_is_the_one_shown_at_its_time(clip: Path, photo: NDArray[np.uint8]) -> None:
    for stamp in (0, 40 * 512, 99 * 512):
        frame = read_frame(clip, stamp).permute(1, 2, 0).numpy().astype(int)
        shown = np.roll(photo, 3 * (stamp // 512), 1)
        others = [np.roll(shown, shift, 1) for shift in (-3, 3)]
        error = np.abs(frame - shown).mean()
        assert error < 12
        assert all(error < np.abs(frame - other).mean() for other in others)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mpeg4"), (".mov", "libx264"), (".mkv", "libx264"),
                          (".webm", "libvpx-vp9"), (".avi", "mpeg4")]
)  # fmt: skip
def test_frames_read_in_one_go_are_those_read_one_by_one(
    make_clip: Callable[..., Path], tmp_path: Path, suffix: str, codec: str
) -> None:
    times = [512 * i for i in range(70)]
    clip = make_clip(tmp_path / f"clip{suffix}", times=times, codec=codec)
    stamps = list_frames(clip)
    assert len(stamps) in (3, 4)  # an AVI file's ticks are its frames
    together = list(read_frames(clip, stamps))
    assert len(together) == len(stamps)
    for stamp, frame in zip(stamps, together, strict=True):
        assert np.array_equal(read_frame(clip, stamp).numpy(), frame.numpy())


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_a_clip_held_upright_stands_upright(
    make_clip: Callable[..., Path],
    photo: NDArray[np.uint8],
    tmp_path: Path,
    rotation: int,
    turns: int,
) -> None:
    clip = make_clip(tmp_path / "upright.mp4", times=[0, 512], rotation=rotation)
    frame = read_frame(clip, 0).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(frame - np.rot90(photo, turns)).mean() < 12


def test_what_is_no_whole_clip_is_told(
    clip: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    for content in (b"", b"no clip at all", clip.read_bytes()[:2000]):
        broken.write_bytes(content)
        with pytest.raises(DeblurError, match=r"broken\.mp4: expected a whole video clip, found"):
            list_frames(broken)
    with pytest.raises(DeblurError, match="found an end before its last frame"):
        read_frame(clip, 10 * TICKS)


def test_a_clip_whose_end_is_missing_is_told(clip: Path, tmp_path: Path) -> None:
    """An index in front tells of frames that are not there."""
    broken = tmp_path / "broken.mp4"
    in_front = {"movflags": "faststart"}
    with av.open(str(clip)) as source, av.open(str(broken), "w", options=in_front) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    assert len(list_frames(broken)) == 4
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    with pytest.raises(DeblurError, match=r"found \d+ frames where it tells of 100"):
        list_frames(broken)


def test_sound_alone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sound.avi"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1000))
    with pytest.raises(DeblurError, match="found no video stream"):
        list_frames(path)
