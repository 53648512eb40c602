"""Pictures of leaves that lie upon each other, cut out of photographs: more to look at.

A network that has seen the same few photographs for long knows them, and gets no better on
others. Of three pictures here two are a photograph with leaves of all sizes on it, as things
in photographs have them (the dead leaves model; Lee, Mumford and Huang 2001), and one is a
photograph alone; what is seen of a photograph is turned, made smaller and dyed::

    python leaf_photos.py photos leaves --count 800
    deblur-train run photos leaves -o runs/mine --time-limit 2h --set 'data.mixture=[2,1]'
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from made_photos import FINER, Picture, coded, numbers, read_light, run

from deblurgan.runtime.image_file import save_image
from deblurgan.train.picture_files import list_pictures

SIDE = 512  # of a picture, in pixels
PHOTOS = 6  # that a picture is made of, at most
LEAVES_SHARE = 0.65  # of the pictures; the others are a photograph alone
LEAVES = 140
RADIUS = 6.0, 240.0  # in pixels
FARTHEST = 1.6  # radii from a leaf's middle to its outline
SOFT_SHARE, SOFT_SIGMA = 0.12, (1.0, 6.0)  # leaves out of focus; in pixels
SMALLEST_LETTERED = 40  # a leaf's radius, in drawn pixels
FONTS = (0, 1, 2, 3, 4, 6)  # OpenCV's


def write_leaves(folder: Path, leaves: Path, count: int, seed: int) -> None:
    """Raises ``DeblurError`` for what is no photograph, or too small a one."""
    paths = list_pictures(folder)
    for number in numbers(count):
        random = np.random.default_rng([seed, number])
        chosen = random.permutation(len(paths))[:PHOTOS]
        photos = [read_light(paths[place]) for place in chosen]
        save_image(leaves / f"leaves-{number:04}.png", coded(with_leaves(photos, random)))


def with_leaves(photos: Sequence[Picture], random: np.random.Generator) -> Picture:
    """A picture, ``[SIDE, SIDE, 3]`` in linear light, of photographs of any sizes."""
    drawn = piece(photos, FINER * SIDE, random)
    if random.random() < LEAVES_SHARE:
        for radius in radii(RADIUS[0], LEAVES, random):
            lay_leaf(drawn, photos, FINER * radius, random)
    averaged = cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(averaged * np.float32(np.exp(random.uniform(-0.5, 0.4))), np.float32)


def radii(smallest: float, count: int, random: np.random.Generator) -> Picture:
    """Each size with a density of one over its square: half as many of twice the size."""
    inverse = 1 / smallest - random.random(count) * (1 / smallest - 1 / RADIUS[1])
    return np.asarray(1 / inverse)


def lay_leaf(
    drawn: Picture, photos: Sequence[Picture], radius: float, random: np.random.Generator
) -> None:
    """Puts a leaf on ``drawn``, ``[H, H, 3]``, at a random place; a fourth channel is cover."""
    side = drawn.shape[0]
    reach = int(np.ceil(radius * FARTHEST)) + 2
    row, column = random.integers(-reach // 2, side + reach // 2, 2)
    top, left = max(0, row - reach), max(0, column - reach)
    below = drawn[top : min(side, row + reach), left : min(side, column + reach)]
    height, width = below.shape[:2]
    if min(height, width) < 2:
        return
    points = outline(radius, random) + np.array([column - left, row - top])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    leaf = surface(photos, max(height, width), random, letters=radius > SMALLEST_LETTERED)
    leaf = leaf[:height, :width]
    slope = random.normal(0, 0.25, 2)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    leaf = leaf * np.clip(1 + slope[0] * y + slope[1] * x, 0.2, 2)[..., None]
    if drawn.shape[2] == 4:
        leaf = np.dstack([leaf, np.ones((height, width), np.float32)])
    cover = mask.astype(np.float32)[..., None] / 255
    if random.random() < SOFT_SHARE:
        sigma = FINER * random.uniform(*SOFT_SIGMA)
        cover = cv2.GaussianBlur(cover, (0, 0), sigma)[..., None]
        leaf = cv2.GaussianBlur(np.ascontiguousarray(leaf, np.float32), (0, 0), sigma)
    below += cover * (leaf - below)


def outline(radius: float, random: np.random.Generator) -> Picture:
    """Corners ``[N, 2]`` around the origin: a smooth shape, a polygon, a rectangle, a bar."""
    kind = random.random()
    turn = random.uniform(0, 2 * np.pi)
    if kind < 0.4:
        angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        waves = (
            random.normal(0, 0.35 / k) * np.cos(k * angle + random.uniform(0, 2 * np.pi))
            for k in range(2, 7)
        )
        points = around(angle) * np.clip(1 + sum(waves), 0.2, 1.5)[:, None]
    elif kind < 0.65:
        corners = random.integers(3, 8)
        angle = np.sort(random.uniform(0, 2 * np.pi, corners))
        points = around(angle) * random.uniform(0.5, 1.3, (corners, 1))
    elif kind < 0.85:
        half = random.uniform(0.3, 1)
        points = np.array([[-1, -half], [1, -half], [1, half], [-1, half]])
    else:
        half = random.uniform(0.02, 0.12)
        points = np.array([[-1.5, -half], [1.5, -half], [1.5, half], [-1.5, half]])
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.asarray(points @ np.array([[cosine, -sine], [sine, cosine]]) * radius)


def around(angle: Picture) -> Picture:
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def surface(
    photos: Sequence[Picture], size: int, random: np.random.Generator, letters: bool
) -> Picture:
    """What is on a leaf, ``[size, size, 3]``: a piece of a photograph, or a colour, which
    may have stripes or squares, grain and letters.
    """
    what = random.random()
    if what < 0.65:
        return piece(photos, size, random)
    dyed = np.broadcast_to(colour(photos, random), (size, size, 3)).astype(np.float32)
    if what > 0.85:
        dyed = striped(dyed, photos, random)
    if random.random() < 0.4:
        grain = random.normal(1, random.uniform(0, 0.15), (size, size, 1))
        dyed = dyed * grain.astype(np.float32)
    if random.random() < 0.25 and letters:
        dyed = lettered(dyed, photos, random)
    return dyed


def piece(photos: Sequence[Picture], size: int, random: np.random.Generator) -> Picture:
    """A square of one of the photographs, ``[size, size, 3]``, turned and dyed; once it is
    averaged it is smaller than the photograph is, where that suffices.
    """
    photo = photos[random.integers(len(photos))]
    height, width = photo.shape[:2]
    scale = FINER * np.exp(random.uniform(np.log(0.35), np.log(0.9)))
    scale = max(scale, size / (0.95 * min(height, width)))
    anyhow = random.random() < 0.6
    angle = random.uniform(0, 2 * np.pi) if anyhow else random.integers(4) * np.pi / 2
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    reach = size / 2 * (abs(cosine) + abs(sine))
    y, x = (
        random.uniform(min(reach, side / 2), max(side - reach, side / 2))
        for side in (height, width)
    )
    middle = size / 2
    to_photo = np.array(
        [
            [cosine, -sine, x - (cosine - sine) * middle],
            [sine, cosine, y - (sine + cosine) * middle],
        ]
    )
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(photo, to_photo, (size, size), flags=how, borderMode=cv2.BORDER_REFLECT)
    if random.random() < 0.3:
        cut = cut[..., random.permutation(3)]
    grey = cut.mean(2, keepdims=True)
    cut = grey + random.uniform(0.5, 1.4) * (cut - grey)
    contrast = np.exp(random.uniform(-0.3, 0.3))
    light = np.exp(random.uniform(-0.6, 0.4) + random.uniform(-0.25, 0.25, 3))
    return np.asarray(np.clip(cut, 0, 1.2) ** contrast * light, np.float32)


def colour(photos: Sequence[Picture], random: np.random.Generator) -> Picture:
    """Nearly a grey, or what one of the photographs has, brighter or darker."""
    if random.random() < 0.3:
        grey = random.uniform(0, 1)
        return np.clip(grey + random.normal(0, 0.12, 3), 0, 1)
    photo = photos[random.integers(len(photos))]
    return photo.reshape(-1, 3)[random.integers(photo.size // 3)] * random.uniform(0.6, 1.6)


def striped(dyed: Picture, photos: Sequence[Picture], random: np.random.Generator) -> Picture:
    """With stripes or squares of another colour."""
    y, x = np.mgrid[0 : len(dyed), 0 : len(dyed)].astype(np.float32)
    angle = random.uniform(0, np.pi)
    across, along = (
        x * np.cos(angle) + y * np.sin(angle),
        y * np.cos(angle) - x * np.sin(angle),
    )
    period = FINER * np.exp(random.uniform(np.log(5), np.log(40)))
    filled = random.uniform(0.2, 0.8)
    on = across / period % 1 < filled
    if random.random() < 0.4:
        on &= along / period % 1 < filled
    other = colour(photos, random).astype(np.float32)
    return np.where(on[..., None], dyed, other)


def lettered(dyed: Picture, photos: Sequence[Picture], random: np.random.Generator) -> Picture:
    """With lines of letters of another colour."""
    ink = colour(photos, random)
    drawn = np.zeros(dyed.shape[:2], np.uint8)
    height = FINER * random.uniform(8, 40)
    baseline = random.uniform(0, height)
    while baseline < len(drawn):
        text = "".join(map(chr, random.integers(33, 123, 40)))
        place = int(random.integers(-20, 20)), int(baseline)
        font = int(random.choice(FONTS))
        thickness = max(1, int(height / random.uniform(5, 12)))
        cv2.putText(drawn, text, place, font, height / 22, 255, thickness, cv2.LINE_AA)
        baseline += height * random.uniform(1.3, 2)
    on = drawn[..., None].astype(np.float32) / 255
    return np.asarray(dyed + on * (ink - dyed), np.float32)


if __name__ == "__main__":
    run(__doc__, write_leaves, count=800)
