"""What scripts share that make pictures of photographs: a command line, and linear light."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.picture_files import read_picture
from deblurgan.train.synthesis import make_empty_folder

SMALLEST = 256  # pixels a side
TELL_EVERY = 10.0  # seconds
FINER = 2  # times as many pixels a side are drawn and then averaged

Picture = NDArray[np.float32]


def run(doc: str | None, write: Callable[[Path, Path, int, int], None], count: int) -> None:
    """``write`` gets the folders of the photographs and of what is made of them, how many, and
    the seed.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of sharp photographs")
    parser.add_argument("made", type=Path, help="where to write the pictures; a new folder")
    parser.add_argument("--count", type=int, default=count, help="pictures (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="others for another (%(default)s)")
    asked = parser.parse_args()
    try:
        make_empty_folder(asked.made)
        write(asked.photos, asked.made, asked.count, asked.seed)
    except DeblurError as error:
        raise SystemExit(str(error)) from None
    print(f"{asked.made}: {asked.count} pictures")


def numbers(count: int) -> Iterator[int]:
    """From 0, and now and then a line that says how many pictures are made."""
    told = time.monotonic()
    for number in range(count):
        yield number
        if time.monotonic() - told >= TELL_EVERY:
            print(f"{number + 1} of {count} pictures", file=sys.stderr, flush=True)
            told = time.monotonic()


def read_light(path: Path) -> Picture:
    """A photograph in linear light, ``[H, W, 3]``, BGR, from 0 to 1."""
    pixels = read_picture(path).permute(1, 2, 0).numpy()[..., ::-1]
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST:
        raise DeblurError(
            path,
            expected=f"a photograph of at least {SMALLEST} pixels a side",
            found=f"{width}x{height}",
            remedy="remove it",
        )
    return np.ascontiguousarray((pixels / np.float32(255)) ** 2.2, np.float32)


def coded(light: Picture) -> NDArray[np.uint8]:
    return (np.clip(light, 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)
