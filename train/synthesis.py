"""Synthetic pair sets: sharp photographs in, folders of blurred and sharp pictures out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image
from deblurgan.train.blur import (
    EXPOSURES,
    SMALLEST_PICTURE,
    BlurRecipe,
    convolve,
    from_light,
    shake,
    to_light,
    trajectory_kernel,
)
from deblurgan.train.clips import list_stamps, read_frames
from deblurgan.train.crops import integer
from deblurgan.train.exposures import expose
from deblurgan.train.layouts import PhotoFile, PhotoSource, Source, check_size
from deblurgan.train.picture_files import shrink
from deblurgan.train.samples import generator

Method = Literal["trajectory", "shake", "both", "frames"]
GAMMA = 2.2  # of a camera's coded frames; the paper convolves these as they are
LONGEST_EXPOSURE = 3  # frames to each side of the sharp one
PAUSE = 2  # times the usual time between two frames: what is longer is no exposure


@dataclass(frozen=True)
class PairPlan:
    """The ``index``-th pair of a set, before it is made: everything follows from the seed."""

    index: int
    seed: int
    method: Method
    photos: PhotoSource
    stamps: Mapping[Path, Sequence[int]]
    """Where ``method`` is "frames": the clips, and when each of their frames is shown."""

    @property
    def is_shaken(self) -> bool:
        """Of both methods a photograph sees one, and the other when its turn comes again."""
        turn, place = divmod(self.index, len(self.photos.photos))
        return self.method == "shake" or (self.method == "both" and (place + turn) % 2 == 1)

    @property
    def file(self) -> PhotoFile:
        """The photograph whose turn it is."""
        return self.photos.photos[self.index % len(self.photos.photos)]

    def read(self) -> Tensor:
        """The photograph, uint8 ``[3, H, W]``."""
        photo = shrink(self.file.read())
        check_size(self.file.path, photo, SMALLEST_PICTURE)
        return photo

    @property
    def clip(self) -> Path:
        """The clip whose turn it is: each as often, however long it lasts."""
        return list(self.stamps)[self.index % len(self.stamps)]

    def frames(self) -> list[Tensor]:
        """Consecutive frames of the clip, an odd number: one to three to each side of
        the sharp one.
        """
        random, stamps = self.random(), self.stamps[self.clip]
        reach = 1 + integer(LONGEST_EXPOSURE, random)
        while not (starts := steady_starts(stamps, reach)):
            reach -= 1
        first = starts[integer(len(starts), random)]
        chosen = stamps[first : first + 2 * reach + 1]
        frames = [shrink(frame) for frame in read_frames(self.clip, chosen)]
        for frame in frames:
            check_size(self.clip, frame, SMALLEST_PICTURE)
            if frame.shape != frames[0].shape:
                raise not_for_frames(self.clip, "frames of several sizes")
        return frames

    def blur(self, light: Tensor) -> Tensor:
        """This pair's blur of any light, float ``[1, 3, H, W]``."""
        if not self.is_shaken:
            return convolve(light, self.kernel())
        random = self.random()
        low, high = BlurRecipe().length
        length = low + (high - low) * float(torch.rand((), generator=random))
        return shake(light, length, random)

    def kernel(self) -> Tensor:
        """The paper's section 3.3: a trajectory at its own size, one of four exposures."""
        random = self.random()
        exposure = EXPOSURES[int(torch.randint(len(EXPOSURES), (), generator=random))]
        return trajectory_kernel(random, exposure=exposure)

    def make(self) -> tuple[Tensor, Tensor]:
        """Blurred and sharp, uint8 ``[3, H, W]``."""
        if self.method == "frames":
            frames = self.frames()
            return expose(frames, GAMMA), frames[len(frames) // 2]
        sharp = self.read()
        gamma = GAMMA if self.is_shaken else 1.0
        light = self.blur(to_light(sharp[None].float() / 255, gamma))
        blurred = from_light(light, gamma)[0]
        return (blurred * 255).round().clamp(0, 255).to(torch.uint8), sharp

    def random(self) -> torch.Generator:
        return generator(self.seed, "pair", self.index)


def plan_pairs(photos: Source, *, count: int, seed: int, method: Method) -> list[PairPlan]:
    """``count`` pairs, the photographs or, for "frames", the clips taken in turn.

    Raises ``DeblurError`` for a source that is blurred already and, where ``method`` is
    "frames", for pictures and for clips of less than three frames.
    """
    if not isinstance(photos, PhotoSource):
        raise DeblurError(
            photos.path,
            expected="sharp photographs or clips",
            found=f"pairs ({photos.layout})",
            remedy="name a folder of sharp pictures, with sharp: before it where it is taken "
            "for something else",
        )
    stamps = list_clips(photos) if method == "frames" else {}
    return [PairPlan(index, seed, method, photos, stamps) for index in range(count)]


def list_clips(photos: PhotoSource) -> dict[Path, list[int]]:
    """The clips of a source, and when each of their frames is shown."""
    stamps: dict[Path, list[int]] = {}
    for photo in photos.photos:
        if photo.frame is None:
            raise not_for_frames(photo.path, "a picture")
        if photo.path not in stamps:
            stamps[photo.path], _ = list_stamps(photo.path)
            if not steady_starts(stamps[photo.path], 1):
                raise not_for_frames(photo.path, f"a clip of {len(stamps[photo.path])} frames")
    return stamps


def steady_starts(stamps: Sequence[int], reach: int) -> list[int]:
    """Where ``2 * reach + 1`` frames begin that follow each other without a pause."""
    gaps = np.diff(stamps)
    longest = PAUSE * np.median(gaps) if len(gaps) else 0
    starts = range(len(stamps) - 2 * reach)
    return [start for start in starts if gaps[start : start + 2 * reach].max() <= longest]


def not_for_frames(path: Path, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected="a clip of at least 3 frames of one size, which are averaged",
        found=found,
        remedy="remove it from the folder, or blur it with --method shake",
    )


def write_pair_set(
    photos: Source,
    out: Path,
    *,
    count: int,
    seed: int,
    method: Method = "both",
    threads: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``out/blur/000000.png`` and ``out/sharp/000000.png`` and so on.

    ``method`` "trajectory" is the paper's, "shake" a moving camera whose light is
    summed linearly, "frames" the mean of a clip's own frames. The same seed gives the
    same bytes on any number of threads. ``watch`` gets how many pairs are written, and
    of how many.

    Raises ``DeblurError`` where ``out`` holds something, for a picture that cannot
    be read, and for a full disk; every file that is there by then is whole.
    """
    plans = plan_pairs(photos, count=count, seed=seed, method=method)
    make_empty_folder(out)
    for name in ("blur", "sharp"):
        (out / name).mkdir()
    with one_torch_thread():
        pool = ThreadPoolExecutor(threads or os.cpu_count() or 1)
        try:
            written = pool.map(lambda plan: write_pair(plan, out), plans)
            for done, _ in enumerate(written, 1):
                if watch is not None:
                    watch(done, count)
        finally:
            pool.shutdown(cancel_futures=True)


def write_pair(plan: PairPlan, out: Path) -> None:
    targets = [out / name / f"{plan.index:06}.png" for name in ("blur", "sharp")]
    try:
        for target, picture in zip(targets, plan.make(), strict=True):
            save_image(target, picture.flip(0).permute(1, 2, 0).numpy())
    except BaseException:
        for target in targets:  # one alone would be no pair
            with suppress(OSError):
                target.unlink(missing_ok=True)
        raise


def make_empty_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = next(folder.iterdir(), None)
    except OSError as error:
        raise DeblurError(
            folder,
            expected="a folder, or a place to make one",
            found=(error.strerror or str(error)).lower(),
            remedy="name another",
        ) from None
    if found is not None:
        raise DeblurError(
            folder,
            expected="an empty folder",
            found=found.name,
            remedy=f"name another, or empty it: rm -r {folder}",
        )


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """For work that is spread over threads already."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
