"""Synthetic motion blur: sharp pictures in, what a shaken camera records out.

Two models of it. *Trajectory kernels* (Boracchi and Foi 2012, as in DeblurGAN's
section 3.3) blur the whole picture with one kernel. *Camera shake* integrates
over the exposure while the camera moves and turns, so that the blur differs
from place to place, as it does in hand-held video.

Pictures are float ``[N, 3, H, W]`` in [0, 1], RGB; everything runs on the
device of the pictures. Lengths are in pixels.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deblurgan.train.jpeg import compress
from deblurgan.train.settings import DOCUMENTED

KERNEL_SIZE = 64
LONGEST_TRAJECTORY = KERNEL_SIZE - 4.0  # pixels that a path may be wide
SMALLEST_PICTURE = KERNEL_SIZE // 2 + 1  # a side; the border is reflected by half a kernel
TRAJECTORY_STEPS = 2000
TRAJECTORY_LENGTH = 60.0
# The shorter the exposure, the straighter the part of the path that it sees.
EXPOSURES = (0.01, 0.1, 0.5, 1.0)
EXPLOSIONS = (0.01, 0.009, 0.008, 0.007, 0.005, 0.003)
# OpenCV 4 rounds positions to 1/32 of a pixel.
OPENCV_WARPS_EXACTLY = int(cv2.__version__.split(".")[0]) >= 5
# How far a recipe's ranges may reach. Shake warps a picture once for each pixel of
# length, and a gamma near 0 has no inverse in single precision.
LIMITS = {"length": (0, 512), "gamma": (0.1, 10), "noise": (0, 255), "quality": (1, 100)}


@dataclass(frozen=True)
class BlurRecipe:
    """What a picture's blur is drawn from: shares are of all pictures, and of a
    range every value is as likely.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    shake_share: float = 0.7
    """Share of the blurred pictures, from 0 to 1, that camera shake blurs; the others
    have a trajectory kernel."""
    sharp_share: float = 0.06
    """Share of pictures, from 0 to 1, that are left sharp."""
    length: tuple[float, float] = (1.0, 36.0)
    """Range of how far a point travels during the exposure, in pixels, from 0 to 512;
    for trajectory kernels, the diameter of the circle around their mean, 60 at most."""
    gamma: tuple[float, float] = (1.0, 2.2)
    """Range of the transfer curve that light is summed behind, from 0.1 to 10: 2.2 for
    a camera, 1 for data sets that averaged coded frames."""
    highlight_share: float = 0.3
    """Share of the blurred pictures, from 0 to 1, whose nearly white parts shine up to
    three times as bright."""
    noise_share: float = 0.6
    """Share of pictures, from 0 to 1, that get noise."""
    noise: tuple[float, float] = (0.0, 3.0)
    """Range of the noise's deviation at mid grey, in levels from 0 to 255."""
    compressed_share: float = 0.5
    """Share of pictures, from 0 to 1, that are compressed as JPEG."""
    quality: tuple[float, float] = (60.0, 97.0)
    """Range of JPEG's quality, from 1 to 100."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share"):
                if not 0 <= value <= 1:
                    raise ValueError(f"{field.name} must lie from 0 to 1; it is {value}")
                continue
            lowest, highest = LIMITS[field.name]
            low, high = value
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"{field.name} must rise from at least {lowest:g} to at most {highest:g}; "
                    f"it is from {low} to {high}"
                )


def degrade(sharp: Tensor, recipe: BlurRecipe, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A blurred picture and the sharp one it should become, both like ``sharp``.

    Blur as the recipe says, then noise and compression. ``sharp`` is
    ``[1, 3, H, W]``: each picture has a blur of its own. ``random`` is a CPU
    generator: the same seed gives the same blur on every device. The sharp
    picture comes back too because an overexposed blur has an overexposed
    sharp partner.
    """

    def chance(share: float) -> bool:
        return bool(torch.rand((), generator=random) < share)

    def within(bounds: tuple[float, float]) -> float:
        low, high = bounds
        return low + (high - low) * float(torch.rand((), generator=random))

    blurred = sharp
    if not chance(recipe.sharp_share):
        gamma, length = within(recipe.gamma), within(recipe.length)
        light = to_light(sharp, gamma)
        if chance(recipe.highlight_share):
            light = overexpose(light, within((1.0, 3.0)))
            sharp = from_light(light, gamma)
        if chance(recipe.shake_share):
            light = shake(light, length, random)
        else:
            exposure = EXPOSURES[int(torch.randint(len(EXPOSURES), (), generator=random))]
            kernel = trajectory_kernel(random, min(length, LONGEST_TRAJECTORY), exposure)
            light = convolve(light, kernel.to(light.device))
        blurred = from_light(light, gamma)
    if chance(recipe.noise_share):
        blurred = add_noise(blurred, within(recipe.noise) / 255, random)
    if chance(recipe.compressed_share):
        blurred = compress(blurred, within(recipe.quality))
    return blurred.clamp(0, 1), sharp


