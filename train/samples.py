"""Training samples, each a pure function of its number.

Sample ``i`` is the same whoever makes it, and after whatever: a run that is
resumed at a step needs no saved state of its data, several devices share the
numbers out, and any worker can make any sample.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Literal

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.blur import SMALLEST_PICTURE, BlurRecipe, degrade
from deblurgan.train.crops import cut, integer, random_region, turned
from deblurgan.train.layouts import PairSource, PhotoSource, Source
from deblurgan.train.mixture import Mixture
from deblurgan.train.picture_files import fit_picture, scale_picture, shrink
from deblurgan.train.settings import DOCUMENTED

REGION = 384  # pixels a side of what is blurred at once, for crops up to two thirds of it
# Workers that take batches in turn keep a lane to themselves where this is a multiple
# of their number.
BATCHES_OF_LANES = 12
CACHE_BYTES = 2 << 30
PREFETCH = 4  # batches that each worker is ahead


@dataclass(frozen=True)
class SampleSettings:
    """What becomes of a picture on its way into training."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    crop: int = 256
    """Side of a training picture, in pixels."""
    fit: Literal["crop", "resize"] = "crop"
    """crop: a random place of the picture; resize: the whole picture, squeezed into the
    square as in the Keras article (photographs before they are blurred)."""
    scale: float = 1.0
    """Pairs are made this much smaller before they are cropped; 0.5 is the paper's
    half-size GoPro."""
    gamma: bool = False
    """Take GOPRO_Large's blur_gamma, blurred in linear light, instead of its blur."""
    flips: Literal["none", "horizontal", "all"] = "all"
    """none, horizontal, or all eight orientations of a square."""
    reuse: int = 32
    """Crops from each region of a photograph that is blurred: blurring costs far more
    than cropping. Never two of them in one batch."""
    mixture: tuple[int, ...] = ()
    """Ratio of the sources in the order they are named, [2, 1] for twice as many samples
    of the first; empty: by their numbers of pictures."""

    def __post_init__(self) -> None:
        if self.crop < 8:
            raise ValueError("crop must be at least 8")
        if self.fit == "resize" and self.crop < SMALLEST_PICTURE:
            raise ValueError(f"crop must be at least {SMALLEST_PICTURE} where fit is resize")
        if not 0.01 <= self.scale <= 1:
            raise ValueError("scale must be at least 0.01 and at most 1")
        if self.reuse < 1:
            raise ValueError("reuse must be at least 1")
        if any(share < 1 for share in self.mixture):
            raise ValueError("mixture must be of whole numbers above 0")

    def smallest(self, source: Source) -> int:
        """The smallest side, in pixels, that a picture of the source may have."""
        if isinstance(source, PhotoSource):
            return max(self.crop, SMALLEST_PICTURE)
        if self.fit == "resize":
            return self.crop
        side = math.floor((self.crop - 1) / self.scale)
        while round(side * self.scale) < self.crop:
            side += 1
        return side


