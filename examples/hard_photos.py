"""Photographs that look blurred and are not: stripes, lattices, and what is out of focus.

A network that has seen few of them takes the stripes of a floor for streaks, and draws
edges into a background that was soft on purpose. Made of photographs that are there::

    python hard_photos.py photos hard --count 160
    deblur-train run photos hard -o runs/mine --time-limit 2h --set 'data.mixture=[4,1]'

Three of five get a pattern, seen at an angle and lit as the photograph is, with a part
of the photograph before it; the others are put out of focus behind a part that is not.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from made_photos import FINER, Picture, coded, numbers, read_light, run

from deblurgan.runtime.image_file import save_image
from deblurgan.train.picture_files import list_pictures

PATTERN_SHARE = 0.6
SOFT_RADIUS = 2.0, 14.0  # of the disc of confusion, in pixels


def write_hard(folder: Path, hard: Path, count: int, seed: int) -> None:
    """Raises ``DeblurError`` for what is no photograph, or too small a one."""
    photos = list_pictures(folder)
    for number in numbers(count):
        random = np.random.default_rng([seed, number])
        photo = read_light(photos[number % len(photos)])
        if number % 5 < round(5 * PATTERN_SHARE):
            name, light = "pattern", laid_with_pattern(photo, random)
        else:
            name, light = "soft", out_of_focus(photo, random)
        save_image(hard / f"{name}-{number:03}.png", coded(light))


def laid_with_pattern(photo: Picture, random: np.random.Generator) -> Picture:
    """A photograph, ``[H, W, 3]`` in linear light, with a pattern on its ground."""
    height, width = photo.shape[:2]
    share = pattern(height, width, random)[..., None]
    dark, bright = colours(photo, random)
    shade = cv2.GaussianBlur(photo.mean(2), (0, 0), width / 24)[..., None]
    lit = shade / max(float(shade.max()), 1e-6)  # a photograph may be black
    laid = (dark + (bright - dark) * share) * (0.3 + 0.7 * lit)
    grain = random.normal(0, 0.02, (height, width, 1)) * laid
    before = blobs(height, width, random, covered=random.uniform(0.1, 0.5))[..., None]
    return (photo * before + (laid + grain) * (1 - before)).astype(np.float32)


def pattern(height: int, width: int, random: np.random.Generator) -> Picture:
    """How bright each pixel is, from 0 to 1: stripes, a lattice, bricks, a chequerboard
    or dots, at an angle and a little bent, each pixel the mean of what it covers.
    """
    rows, columns = np.mgrid[0 : FINER * height, 0 : FINER * width].astype(np.float32) / FINER
    x, y = columns - width / 2, rows - height / 2
    angle = random.uniform(0, np.pi)
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    tilt = random.uniform(-0.7, 0.7, 2) / width  # of the plane, away from the camera
    depth = 1 + tilt[0] * x + tilt[1] * y
    x, y = x / depth, y / depth
    bent, waves = random.uniform(0, 12), random.uniform(60, 400, 2)
    x, y = x + bent * np.sin(y / waves[0]), y + bent * np.sin(x / waves[1])
    period = np.exp(random.uniform(np.log(5), np.log(48)))
    u, v = x / period, y / (period * random.choice([1, 1, 0.5, 2]))
    filled = random.uniform(0.2, 0.8)
    kind = random.choice(["stripes", "stripes", "waves", "lattice", "bricks", "chequers", "dots"])
    if kind == "stripes":
        bright = u % 1 < filled
    elif kind == "waves":
        bright = 0.5 + 0.5 * np.sin(2 * np.pi * u)
    elif kind == "lattice":
        bright = (u % 1 < filled) & (v % 1 < filled)
    elif kind == "bricks":
        joint = 0.06 + 0.2 * filled
        bright = ((u + 0.5 * (np.floor(v) % 2)) % 1 > joint / 2) & (v % 1 > joint)
    elif kind == "chequers":
        bright = (np.floor(u) + np.floor(v)) % 2 > 0
    else:
        bright = np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.15 + 0.3 * filled
    averaged = cv2.resize(bright.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(averaged, np.float32)


def colours(photo: Picture, random: np.random.Generator) -> tuple[Picture, Picture]:
    """Two of the photograph's own colours, or greys, that can be told apart."""
    while True:
        if random.random() < 0.5:
            two = np.repeat(random.uniform(0, 0.9, (2, 1)), 3, axis=1)
        else:
            two = photo.reshape(-1, 3)[random.integers(0, photo.size // 3, 2)]
            two = two * random.uniform(0.5, 1.5, (2, 1))
        dark, bright = sorted(two.astype(np.float32), key=lambda colour: float(colour.mean()))
        if bright.mean() - dark.mean() > 0.08:
            return dark, bright


def out_of_focus(photo: Picture, random: np.random.Generator) -> Picture:
    """A photograph, ``[H, W, 3]`` in linear light, of which only a part is in focus."""
    height, width = photo.shape[:2]
    radius = random.uniform(*SOFT_RADIUS)
    reach = np.arange(-np.ceil(radius), np.ceil(radius) + 1, dtype=np.float32)
    disc = np.clip(radius + 0.5 - np.hypot(reach[:, None], reach), 0, 1)
    soft = cv2.filter2D(photo, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    focused = blobs(height, width, random, covered=random.uniform(0.15, 0.6))[..., None]
    return np.asarray(photo * focused + soft * (1 - focused), np.float32)


def blobs(height: int, width: int, random: np.random.Generator, covered: float) -> Picture:
    """Shapes with soft edges, from 0 to 1, that cover about this share of a picture."""
    side = np.exp(random.uniform(np.log(width / 40), np.log(width / 6)))
    field = cv2.GaussianBlur(random.normal(size=(height, width)), (0, 0), side)
    threshold = np.quantile(field, 1 - covered)
    edge = field.std() * random.uniform(0.01, 0.1)
    return np.clip((field - threshold) / edge + 0.5, 0, 1).astype(np.float32)


if __name__ == "__main__":
    run(__doc__, write_hard, count=160)