def to_light(picture: Tensor, gamma: float) -> Tensor:
    """Linear light of a picture in [0, 1]."""
    return picture.clamp(0, 1) ** gamma


def from_light(light: Tensor, gamma: float) -> Tensor:
    """The inverse of :func:`to_light`, cut off at white as a sensor does."""
    return light.clamp(1e-6, 1) ** (1 / gamma)


def overexpose(light: Tensor, headroom: float) -> Tensor:
    """Let what is nearly white shine up to ``headroom`` times as bright as white:
    lamps and skies keep their streaks only because they are cut off after the
    exposure, not before.
    """
    brightness = light.amax(1, keepdim=True)
    return light * (1 + (headroom - 1) * ((brightness - 0.8) / 0.2).clamp(0, 1))


# Camera shake


def shake(light: Tensor, length: float, random: torch.Generator) -> Tensor:
    """The mean of ``light`` over a camera path of ``length`` pixels at the corners."""
    height, width = light.shape[-2:]
    samples = max(2, math.ceil(length) + 1)
    path = shake_path(samples, random)
    homographies = path_homographies(path, length, height, width)
    if light.device.type == "cpu" and OPENCV_WARPS_EXACTLY:
        return torch.stack([mean_of_warps(picture, homographies) for picture in light])
    return mean_of_samples(light, homographies.to(light.device))


def mean_of_samples(light: Tensor, homographies: Tensor) -> Tensor:
    """The mean of ``[N, 3, H, W]`` seen through each homography, the border reflected."""
    height, width = light.shape[-2:]
    exposure = torch.zeros_like(light)
    for homography in homographies:
        grid = homography_grid(homography, height, width)
        exposure += F.grid_sample(
            light,
            grid.expand(len(light), -1, -1, -1),
            padding_mode="reflection",
            align_corners=False,
        )
    return exposure / len(homographies)


