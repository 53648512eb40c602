"""Pairs of pictures, blurred and sharp, of leaves that move: each layer its own way.

A camera that shakes blurs all alike. In a street what is near passes faster than what is
far, and what moves itself hides and uncovers what is behind it. Photographs can't show this
and few clips do; here pieces of photographs (``leaf_photos.py``) lie in layers, of which the
blurred picture is the mean over the time that a shutter is open, in linear light, and the
sharp one the middle of that time::

    python moving_leaves.py photos moving --count 360
    deblur-train run photos moving -o runs/mine --time-limit 2h --set 'data.mixture=[4,1]'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from leaf_photos import RADIUS, lay_leaf, piece, radii
from made_photos import FINER, Picture, coded, numbers, read_light, run
from numpy.typing import NDArray

from deblurgan.runtime.image_file import save_image
from deblurgan.train.picture_files import list_pictures

SIDE = 576  # of a picture, in pixels
MARGIN = 64  # pixels drawn around it, which move into it
WHOLE = SIDE + 2 * MARGIN
PHOTOS = 4  # that a pair is made of, at most
LAYERS = 4  # in front of the farthest, at most
LEAVES = 8  # of a layer, at most; on the farthest up to
LEAVES_BEHIND = 40
SMALLEST_RADII = 8.0, 20.0, 50.0  # of a layer's leaves; in pixels
STILL_SHARE = 0.15  # of the pairs, whose camera does not move
CAMERA_WAY, OWN_WAY = (2.0, 28.0), (2.0, 24.0)  # in pixels
FARTHEST_WAY = 30.0  # from the middle, in pixels
NEARNESS = 0.5, 1.4  # what the camera's way is multiplied by
OWN_SHARE = 0.5  # of the layers in front
BEND, SHAKE = 0.35, 0.06  # deviations; parts of a way
ROLL, ZOOM = 0.006, 0.006  # deviations; radians, and parts of the size
MOMENTS = 7, 49

Place = NDArray[np.float64]  # x and y, from where it is in the sharp picture
Motion = Callable[[float], Place]  # at a time from -0.5 to 0.5


def write_pairs(folder: Path, pairs: Path, count: int, seed: int) -> None:
    """Raises ``DeblurError`` for what is no photograph, or too small a one."""
    paths = list_pictures(folder)
    for number in numbers(count):
        random = np.random.default_rng([seed, number])
        chosen = random.permutation(len(paths))[:PHOTOS]
        blurred, sharp = moving_pair([read_light(paths[place]) for place in chosen], random)
        for side, light in (("blur", blurred), ("sharp", sharp)):
            (pairs / side).mkdir(
                exist_ok=True
            )  # no sooner: a photograph that is none leaves nothing
            save_image(pairs / side / f"{number:06}.png", coded(light))


def moving_pair(photos: Sequence[Picture], random: np.random.Generator) -> tuple[Picture, Picture]:
    """What a shutter records and what was there at its middle, ``[SIDE, SIDE, 3]`` each, in
    linear light, of photographs of any sizes.
    """
    layers = [farthest(photos, random)]
    layers += [layer(photos, random) for _ in range(random.integers(0, LAYERS + 1))]
    motions = motions_of_layers(len(layers), random)
    rolls = random.normal(0, ROLL, len(layers)) * (random.random(len(layers)) < OWN_SHARE)
    rolls += random.normal(0, ROLL)
    zoom = random.normal(0, ZOOM)

    def moment(time: float) -> Picture:
        seen = np.zeros((SIDE, SIDE, 3), np.float32)
        for drawn, motion_of, roll in zip(layers, motions, rolls, strict=True):
            moved = moved_by(drawn, motion_of(time), roll * time, 1 + zoom * time)
            seen = seen * (1 - moved[..., 3:]) + moved[..., :3]
        return seen

    ends = np.concatenate([motion_of(-0.5) - motion_of(0.5) for motion_of in motions])
    moments = int(np.clip(np.abs(ends).max() + ROLL * WHOLE, *MOMENTS)) | 1
    blurred = sum(moment(time) for time in np.linspace(-0.5, 0.5, moments)) / moments
    light = np.float32(np.exp(random.uniform(-0.5, 0.4)))
    return np.asarray(blurred * light, np.float32), moment(0) * light


def farthest(photos: Sequence[Picture], random: np.random.Generator) -> Picture:
    """A photograph, mostly with leaves on it: ``[WHOLE, WHOLE, 4]``, covered all over."""
    drawn = np.ones((FINER * WHOLE, FINER * WHOLE, 4), np.float32)
    drawn[..., :3] = piece(photos, FINER * WHOLE, random)
    return with_leaves(drawn, photos, RADIUS[0], int(random.integers(LEAVES_BEHIND)), random)


def layer(photos: Sequence[Picture], random: np.random.Generator) -> Picture:
    """Leaves on nothing: ``[WHOLE, WHOLE, 4]``, light where it is covered, and the cover."""
    drawn = np.zeros((FINER * WHOLE, FINER * WHOLE, 4), np.float32)
    smallest, count = random.choice(SMALLEST_RADII), int(random.integers(1, LEAVES + 1))
    return with_leaves(drawn, photos, smallest, count, random)


def with_leaves(
    drawn: Picture,
    photos: Sequence[Picture],
    smallest: float,
    count: int,
    random: np.random.Generator,
) -> Picture:
    for radius in radii(smallest, count, random):
        lay_leaf(drawn, photos, FINER * radius, random)
    return cv2.resize(drawn, (WHOLE, WHOLE), interpolation=cv2.INTER_AREA)


def motions_of_layers(count: int, random: np.random.Generator) -> list[Motion]:
    """The camera's for each layer, the nearer the further, and for half of those in front
    one of their own.
    """
    shakes = random.random() >= STILL_SHARE
    camera = motion(CAMERA_WAY if shakes else None, random)
    nearness = np.sort([spread(NEARNESS, random) for _ in range(count)])

    def seen(near: float, own: Motion) -> Motion:
        return lambda time: np.clip(near * camera(time) + own(time), -FARTHEST_WAY, FARTHEST_WAY)

    moves = [place > 0 and random.random() < OWN_SHARE for place in range(count)]
    return [
        seen(near, motion(OWN_WAY if alone else None, random))
        for near, alone in zip(nearness, moves, strict=True)
    ]


def motion(lengths: tuple[float, float] | None, random: np.random.Generator) -> Motion:
    """Nearly straight, as a shutter is open for short; none for no lengths."""
    angle = random.uniform(0, 2 * np.pi)
    straight = np.array([np.cos(angle), np.sin(angle)])
    bend, shake = random.normal(0, BEND, 2), random.normal(0, SHAKE, (3, 2))
    phase, often = random.uniform(0, 2 * np.pi, 3), 2 * np.pi * np.arange(1, 4)
    length = spread(lengths, random) if lengths else 0.0

    def place(time: float) -> Place:
        swung = (np.sin(often * time + phase) - np.sin(phase)) @ shake
        return np.asarray(length * (straight * time + bend * time**2 + swung))

    return place


def spread(limits: tuple[float, float], random: np.random.Generator) -> float:
    """Between the limits, each ratio alike."""
    low, high = limits
    return float(low * (high / low) ** random.random())


def moved_by(drawn: Picture, by: Place, angle: float, scale: float) -> Picture:
    """``[SIDE, SIDE, 4]`` of ``[WHOLE, WHOLE, 4]``."""
    inside = slice(MARGIN, -MARGIN)
    if not (by.any() or angle or scale != 1):
        return drawn[inside, inside]
    middle = (WHOLE - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), np.degrees(angle), scale)
    matrix[:, 2] += by
    return cv2.warpAffine(drawn, matrix, (WHOLE, WHOLE))[inside, inside]


if __name__ == "__main__":
    run(__doc__, write_pairs, count=360)