class Samples:
    """Samples by number, from 0 on without end.

    ``batch`` is the number of samples in a batch, over all devices together: no
    two samples of a batch that is aligned to it show the same blurred region.
    Photographs are blurred on ``device``, and samples come there.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        settings: SampleSettings,
        blur: BlurRecipe,
        *,
        seed: int,
        batch: int,
        device: torch.device,
    ) -> None:
        counts = [len(files_of(source)) for source in sources]
        if settings.mixture and len(settings.mixture) != len(sources):
            raise DeblurError(
                "data.mixture",
                expected=f"a number for each of the {len(sources)} sources",
                found=str(list(settings.mixture)),
                remedy="write it like --set data.mixture=[" + ",".join("1" * len(sources)) + "]",
            )
        self.sources, self.settings, self.blur = list(sources), settings, blur
        self.seed, self.batch, self.device = seed, batch, device
        self.mixture = Mixture(settings.mixture or counts)
        self.epoch = sum(counts)
        self.cache = PictureCache(CACHE_BYTES)
        self.regions: dict[tuple[int, int], tuple[int, Tensor]] = {}
        self.orders: dict[int, tuple[int, list[int]]] = {}

    def __getitem__(self, index: int) -> Tensor:
        """uint8 ``[2, 3, crop, crop]``: blurred, sharp.

        Raises ``DeblurError`` for a picture that cannot be read (any more).
        """
        number, turn = self.mixture.turn(index)
        source = self.sources[number]
        if isinstance(source, PairSource):
            pictures = self._pair(source, number, turn)
        else:
            pictures = self._region(source, number, index)
        random = generator(self.seed, "sample", index)
        crop = cut(pictures, self.settings.crop, random)
        return turned(crop, self.settings.flips, random).to(self.device)

    def on(self, device: torch.device) -> Samples:
        """The same samples, made on another device, with nothing kept yet."""
        return Samples(
            self.sources,
            self.settings,
            self.blur,
            seed=self.seed,
            batch=self.batch,
            device=device,
        )

    def distinct(self, count: int, progress: Callable[[int, int], None]) -> list[Tensor]:
        """The first samples of a run that cuts each from a region of its own, made on the
        CPU; ``progress`` gets how many are done, and of how many.
        """
        apart = Samples(
            self.sources,
            replace(self.settings, reuse=1),
            self.blur,
            seed=self.seed,
            batch=1,
            device=torch.device("cpu"),
        )
        made = []
        for index in range(count):
            made.append(apart[index])
            progress(index + 1, count)
        return made

    # Pairs

    def _pair(self, source: PairSource, number: int, turn: int) -> Tensor:
        """The ``turn``-th pair of a source, ``[2, 3, H, W]``: every epoch has its own order."""
        epoch, place = divmod(turn, len(source.pairs))
        if self.orders.get(number, (None,))[0] != epoch:
            random = generator(self.seed, "order", number, epoch)
            self.orders[number] = (
                epoch,
                torch.randperm(len(source.pairs), generator=random).tolist(),
            )
        which = self.orders[number][1][place]
        return self.cache.get((number, which), lambda: self._read_pair(source, which))

    def _read_pair(self, source: PairSource, which: int) -> Tensor:
        files, crop = source.pairs[which], self.settings.crop
        pictures = files.read()
        if self.settings.fit == "resize":
            return torch.stack([fit_picture(picture, crop, crop) for picture in pictures])
        return torch.stack([scale_picture(picture, self.settings.scale) for picture in pictures])

    # Photographs

    def _region(self, source: PhotoSource, number: int, index: int) -> Tensor:
        """The blurred region that sample ``index`` is cut from, ``[2, 3, side, side]``.

        Samples are dealt to lanes in turn, and each lane of a source has one region
        at a time, for ``reuse`` samples. The lanes renew theirs one after the other.
        """
        reuse, lanes = self.settings.reuse, self.batch * BATCHES_OF_LANES
        visit, lane = divmod(index, lanes)
        place, later = lane % self.batch, lane // self.batch
        stagger = (place * BATCHES_OF_LANES + later) * reuse // lanes
        turn = self.mixture.turns_in_lane(number, lane, lanes, visit)
        wanted = (turn + stagger) // reuse
        kept = self.regions.get((number, lane))
        if kept is None or kept[0] != wanted:
            random = generator(self.seed, "region", number, lane, wanted)
            kept = self.regions[number, lane] = wanted, self._blur(source, number, random)
        return kept[1]

    def _blur(self, source: PhotoSource, number: int, random: torch.Generator) -> Tensor:
        which = integer(len(source.photos), random)
        photo = self.cache.get((number, which), lambda: self._read_photo(source, which))
        if self.settings.fit == "crop":
            photo = random_region(photo, max(REGION, self.settings.crop * 3 // 2), random)
        sharp = photo[None].to(self.device).float() / 255
        pair = torch.cat(degrade(sharp, self.blur, random))
        return (pair * 255).round().to(torch.uint8)

    def _read_photo(self, source: PhotoSource, which: int) -> Tensor:
        photo, crop = source.photos[which].read(), self.settings.crop
        if self.settings.fit == "resize":
            return fit_picture(photo, crop, crop)
        return shrink(photo, smallest=self.settings.smallest(source))


def batches(
    samples: Samples,
    *,
    batch: int,
    first: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Generator[Tensor, None, None]:
    """Batches without end from the ``first``-th on, uint8 ``[batch, 2, 3, crop, crop]``.

    ``batch * world`` samples are a batch of the run, of which process ``rank`` has
    the ``rank``-th part. Without ``workers`` they are made here, when they are
    asked for; else ahead, by processes that blur on the CPU. Close the iterator
    to end them.

    Raises ``DeblurError`` for a picture that cannot be read, or a worker that died.
    """
    if not workers:
        parts = Parts(samples, batch, rank, world)
        return (parts[number] for number in itertools.count(first))
    parts = Parts(samples.on(torch.device("cpu")), batch, rank, world)
    parts.samples.cache.limit //= workers
    return worked(parts, first, workers)


class Parts(Dataset[Tensor]):
    """One process's part of each batch, by the batch's number."""

    def __init__(self, samples: Samples, batch: int, rank: int, world: int) -> None:
        self.samples, self.batch, self.rank, self.world = samples, batch, rank, world

    def __getitem__(self, number: int) -> Tensor:
        start = (number * self.world + self.rank) * self.batch
        return torch.stack([self.samples[i] for i in range(start, start + self.batch)])


class Told(Dataset[Tensor | dict[str, Any]]):
    """The same; an error that the user can mend comes as a value, since a worker's
    exceptions arrive as another exception with its traceback as the text.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __getitem__(self, number: int) -> Tensor | dict[str, Any]:
        try:
            return self.parts[number]
        except DeblurError as error:
            return vars(error)