def mean_of_warps(light: Tensor, homographies: Tensor) -> Tensor:
    """The same of one picture ``[3, H, W]`` on the CPU, several times as fast."""
    height, width = light.shape[-2:]
    # OpenCV has its quickest code for four channels.
    pixels = np.zeros((height, width, 4), np.float32)
    pixels[..., :3] = light.permute(1, 2, 0).numpy()
    middle = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    exposure, warped = np.zeros_like(pixels), np.empty_like(pixels)
    for matrix in middle @ homographies.double().numpy() @ np.linalg.inv(middle):
        cv2.warpPerspective(
            pixels,
            matrix,
            (width, height),
            dst=warped,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        exposure += warped
    exposure /= len(homographies)
    return torch.from_numpy(exposure[..., :3]).permute(2, 0, 1).contiguous()


def shake_path(samples: int, random: torch.Generator) -> Tensor:
    """A smooth random path ``[samples, 6]``: shift x, y, turn, zoom, tilt x, y.

    A steady drift plus a tremor of three harmonics, centred on its middle so
    that the blurred picture stays where the sharp one is.
    """
    time = torch.linspace(0, 1, samples)[:, None]
    weights = torch.tensor([1.0, 1.0, 0.35, 0.15, 0.1, 0.1])
    # Most hands mainly shift; now and then the turn wins.
    weights[2:] *= 2 * torch.rand((), generator=random)
    tremor = 0.6 * float(torch.rand((), generator=random))
    path = time * torch.randn(6, generator=random)
    for harmonic in (1, 2, 3):
        amplitude = tremor / harmonic * torch.randn(6, generator=random)
        phase = 2 * math.pi * torch.rand(6, generator=random)
        path = path + amplitude * torch.sin(2 * math.pi * harmonic * time + phase)
    return (path - path.mean(0)) * weights


def path_homographies(path: Tensor, length: float, height: int, width: int) -> Tensor:
    """Homographies ``[samples, 3, 3]`` over pixels centred on the picture.

    The path is scaled so that the four corners and the centre travel
    ``length`` pixels on average.
    """
    radius = math.hypot(height, width) / 2
    places = torch.tensor([[x, y] for x in (-1, 1) for y in (-1, 1)] + [[0, 0]])
    places = torch.cat([places * torch.tensor([width / 2, height / 2]), torch.ones(5, 1)], 1)

    def homographies(scale: float) -> Tensor:
        shift_x, shift_y, turn, zoom, tilt_x, tilt_y = (path * scale).unbind(1)
        turn, zoom = turn / radius, 1 + zoom / radius
        tilt_x, tilt_y = tilt_x / radius**2, tilt_y / radius**2
        cos, sin, one = torch.cos(turn) * zoom, torch.sin(turn) * zoom, torch.ones_like(turn)
        rows = (cos, -sin, shift_x, sin, cos, shift_y, tilt_x, tilt_y, one)
        return torch.stack(rows, 1).reshape(-1, 3, 3)

    def travelled(scale: float) -> float:
        points = homographies(scale) @ places.T
        points = points[:, :2] / points[:, 2:]
        return float(points.diff(dim=0).norm(dim=1).sum(0).mean())

    # One correction suffices: at these lengths the path is linear in its scale.
    return homographies(length / max(travelled(1.0), 1e-6))


def homography_grid(homography: Tensor, height: int, width: int) -> Tensor:
    """Sampling grid ``[1, H, W, 2]`` for ``grid_sample``."""
    device = homography.device
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = torch.arange(height, device=device) - (height - 1) / 2
    a = homography
    depth = a[2, 0] * x + (a[2, 1] * y + 1)[:, None]
    grid_x = (a[0, 0] * x + (a[0, 1] * y + a[0, 2])[:, None]) / depth
    grid_y = (a[1, 0] * x + (a[1, 1] * y + a[1, 2])[:, None]) / depth
    return torch.stack([grid_x * (2 / width), grid_y * (2 / height)], -1)[None]


# Trajectory kernels


def trajectory(random: torch.Generator) -> Tensor:
    """A random particle path ``[TRAJECTORY_STEPS]``, complex, in pixels.

    Boracchi and Foi's model with the constants of DeblurGAN's release: a
    particle of constant speed, shaken by noise, thrown back by rare impulses
    and pulled to its start.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64)

    centripetal, big_shake, tremor, direction = uniform(4).tolist()
    explosion = EXPLOSIONS[int(torch.randint(len(EXPLOSIONS), (), generator=random))]
    centripetal, tremor, big_shake = 0.7 * centripetal, 10 * tremor, 0.2 * big_shake * explosion
    step = TRAJECTORY_LENGTH / (TRAJECTORY_STEPS - 1)
    velocity = cmath.rect(step, 2 * math.pi * direction)
    position = 0j
    path = [position]
    wind = torch.randn(TRAJECTORY_STEPS - 1, 2, generator=random, dtype=torch.float64)
    # Two thousand dependent steps: Python's own complex numbers beat tensors of one.
    for impulse, turn, (wind_x, wind_y) in zip(
        *uniform(2, TRAJECTORY_STEPS - 1).tolist(), wind.tolist(), strict=True
    ):
        change = explosion * (tremor * complex(wind_x, wind_y) - centripetal * position) * step
        if impulse < big_shake:
            change += cmath.rect(2, math.pi + turn - 0.5) * velocity
        velocity += change
        velocity *= step / max(abs(velocity), 1e-12)
        position += velocity
        path.append(position)
    return torch.tensor(path, dtype=torch.complex128)


def trajectory_kernel(
    random: torch.Generator, diameter: float | None = None, exposure: float = 1.0
) -> Tensor:
    """A blur kernel ``[KERNEL_SIZE, KERNEL_SIZE]`` that sums to 1.

    ``exposure`` is the part of the path that leaves light. ``diameter``, in
    pixels, is that of the circle around its mean that the path is scaled to;
    ``None`` keeps the paper's own size.
    """
    path = trajectory(random)[: max(1, round(TRAJECTORY_STEPS * exposure))]
    path = path - path.mean()
    if diameter is not None:
        path = path * (diameter / (2 * float(path.abs().max()) + 1e-12))
    return splat(path)


def splat(path: Tensor) -> Tensor:
    """Each point's light falls on the four pixels around it, bilinearly."""
    centre, edge = (KERNEL_SIZE - 1) // 2, KERNEL_SIZE - 1.001
    x, y = (path.real + centre).clamp(0, edge), (path.imag + centre).clamp(0, edge)
    left, top = x.floor(), y.floor()
    kernel = torch.zeros(KERNEL_SIZE * KERNEL_SIZE, dtype=x.dtype)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
        kernel.scatter_add_(0, (row * KERNEL_SIZE + column).long(), weight)
    return (kernel / kernel.sum()).reshape(KERNEL_SIZE, KERNEL_SIZE).float()


def convolve(light: Tensor, kernel: Tensor) -> Tensor:
    """Blur ``[N, 3, H, W]`` with one kernel, the border reflected. By FFT: 64 x 64
    taps a pixel would cost a hundred times more.
    """
    before = (kernel.shape[-1] - 1) // 2
    after = kernel.shape[-1] - 1 - before
    padded = F.pad(light, (before, after, before, after), mode="reflect")
    # At a length with a large prime factor the transform takes several times as long.
    size = [smooth_length(length) for length in padded.shape[-2:]]
    # Correlation, as every deep-learning "convolution" is: the conjugate flips it.
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernel, s=size).conj()
    return torch.fft.irfft2(spectrum, s=size)[..., : light.shape[-2], : light.shape[-1]]


def smooth_length(length: int) -> int:
    """The next even number whose prime factors are 2, 3, 5 and 7."""
    while length % 2 or 2**12 * 210**12 % length:  # divisible by all of them below 3**13
        length += 1
    return length


# What else a camera does to a picture


def add_noise(picture: Tensor, sigma: float, random: torch.Generator) -> Tensor:
    """Gaussian noise, stronger in the light as shot noise is; ``sigma`` at mid grey."""
    noise = torch.randn(picture.shape, generator=random).to(picture.device)
    return picture + sigma * (0.5 + picture.clamp(0, 1)) * noise
