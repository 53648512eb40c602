"""Synthetic pair sets: the same bytes for the same seed, and every pair whole."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import synthesis
from deblurgan.train.blur import EXPOSURES, trajectory_kernel
from deblurgan.train.clips import list_stamps, read_frames
from deblurgan.train.exposures import expose
from deblurgan.train.layouts import PairFiles, PairSource, PhotoSource, check_source, find_source
from deblurgan.train.picture_files import read_picture
from deblurgan.train.synthesis import Method, plan_pairs, write_pair_set


@pytest.fixture(scope="module")
def source(photos: Path) -> PhotoSource:
    """The first three of the made photographs."""
    found = find_source(str(photos), "train")
    assert isinstance(found, PhotoSource)
    return PhotoSource(found.path, found.photos[:3])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_pair_set_is_one_that_can_be_trained_on(source: PhotoSource, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_pair_set(source, tmp_path / "set", count=7, seed=1, watch=lambda *done: told.append(done))
    assert told == [(i, 7) for i in range(1, 8)]
    names = [f"{i:06}.png" for i in range(7)]
    assert sorted(contents(tmp_path / "set")) == [
        f"{side}/{name}" for side in ("blur", "sharp") for name in names
    ]
    found = find_source(str(tmp_path / "set"), "train")
    assert isinstance(found, PairSource)
    assert (found.layout, [pair.name for pair in found.pairs]) == ("pairs", names)
    check_source(found, 96)
    for index, pair in enumerate(found.pairs):
        blurred, sharp = pair.read()
        assert torch.equal(sharp, source.photos[index % 3].read())  # taken in turn
        assert not torch.equal(blurred, sharp)
        # Light is kept, and of saturated colours that blend the coded mean grows with it.
        assert float(blurred.float().mean()) == pytest.approx(float(sharp.float().mean()), abs=16)


def test_the_seed_decides_every_byte_whatever_the_number_of_threads(
    source: PhotoSource, tmp_path: Path
) -> None:
    for name, seed, threads in (("one", 1, 1), ("four", 1, 4), ("other", 2, 1)):
        write_pair_set(source, tmp_path / name, count=5, seed=seed, threads=threads)
    one, four, other = (contents(tmp_path / name) for name in ("one", "four", "other"))
    assert one == four
    assert all((one[name] == other[name]) == name.startswith("sharp") for name in one)


def test_a_longer_set_begins_with_the_shorter_one(source: PhotoSource, tmp_path: Path) -> None:
    write_pair_set(source, tmp_path / "short", count=2, seed=1)
    write_pair_set(source, tmp_path / "long", count=4, seed=1)
    assert contents(tmp_path / "short").items() <= contents(tmp_path / "long").items()


def test_the_number_of_pytorch_s_threads_is_given_back(source: PhotoSource, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    write_pair_set(source, tmp_path / "set", count=1, seed=1)
    assert torch.get_num_threads() == before


# Synthetic methods


def test_trajectories_are_convolved_as_the_paper_says(source: PhotoSource) -> None:
    """Coded values, a kernel of the model's own size, one of the four exposures."""
    for plan in plan_pairs(source, count=2, seed=3, method="trajectory"):
        random = plan.random()
        exposure = EXPOSURES[int(torch.randint(len(EXPOSURES), (), generator=random))]
        kernel = trajectory_kernel(random, exposure=exposure)
        blurred, sharp = plan.make()
        padded = torch.nn.functional.pad(sharp[None].double(), (31, 32, 31, 32), mode="reflect")
        taps = kernel.double()[None, None].expand(3, 1, -1, -1)
        expected = torch.nn.functional.conv2d(padded, taps, groups=3)[0]
        assert float((blurred.double() - expected).abs().max()) < 0.51


