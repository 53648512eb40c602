"""A sample follows from its number alone, whoever makes it and in whatever order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import samples as samples_module
from deblurgan.train.blur import BlurRecipe
from deblurgan.train.layouts import PairFiles, PairSource, PhotoFile, PhotoSource, Source
from deblurgan.train.samples import (
    BATCHES_OF_LANES,
    PictureCache,
    Samples,
    SampleSettings,
    batches,
    seeded,
)

CPU = torch.device("cpu")
CLEAN = BlurRecipe(sharp_share=1, noise_share=0, compressed_share=0)
BLURRED = BlurRecipe(length=(1.0, 8.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that tell where they are cut: red is the column, green the row, and blue
    the picture's number. ``a`` to ``c`` are 80x64, ``wide`` is 160x120.
    """
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(("a", "b", "c", "wide")):
        width, height = (160, 120) if name == "wide" else (80, 64)
        y, x = np.mgrid[:height, :width]
        for suffix, blue in (("", number), ("-blurred", 100 + number)):
            cv2.imwrite(str(folder / f"{name}{suffix}.png"), np.dstack([x * 0 + blue, y, x]))
    return folder


@pytest.fixture(scope="module")
def pairs(folder: Path) -> PairSource:
    return PairSource(
        folder,
        "pairs",
        tuple(PairFiles(n, folder / f"{n}-blurred.png", folder / f"{n}.png") for n in "abc"),
    )


@pytest.fixture(scope="module")
def photos(folder: Path) -> PhotoSource:
    return PhotoSource(folder, tuple(PhotoFile(n, folder / f"{n}.png") for n in "abc"))


def make(
    *sources: Source, blur: BlurRecipe = CLEAN, seed: int = 1, batch: int = 2, **options: Any
) -> Samples:
    recipe = SampleSettings(**{"crop": 24, "reuse": 4, **options})
    return Samples(sources, recipe, blur, seed=seed, batch=batch, device=CPU)


def blue(sample: Tensor) -> tuple[int, int]:
    """The numbers of the pictures that a sample's two halves are cut from."""
    values = sample[:, 2].flatten(1)
    assert (values == values[:, :1]).all()
    return int(values[0, 0]), int(values[1, 0])


# Pairs


def test_crops_of_a_pair_show_the_same_place(pairs: PairSource) -> None:
    samples, orientations, places = make(pairs), set(), set()
    for index in range(90):
        sample = samples[index]
        assert (sample.dtype, sample.shape) == (torch.uint8, (2, 3, 24, 24))
        blurred, sharp = blue(sample)
        assert blurred == 100 + sharp
        assert torch.equal(sample[0, :2], sample[1, :2])
        columns, rows = sample[1, 0].int(), sample[1, 1].int()
        places.add((int(columns.min()), int(rows.min())))
        steps = tuple(
            int(plane.diff(dim=axis).unique().item())
            for plane in (columns, rows)
            for axis in (0, 1)
        )
        orientations.add(steps)
    assert len(orientations) == 8
    assert len(places) > 80
    assert (max(x for x, _ in places), max(y for _, y in places)) >= (50, 35)


@pytest.mark.parametrize(("flips", "count"), [("none", 1), ("horizontal", 2)])
def test_flips_are_as_asked(pairs: PairSource, flips: str, count: int) -> None:
    samples = make(pairs, flips=flips)
    steps = {(int(s[1, 0, 0, 1]) > int(s[1, 0, 0, 0])) for s in (samples[i] for i in range(30))}
    assert steps == ({True} if count == 1 else {True, False})
    assert all(samples[i][1, 1].int().diff(dim=0).unique().tolist() == [1] for i in range(30))