def worked(parts: Parts, first: int, workers: int) -> Generator[Tensor, None, None]:
    """Batches made by workers, in order."""
    loader = DataLoader(
        Told(parts),
        batch_size=None,
        sampler=itertools.count(first),
        num_workers=workers,
        prefetch_factor=PREFETCH,
        worker_init_fn=partial(begin_worker, os.getpid()),
        generator=torch.Generator(),  # else it draws a seed from the global one
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    # Ctrl-C, and SIGTERM from a job scheduler, reach the whole group, and only the parent
    # may decide what they mean: workers are born, and stay, deaf to them.
    others = set(multiprocessing.active_children())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        made = iter(loader)
    except OSError as error:
        raise no_worker(error, "fewer --workers, or raise the limit: ulimit -n 4096") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # At its exit the program would ask them by SIGTERM, and wait.
        atexit.register(kill, set(multiprocessing.active_children()) - others)
    try:
        while True:
            part = next(made)
            if isinstance(part, dict):
                raise DeblurError(**part)
            yield part
    except (RuntimeError, OSError, EOFError) as error:
        if str(error).startswith("Caught"):  # a fault of ours, the worker's traceback in it
            raise
        raise no_worker(error, "--workers 0, or with more memory") from error
    finally:
        del made, loader  # or the traceback of an error would keep the workers alive


def no_worker(error: Exception, otherwise: str) -> DeblurError:
    return DeblurError(
        "a worker",
        expected="batches",
        found=str(error) or "its end",
        remedy=f"start again with {otherwise}",
    )


def begin_worker(parent: int, _: int) -> None:
    """On one core of OpenCV's; PyTorch's threads are DataLoader's business, who leaves a
    worker one. From now on a worker misses a parent that is killed; one killed before it
    would be taken for whoever adopts the worker, and be waited for for ever.
    """
    cv2.setNumThreads(0)
    if os.getppid() != parent:
        os._exit(0)


def kill(processes: Iterable[BaseProcess]) -> None:
    # PyTorch's handler would take their end for an accident.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in processes:
        if process.is_alive():
            process.kill()


class PictureCache:
    """Keeps pictures until ``limit`` bytes are full, and the first ones for good: with
    a new order every epoch, what was used longest ago is as likely next as any other.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self.pictures: dict[tuple[int, int], Tensor] = {}

    def get(self, key: tuple[int, int], read: Callable[[], Tensor]) -> Tensor:
        if key in self.pictures:
            return self.pictures[key]
        picture = read()
        if self.used + picture.nbytes <= self.limit:
            self.used += picture.nbytes
            self.pictures[key] = picture
        return picture


def files_of(source: Source) -> Sequence[object]:
    return source.pairs if isinstance(source, PairSource) else source.photos


def generator(*key: object) -> torch.Generator:
    return torch.Generator().manual_seed(seeded(*key))


def seeded(*key: object) -> int:
    """A seed for ``torch`` that follows from a key of numbers and words."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big")