def test_exposures_are_drawn_from_all_four(
    source: PhotoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []

    def kernel(random: torch.Generator, exposure: float) -> Tensor:
        drawn.append(exposure)
        return torch.ones(1, 1)

    monkeypatch.setattr(synthesis, "trajectory_kernel", kernel)
    for plan in plan_pairs(source, count=60, seed=1, method="trajectory"):
        plan.kernel()
    assert set(drawn) == set(EXPOSURES)


def test_shake_sums_light_not_coded_values(source: PhotoSource) -> None:
    plan = plan_pairs(source, count=1, seed=1, method="shake")[0]
    blurred, sharp = plan.make()
    expected = plan.blur((sharp[None].double() / 255).pow(2.2).float())[0] ** (1 / 2.2) * 255
    assert float((blurred - expected).abs().max()) < 0.6
    coded = plan.blur(sharp[None].float() / 255)[0] * 255
    assert float((blurred - coded).max()) > 5


@pytest.mark.parametrize(
    ("method", "shaken"),
    [("trajectory", [False] * 6), ("shake", [True] * 6),
     ("both", [False, True, False, True, False, True])],
)  # fmt: skip
def test_methods_are_as_asked(source: PhotoSource, method: Method, shaken: list[bool]) -> None:
    plans = plan_pairs(source, count=6, seed=1, method=method)
    assert [plan.is_shaken for plan in plans] == shaken


def test_of_both_methods_each_photograph_sees_each(source: PhotoSource) -> None:
    two = PhotoSource(source.path, source.photos[:2])
    plans = plan_pairs(two, count=4, seed=1, method="both")
    assert [plan.is_shaken for plan in plans] == [False, True, True, False]


# A clip's own frames


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> PhotoSource:
    """40 frames of ``photo`` moving sideways by 3 pixels a frame."""
    folder = tmp_path_factory.mktemp("clips")
    make_clip(folder / "moving.mp4", times=[512 * i for i in range(40)])
    found = find_source(str(folder), "train")
    assert isinstance(found, PhotoSource)
    return found


def test_frames_are_averaged_around_a_sharp_one(clip: PhotoSource) -> None:
    path = clip.photos[0].path
    every = list(read_frames(path, list_stamps(path)[0]))
    numbers = set()
    for plan in plan_pairs(clip, count=8, seed=1, method="frames"):
        frames = plan.frames()
        assert len(frames) in (3, 5, 7)
        blurred, sharp = plan.make()
        number = next(i for i, frame in enumerate(every) if torch.equal(frame, sharp))
        reach = len(frames) // 2
        assert all(map(torch.equal, frames, every[number - reach : number + reach + 1]))
        assert torch.equal(blurred, expose(frames, 2.2))
        numbers.add(number)
    assert len(numbers) > 4  # not only the frames that stand for a second


def test_the_seed_decides_which_frames(clip: PhotoSource, tmp_path: Path) -> None:
    for name, seed, threads in (("one", 1, 1), ("two", 1, 2), ("other", 2, 2)):
        write_pair_set(clip, tmp_path / name, count=3, seed=seed, method="frames", threads=threads)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) == 6
    assert not set(one.values()) & set(other.values())