def test_an_epoch_brings_every_pair_once_each_time_in_another_order(pairs: PairSource) -> None:
    samples = make(pairs)
    assert samples.epoch == 3
    orders = [tuple(blue(samples[3 * e + i])[1] for i in range(3)) for e in range(12)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(set(orders)) > 3


def test_pairs_are_scaled_before_they_are_cropped(pairs: PairSource) -> None:
    sample = make(pairs, scale=0.5, flips="none")[0]
    assert sample[1, 0].int().diff(dim=1).unique().tolist() == [2]  # two columns a pixel
    assert sample[1, 1].int().diff(dim=0).unique().tolist() == [2]


def test_whole_pictures_are_squeezed_into_the_square(
    pairs: PairSource, photos: PhotoSource
) -> None:
    for source in (pairs, photos):
        sample = make(source, fit="resize", crop=40, flips="none")[0].int()
        assert sample[1, 0].float().diff(dim=1).mean() == pytest.approx(2, abs=0.05)  # of 80
        assert sample[1, 1].float().diff(dim=0).mean() == pytest.approx(64 / 40, abs=0.05)


# Photographs


def test_regions_are_places_of_the_photographs(photos: PhotoSource) -> None:
    samples, seen, places = make(photos, reuse=1), Counter[int](), set()
    for index in range(120):
        blurred, sharp = samples[index]
        assert torch.equal(blurred, sharp)  # nothing was degraded: so the two are aligned
        columns, rows = sharp[0].int(), sharp[1].int()
        steps = [int(p.diff(dim=a).unique().item()) for p in (columns, rows) for a in (0, 1)]
        assert sorted(map(abs, steps)) == [0, 0, 1, 1]
        seen[int(sharp[2, 0, 0])] += 1
        places.add((int(columns.min()), int(rows.min())))
    assert set(seen) == {0, 1, 2}
    assert len(places) > 90
    assert max(x for x, _ in places) > 64 - 24  # the region itself is anywhere in the photo


def test_blurred_and_sharp_crops_show_the_same_place(photos: PhotoSource) -> None:
    recipe = BlurRecipe(
        sharp_share=0, highlight_share=0, noise_share=0, compressed_share=0, length=(0.0, 0.1),
        shake_share=1,
    )  # fmt: skip
    samples = make(photos, blur=recipe)
    for index in range(12):
        blurred, sharp = samples[index].float()
        assert float((blurred - sharp).abs().mean()) < 2


def test_large_photographs_are_also_seen_at_smaller_scales(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "REGION", 40)
    wide = PhotoSource(folder, (PhotoFile("wide", folder / "wide.png"),))
    samples = make(wide, reuse=1, flips="none")
    scales = [
        float(samples[i][1, 0].float().diff(dim=1).mean()) for i in range(60)
    ]  # columns a pixel
    assert min(scales) == pytest.approx(1, abs=0.15)
    assert max(scales) == pytest.approx(2, abs=0.15)


def test_a_panorama_keeps_room_for_a_crop(tmp_path: Path) -> None:
    grain = np.random.default_rng(1).integers(0, 256, (100, 4000, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "wide.png"), grain)
    wide = PhotoSource(tmp_path, (PhotoFile("wide", tmp_path / "wide.png"),))
    samples = make(wide, crop=96)
    assert samples[0].shape == (2, 3, 96, 96)


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the blur: the n-th region made is all of level n. Grows with each."""
    made: list[int] = []

    def degrade(sharp: Tensor, recipe: BlurRecipe, random: torch.Generator) -> tuple[Tensor, ...]:
        made.append(len(made))
        level = torch.full_like(sharp, (made[-1] % 256) / 255)
        return level, level

    monkeypatch.setattr(samples_module, "degrade", degrade)
    return made


@pytest.mark.parametrize(("batch", "reuse"), [(2, 4), (4, 2), (3, 8), (1, 5)])
def test_every_region_serves_as_many_crops_as_asked(
    photos: PhotoSource, numbered: list[int], batch: int, reuse: int
) -> None:
    samples, lanes = make(photos, batch=batch, reuse=reuse), batch * BATCHES_OF_LANES
    for index in range(lanes * reuse):  # until each lane has begun its second region
        samples[index]
    begun = len(numbered)
    uses = Counter(int(samples[i][0, 0, 0, 0]) for i in range(lanes * reuse, lanes * reuse * 3))
    assert len(numbered) - begun == 2 * lanes
    assert sum(uses.values()) == 2 * lanes * reuse
    assert max(uses.values()) <= 2 * reuse  # the levels of 256 wrap around


def test_regions_are_renewed_evenly(photos: PhotoSource, numbered: list[int]) -> None:
    """A burst of new regions would make every so many steps slow."""
    batch, reuse = 4, 8
    samples, made = make(photos, batch=batch, reuse=reuse), []
    for number in range(2 * BATCHES_OF_LANES * reuse):
        before = len(numbered)
        for index in range(number * batch, (number + 1) * batch):
            samples[index]
        made.append(len(numbered) - before)
    assert made[:BATCHES_OF_LANES] == [batch] * BATCHES_OF_LANES
    turns = [sum(made[i : i + BATCHES_OF_LANES]) for i in range(0, len(made), BATCHES_OF_LANES)]
    assert set(turns[1:]) == {batch * BATCHES_OF_LANES // reuse}
    assert max(made[BATCHES_OF_LANES:]) <= 1


@settings(max_examples=15)
@given(batch=st.integers(1, 6), ratio=st.sampled_from([(1, 1), (2, 1), (1, 3), (3, 2)]))
def test_a_batch_never_shows_a_region_twice(batch: int, ratio: tuple[int, int]) -> None:
    photos = PhotoSource(Path("photos"), (PhotoFile("a", Path("a")), PhotoFile("b", Path("b"))))
    samples = make(photos, photos, batch=batch, reuse=3, mixture=ratio)
    samples._blur = lambda source, number, random: torch.zeros(0) + random.initial_seed()  # type: ignore[method-assign]
    for number in range(40):
        regions = []
        for index in range(number * batch, (number + 1) * batch):
            source, _ = samples.mixture.turn(index)
            regions.append(id(samples._region(photos, source, index)))
        assert len(set(regions)) == batch


# Purity


@cache
def expected(folder: Path, ratio: tuple[int, int]) -> list[Tensor]:
    samples = mixed(folder, ratio)
    return [samples[index] for index in range(64)]


def mixed(folder: Path, ratio: tuple[int, int], **options: Any) -> Samples:
    """Photographs and pairs, with everything random that there is."""
    pairs = tuple(PairFiles(n, folder / f"{n}-blurred.png", folder / f"{n}.png") for n in "abc")
    photos = tuple(PhotoFile(n, folder / f"{n}.png") for n in "abc")
    sources = (PhotoSource(folder, photos), PairSource(folder, "pairs", pairs))
    return make(*sources, blur=BLURRED, mixture=ratio, batch=4, **options)


@settings(max_examples=6)
@given(
    order=st.permutations(range(64)),
    ratio=st.sampled_from([(1, 1), (2, 1)]),
    cached=st.sampled_from([0, 30_000, 1 << 20]),
)
def test_a_sample_is_the_same_in_any_order_and_however_much_is_kept(
    folder: Path, order: list[int], ratio: tuple[int, int], cached: int
) -> None:
    samples = mixed(folder, ratio)
    samples.cache.limit = cached
    torch.manual_seed(len(order))  # the global generator has no say
    for index in order[:20]:
        assert torch.equal(samples[index], expected(folder, ratio)[index]), index
    assert samples.cache.used <= cached


def test_another_seed_gives_other_samples(folder: Path) -> None:
    others = mixed(folder, (2, 1), seed=2)
    same = [torch.equal(others[i], expected(folder, (2, 1))[i]) for i in range(24)]
    assert not any(same)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_batches_are_the_same_for_any_number_of_workers(folder: Path, workers: int) -> None:
    before = torch.random.get_rng_state()
    with closing(batches(mixed(folder, (2, 1)), batch=4, first=3, workers=workers)) as made:
        for number, batch in enumerate(islice(made, 6), 3):
            stacked = torch.stack(expected(folder, (2, 1))[4 * number : 4 * number + 4])
            assert torch.equal(batch, stacked)
    assert torch.equal(torch.random.get_rng_state(), before)


@settings(max_examples=10)
@given(world=st.sampled_from([1, 2, 4]), first=st.integers(0, 12))
def test_ranks_share_a_batch_out(folder: Path, world: int, first: int) -> None:
    parts = [
        next(batches(mixed(folder, (1, 1)), batch=4 // world, first=first, rank=r, world=world))
        for r in range(world)
    ]
    whole = torch.stack(expected(folder, (1, 1))[4 * first : 4 * first + 4])
    assert torch.equal(torch.cat(parts), whole)


def test_lanes_stay_with_a_worker(photos: PhotoSource, numbered: list[int]) -> None:
    """Each of 1, 2, 3, 4 or 6 workers blurs its part of the regions, and no more."""
    alone = make(photos, batch=2, reuse=3)
    for index in range(2 * 72):
        alone[index]
    needed = len(numbered)
    for workers in (2, 3, 4, 6):
        numbered.clear()
        for worker in range(workers):
            samples = make(photos, batch=2, reuse=3)
            for number in range(worker, 72, workers):
                samples[2 * number], samples[2 * number + 1]
        assert len(numbered) == needed


# What goes wrong


def test_a_worker_s_error_is_the_error_itself(folder: Path, tmp_path: Path) -> None:
    files = PairFiles("gone", tmp_path / "gone.png", tmp_path / "gone.png")
    samples = make(PairSource(tmp_path, "combined", (files,)))
    for workers in (0, 2):
        with (
            closing(batches(samples, batch=2, first=0, workers=workers)) as made,
            pytest.raises(DeblurError) as caught,
        ):
            next(made)
        assert str(caught.value).startswith(f"{tmp_path}/gone.png: expected a picture of 8 or 16")
        assert caught.value.found == "no such file or directory"


def test_a_fault_of_ours_in_a_worker_is_not_taken_for_the_user_s(
    pairs: PairSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Tensor:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Samples, "_pair", fail)
    with (
        closing(batches(make(pairs), batch=2, first=0, workers=1)) as made,
        pytest.raises(RuntimeError, match="a bug"),
    ):
        next(made)


def test_workers_end_with_the_iterator(pairs: PairSource) -> None:
    before = set(multiprocessing.active_children())
    made = batches(make(pairs), batch=2, first=0, workers=2)
    next(made)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    made.close()
    assert not any(worker.is_alive() for worker in workers)


def test_ctrl_c_is_left_to_the_program(pairs: PairSource) -> None:
    """A terminal sends it to the workers as well."""
    with closing(batches(make(pairs), batch=2, first=0, workers=2)) as made:
        next(made)
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGINT)
        assert len(list(islice(made, 20))) == 20
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_killed_worker_is_told(pairs: PairSource) -> None:
    before = set(multiprocessing.active_children())  # of other tests, not yet gone
    with closing(batches(make(pairs), batch=2, first=0, workers=2)) as made:
        next(made)
        worker = (set(multiprocessing.active_children()) - before).pop()
        # Or, where DataLoader's own signal handler is the first to see it, its RuntimeError.
        with pytest.raises((DeblurError, RuntimeError), match=r"worker"):
            kill_and_go_on(worker.pid, made)


def kill_and_go_on(pid: int | None, made: Iterator[Tensor]) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for _ in range(99):
        next(made)


PROGRAM = """
import multiprocessing, sys, time, torch
from deblurgan.train.blur import BlurRecipe
from deblurgan.train.layouts import find_source
from deblurgan.train.samples import Samples, SampleSettings, batches

source = find_source("combined:" + sys.argv[1], "train")
settings = SampleSettings(crop=24)
samples = Samples([source], settings, BlurRecipe(), seed=1, batch=2, device=torch.device("cpu"))
made = batches(samples, batch=2, first=0, workers=2)
next(made)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("end", ["raise SystemExit(3)", "time.sleep(60)"])
def test_workers_end_with_the_program(folder: Path, tmp_path: Path, end: str) -> None:
    """Left open, and even killed: then workers miss their parent after some seconds."""
    (tmp_path / "wide.png").write_bytes((folder / "wide.png").read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + end, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    if end.startswith("time"):
        process.kill()
    process.wait(30)
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"{pids} are still there"
        time.sleep(0.1)
    said = process.communicate()[1]
    assert len(pids) == 2
    if end.startswith("raise"):
        assert (process.returncode, said) == (3, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are Linux's")
def test_workers_that_cannot_all_be_started_are_told_and_keep_nobody_waiting(
    folder: Path, tmp_path: Path
) -> None:
    """In a program of its own, whose exit would wait for those that were."""
    (tmp_path / "wide.png").write_bytes((folder / "wide.png").read_bytes())
    made = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\nmade ="
    program = PROGRAM.replace("made =", made).replace("workers=2", "workers=24")
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    last = ended.stderr.splitlines()[-1]
    assert last.endswith("start again with fewer --workers, or raise the limit: ulimit -n 4096")
    assert "Too many open files" in last


def test_a_worker_whose_parent_was_killed_before_it_began_ends() -> None:
    code = "from deblurgan.train.samples import begin_worker as b; import os; b({}, 0); print(1)"
    for parent, said in (("os.getppid()", "1\n"), ("0", "")):
        ended = subprocess.run(
            [sys.executable, "-c", code.format(parent)], capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stdout) == (0, said)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


# Settings


@pytest.mark.parametrize(
    "values",
    [
        {"crop": 7},
        {"crop": 32, "fit": "resize"},
        {"scale": 0.0},
        {"scale": 1.5},
        {"reuse": 0},
        {"mixture": (1, 0)},
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        SampleSettings(**values)


def test_a_mixture_of_another_number_of_sources_is_told(pairs: PairSource) -> None:
    with pytest.raises(DeblurError, match=r"found \[2, 1\]; write it like .*mixture=\[1\]"):
        make(pairs, mixture=(2, 1))


def test_without_a_mixture_sources_come_by_their_numbers(
    pairs: PairSource, photos: PhotoSource
) -> None:
    one = PhotoSource(photos.path, photos.photos[:1])
    samples = make(pairs, one)
    assert samples.epoch == 4
    assert Counter(samples.mixture.turn(i)[0] for i in range(8)) == {0: 6, 1: 2}


@given(crop=st.integers(8, 300), scale=st.floats(0.05, 1))
def test_the_smallest_picture_is_just_large_enough(crop: int, scale: float) -> None:
    pairs, photos = PairSource(Path(), "pairs", ()), PhotoSource(Path(), ())
    recipe = SampleSettings(crop=crop, scale=scale)
    smallest = recipe.smallest(pairs)
    assert round(smallest * scale) >= crop
    assert round((smallest - 1) * scale) < crop
    assert recipe.smallest(photos) == max(crop, 33)
    squeezed = SampleSettings(crop=max(33, crop), fit="resize", scale=scale)
    assert squeezed.smallest(pairs) == max(33, crop)


# Seeds and the cache


def test_seeds_follow_from_every_part_of_the_key() -> None:
    keys: list[tuple[object, ...]] = [(1, "a", 2), (1, "a", 3), (2, "a", 2), (1, "b", 2), (1, 2)]
    assert len({seeded(*key) for key in keys}) == len(keys)
    assert seeded(1, "a", 2) == 15932096090035392070
    assert all(0 <= seeded(n) < 2**64 for n in range(100))


def test_the_cache_keeps_what_fits_and_reads_the_rest_again() -> None:
    cache, read = PictureCache(100), Counter[int]()

    def get(number: int) -> Tensor:
        def load() -> Tensor:
            read[number] += 1
            return torch.full((40,), number, dtype=torch.uint8)

        return cache.get((0, number), load)

    for _ in range(3):
        for number in range(3):
            assert (get(number) == number).all()
    assert read == {0: 1, 1: 1, 2: 3}
    assert cache.used == 80