def test_no_exposure_spans_a_pause(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    """Ten frames, half a second of nothing, then four: the second part is too short for
    three frames on each side, and its exposures are shorter.
    """
    times = [512 * i for i in (*range(10), *range(25, 29))]
    make_clip(tmp_path / "paused.mp4", times=times)
    clip = find_source(str(tmp_path), "train")
    every = list(read_frames(tmp_path / "paused.mp4", times))
    for plan in plan_pairs(clip, count=30, seed=1, method="frames"):
        frames = plan.frames()
        first = next(i for i, frame in enumerate(every) if torch.equal(frame, frames[0]))
        assert first + len(frames) <= 10 or first >= 10


def test_frames_that_a_clip_does_not_show_are_not_taken(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """An edit list hides what lies before the start: trimmed without encoding anew."""
    make_clip(tmp_path / "trimmed.mp4", times=[512 * i for i in range(-20, 12)], options={})
    stamps, _ = list_stamps(tmp_path / "trimmed.mp4")
    assert len(stamps) == 12
    clip = find_source(str(tmp_path), "train")
    for plan in plan_pairs(clip, count=10, seed=1, method="frames"):
        assert len(plan.frames()) in (3, 5, 7)


@pytest.mark.parametrize(
    ("times", "found"), [(None, "a picture"), ([0], "1 frames"), ([0, 512], "2 frames"),
                         ([0, 512, 9216, 9728], "4 frames")]
)  # fmt: skip
def test_what_has_no_frames_to_average_is_told_before_the_set_is_made(
    source: PhotoSource,
    make_clip: Callable[..., Path],
    tmp_path: Path,
    times: list[int] | None,
    found: str,
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    make_clip(clips / "good.mp4")
    if times is None:
        shutil.copy(source.photos[0].path, clips / "odd.png")
    else:
        make_clip(clips / "odd.mp4", times=times)
    with pytest.raises(DeblurError, match=rf"odd\..*at least 3 frames.* found .*{found}"):
        write_pair_set(
            find_source(str(clips), "train"), tmp_path / "set", count=1, seed=1, method="frames"
        )
    assert not (tmp_path / "set").exists()


def test_frames_too_small_for_a_flow_are_told(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    small = np.zeros((16, 32, 3), np.uint8)
    make_clip(tmp_path / "clips/small.mp4", times=[512 * i for i in range(5)], picture=small)
    clips = find_source(str(tmp_path / "clips"), "train")
    with pytest.raises(DeblurError, match=r"small\.mp4: expected at least 33x33 .* found 32x16"):
        write_pair_set(clips, tmp_path / "set", count=1, seed=1, method="frames")


# What goes wrong


def test_a_folder_that_is_not_empty_is_refused(source: PhotoSource, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DeblurError, match=r"expected an empty folder, found notes\.txt"):
        write_pair_set(source, tmp_path, count=1, seed=1)
    with pytest.raises(DeblurError, match=r"notes\.txt/set: expected a folder"):
        write_pair_set(source, tmp_path / "notes.txt/set", count=1, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_pairs_are_not_blurred_again(tmp_path: Path) -> None:
    pairs = PairSource(tmp_path, "gopro", (PairFiles("a", tmp_path / "a", tmp_path / "b"),))
    with pytest.raises(DeblurError, match=r"found pairs \(gopro\)"):
        write_pair_set(pairs, tmp_path / "set", count=1, seed=1)
    assert not (tmp_path / "set").exists()


def test_a_photograph_too_small_for_the_kernel_is_told(
    tmp_path: Path, write_small: Callable[[Path], None]
) -> None:
    write_small(tmp_path / "photos")
    with pytest.raises(DeblurError, match="expected at least 33x33 pixels, found 16x16"):
        write_pair_set(
            find_source(str(tmp_path / "photos"), "train"), tmp_path / "set", count=1, seed=1
        )


@pytest.fixture
def write_small(source: PhotoSource) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from deblurgan.runtime.image_file import save_image

        folder.mkdir()
        small = source.photos[0].read()[:, :16, :16]
        save_image(folder / "small.png", small.permute(1, 2, 0).numpy())

    return write


def test_a_disk_that_fills_up_leaves_whole_pairs(
    source: PhotoSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = os.replace, []

    def full_at_the_sixth(part: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 6:  # the second picture of the third pair
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(part, target)

    monkeypatch.setattr(os, "replace", full_at_the_sixth)
    with pytest.raises(DeblurError, match=r"000002\.png: .*found no space left on device"):
        write_pair_set(source, tmp_path / "set", count=9, seed=1, threads=1)
    written = contents(tmp_path / "set")
    pairs = {name.rpartition("/")[2] for name in written}
    assert {"000000.png", "000001.png"} <= pairs
    assert "000002.png" not in pairs
    assert len(written) == 2 * len(pairs)
    for name in written:
        read_picture(tmp_path / "set" / name)


def test_a_really_full_disk_is_told(source: PhotoSource, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a small disk here")
    try:
        with pytest.raises(DeblurError, match="found no space left on device"):
            write_pair_set(source, disk / "set", count=40, seed=1)
        written = [path for path in (disk / "set").rglob("*") if path.is_file()]
        assert written
        assert len(written) % 2 == 0
        for path in written:
            read_picture(path)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
