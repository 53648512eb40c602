"""Synthetic blur: light is kept, lengths are what was asked, the seed decides all."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deblurgan.train.blur import (
    KERNEL_SIZE,
    OPENCV_WARPS_EXACTLY,
    TRAJECTORY_LENGTH,
    TRAJECTORY_STEPS,
    BlurRecipe,
    add_noise,
    convolve,
    degrade,
    from_light,
    homography_grid,
    mean_of_samples,
    mean_of_warps,
    overexpose,
    path_homographies,
    shake,
    shake_path,
    smooth_length,
    to_light,
    trajectory,
    trajectory_kernel,
)

CENTRE = (KERNEL_SIZE - 1) // 2
UNTOUCHED = BlurRecipe(sharp_share=1, noise_share=0, compressed_share=0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(picture: Tensor) -> Tensor:
    """uint8 ``[3, H, W]`` as float ``[1, 3, H, W]`` in [0, 1]."""
    return picture[None].float() / 255


def dot(height: int = 96, width: int = 128) -> Tensor:
    light = torch.zeros(1, 3, height, width)
    light[..., height // 2, width // 2] = 1
    return light


def span(light: Tensor) -> float:
    """The largest distance between lit pixels."""
    lit = torch.nonzero(light > 1e-6).double()
    return float(torch.cdist(lit, lit).max())


# Trajectory kernels


@pytest.mark.parametrize("diameter", [None, 1.0, 8.0, 32.0, 60.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_kernel_is_light_around_its_centre(seed: int, diameter: float | None) -> None:
    kernel = trajectory_kernel(seeded(seed), diameter=diameter).double()
    assert kernel.shape == (KERNEL_SIZE, KERNEL_SIZE)
    assert kernel.min() >= 0
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    index = torch.arange(KERNEL_SIZE).double()
    assert float((kernel.sum(0) * index).sum()) == pytest.approx(CENTRE, abs=0.01)
    assert float((kernel.sum(1) * index).sum()) == pytest.approx(CENTRE, abs=0.01)


@pytest.mark.parametrize("diameter", [1.0, 8.0, 20.0, 36.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_kernel_has_the_diameter_asked_for(seed: int, diameter: float) -> None:
    kernel = trajectory_kernel(seeded(seed), diameter=diameter)
    lit = torch.nonzero(kernel > 0)
    furthest = float((lit - CENTRE).double().norm(dim=1).max())
    assert diameter / 2 - 1 <= furthest <= diameter / 2 + 1.5
    assert (lit.amax(0) - lit.amin(0)).max() <= diameter + 1.5


def test_a_shorter_exposure_leaves_the_beginning_of_the_path() -> None:
    whole, begun = (trajectory_kernel(seeded(3), exposure=e) for e in (1.0, 0.1))
    assert (begun > 0).sum() < (whole > 0).sum()
    assert span(begun) <= 0.1 * TRAJECTORY_LENGTH + 3
    moment = trajectory_kernel(seeded(3), exposure=0.0)
    assert float(moment[CENTRE, CENTRE]) == pytest.approx(1)


def test_the_particle_keeps_its_speed() -> None:
    path = trajectory(seeded(5))
    assert path.shape == (TRAJECTORY_STEPS,)
    steps = path.diff().abs()
    assert torch.allclose(steps, steps[0].expand_as(steps), rtol=1e-6)
    assert float(steps.sum()) == pytest.approx(TRAJECTORY_LENGTH)


def test_the_seed_decides_every_bit(picture: Tensor) -> None:
    def make(seed: int) -> list[bytes]:
        random, sharp = seeded(seed), unit(picture)
        made = [trajectory_kernel(random), shake_path(9, random), shake(sharp, 9, random)]
        made += [*degrade(sharp, BlurRecipe(sharp_share=0, noise_share=1), random)]
        return [tensor.numpy().tobytes() for tensor in made]

    first, again, other = make(1), make(1), make(2)
    assert first == again
    assert all(a != b for a, b in zip(first[:4], other[:4], strict=True))


def test_eval_v1_kernels_do_not_change_by_accident() -> None:
    """If this fails, figures under eval-v1 cannot be compared with earlier ones."""
    kernel = trajectory_kernel(seeded(7), diameter=16.0)
    row = [0, 0.00063222, 0.01310995, 0.01229962, 0.01620742, 0.00924588, 0.00028241, 0.00107546]
    assert kernel[31, 25:33].tolist() == pytest.approx(row, abs=1e-5)
    assert divmod(int(kernel.argmax()), KERNEL_SIZE) == (32, 28)
    assert float(kernel.max()) == pytest.approx(0.0312912, abs=1e-5)
    assert int((kernel > 0).sum()) == 132


# Convolution


def test_a_dot_becomes_the_kernel_turned_by_half_a_turn() -> None:
    kernel = trajectory_kernel(seeded(4), diameter=20.0)
    assert not torch.allclose(kernel, kernel.flip(0, 1), atol=1e-4)
    blurred = convolve(dot(), kernel)[0, 0]
    top, left = 96 // 2 + CENTRE - (KERNEL_SIZE - 1), 128 // 2 + CENTRE - (KERNEL_SIZE - 1)
    streak = blurred[top : top + KERNEL_SIZE, left : left + KERNEL_SIZE]
    assert torch.allclose(streak, kernel.flip(0, 1), atol=1e-6)
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-4)


def test_convolution_is_the_sum_over_the_taps(picture: Tensor) -> None:
    light, kernel = unit(picture), trajectory_kernel(seeded(4), diameter=12.0)
    expected = cv2.filter2D(
        light[0].permute(1, 2, 0).numpy(),
        -1,
        kernel.numpy(),
        anchor=(CENTRE, CENTRE),
        borderType=cv2.BORDER_REFLECT_101,
    )
    assert np.abs(convolve(light, kernel)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-5


@settings(max_examples=15)
@given(height=st.integers(40, 90), width=st.integers(40, 90))
def test_pictures_of_any_size_are_convolved(height: int, width: int) -> None:
    """The transform is longer than the picture; none of that may be seen."""
    light = torch.rand(1, 3, height, width, generator=seeded(height))
    kernel = trajectory_kernel(seeded(width), diameter=9.0)
    expected = cv2.filter2D(
        light[0].permute(1, 2, 0).double().numpy(),
        -1,
        kernel.double().numpy(),
        anchor=(CENTRE, CENTRE),
        borderType=cv2.BORDER_REFLECT_101,
    )
    assert np.abs(convolve(light, kernel)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-5


def test_transforms_have_no_large_prime_factor() -> None:
    assert [smooth_length(n) for n in (1, 2, 11, 447, 448, 451, 1343)] == [
        2, 2, 12, 448, 448, 480, 1344
    ]  # fmt: skip


def test_a_kernel_of_one_tap_leaves_the_picture(picture: Tensor) -> None:
    kernel = torch.zeros(KERNEL_SIZE, KERNEL_SIZE)
    kernel[CENTRE, CENTRE] = 1
    assert torch.allclose(convolve(unit(picture), kernel), unit(picture), atol=1e-5)


# Camera shake


@pytest.mark.parametrize("seed", range(3))
def test_blur_leaves_a_constant_and_keeps_the_brightness(seed: int) -> None:
    constant = torch.full((1, 3, 64, 96), 0.37)
    assert torch.allclose(shake(constant, 20, seeded(seed)), constant, atol=1e-5)
    kernel = trajectory_kernel(seeded(seed), diameter=20.0)
    assert torch.allclose(convolve(constant, kernel), constant, atol=1e-5)
    # A bright patch whose light cannot leave the picture.
    light = torch.zeros(1, 3, 128, 128)
    light[..., 56:72, 52:76] = torch.rand(1, 3, 16, 24, generator=seeded(seed))
    for blurred in (shake(light, 20, seeded(seed)), convolve(light, kernel)):
        assert float(blurred.mean()) == pytest.approx(float(light.mean()), abs=1e-4)


def test_a_shake_of_no_length_leaves_the_picture(picture: Tensor) -> None:
    for length in (0.0, 0.001):
        blurred = shake(unit(picture), length, seeded(1))
        assert torch.allclose(blurred, unit(picture), atol=1e-2)


@pytest.mark.parametrize("length", [4.0, 12.0, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_shaken_dot_leaves_a_streak_no_longer_than_the_path(seed: int, length: float) -> None:
    blurred = shake(dot(), length, seeded(seed))[0, 0]
    assert 1 < span(blurred) <= length + 2
    assert float(blurred.sum()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("length", [2.0, 16.0, 36.0])
@pytest.mark.parametrize("seed", range(4))
def test_corners_and_centre_travel_the_length_on_average(seed: int, length: float) -> None:
    height, width = 256, 384
    path = shake_path(math.ceil(length) + 1, seeded(seed))
    travelled = []
    homographies = path_homographies(path, length, height, width).numpy().astype(np.float64)
    for x, y in [(-192, -128), (192, -128), (-192, 128), (192, 128), (0, 0)]:
        track = []
        for h in homographies:
            depth = h[2, 0] * x + h[2, 1] * y + h[2, 2]
            track.append(((h[0, 0] * x + h[0, 1] * y + h[0, 2]) / depth,
                          (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / depth))  # fmt: skip
        travelled.append(sum(math.dist(a, b) for a, b in itertools.pairwise(track)))
    assert np.mean(travelled) == pytest.approx(length, rel=0.005)


@pytest.mark.skipif(not OPENCV_WARPS_EXACTLY, reason="OpenCV 4 rounds positions")
@pytest.mark.parametrize("size", [(96, 160), (33, 47), (130, 61)])
@pytest.mark.parametrize("length", [0.0, 5.0, 30.0])
def test_both_ways_to_shake_give_one_picture(size: tuple[int, int], length: float) -> None:
    """On a processor and, with PyTorch's own sampling, on everything else."""
    light = torch.rand(1, 3, *size, generator=seeded(3))
    homographies = path_homographies(shake_path(math.ceil(length) + 2, seeded(4)), length, *size)
    ours = mean_of_warps(light[0], homographies)
    assert float((ours - mean_of_samples(light, homographies)[0]).abs().max()) < 1e-4
    assert torch.equal(shake(light, length, seeded(5)), shake(light, length, seeded(5)))


def test_pictures_of_a_batch_are_shaken_alike(picture: Tensor) -> None:
    batch = torch.cat([unit(picture), unit(picture).flip(-1)])
    both = shake(batch, 9.0, seeded(1))
    assert torch.allclose(both[:1], shake(batch[:1], 9.0, seeded(1)), atol=1e-6)
    assert torch.allclose(both[1:], shake(batch[1:], 9.0, seeded(1)), atol=1e-6)


def test_a_path_is_centred_on_its_middle() -> None:
    assert shake_path(33, seeded(2)).mean(0).abs().max() < 1e-5


def test_the_sampling_grid_is_the_homography_of_centred_pixels(picture: Tensor) -> None:
    light, (height, width) = unit(picture), (96, 160)
    shift = torch.eye(3)
    shift[0, 2], shift[1, 2] = 5, -3
    moved = torch.nn.functional.grid_sample(
        light, homography_grid(shift, height, width), align_corners=False
    )
    assert torch.allclose(moved[..., 3:, :-5], light[..., :-3, 5:], atol=1e-4)

    matrix = np.array([[1.02, 0.05, 4.5], [-0.03, 0.99, 2.25], [2e-4, -1e-4, 1]])
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    expected = cv2.warpPerspective(
        light[0].permute(1, 2, 0).numpy(),
        centre @ matrix @ np.linalg.inv(centre),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    grid = homography_grid(torch.from_numpy(matrix).float(), height, width)
    ours = torch.nn.functional.grid_sample(light, grid, align_corners=False)
    difference = np.abs(ours[0].permute(1, 2, 0).numpy() - expected)[12:-12, 12:-12]
    assert difference.mean() < 1e-3  # cv2 rounds positions to 1/32 of a pixel


# Light


@settings(max_examples=20)
@given(gamma=st.floats(1, 2.4), level=st.floats(0.01, 1))
def test_from_light_undoes_to_light(gamma: float, level: float) -> None:
    picture = torch.full((1, 3, 2, 2), level)
    assert torch.allclose(from_light(to_light(picture, gamma), gamma), picture, atol=1e-4)


def test_light_is_cut_off_at_white_and_black_stays_black() -> None:
    light = torch.tensor([0.0, 1.0, 2.5]).reshape(1, 1, 1, 3).expand(1, 3, 1, 3)
    levels = (from_light(light, 2.2)[0, 0, 0] * 255).round()
    assert levels.tolist() == [0, 255, 255]


def test_overexposure_leaves_the_dark_and_lets_white_shine() -> None:
    light = torch.rand(1, 3, 32, 32, generator=seeded(1))
    light[..., 0, 0] = 1
    shining = overexpose(light, 3.0)
    dark = (light.amax(1, keepdim=True) <= 0.8).expand_as(light)
    assert torch.equal(shining[dark], light[dark])
    assert torch.allclose(shining[..., 0, 0], torch.tensor(3.0))
    assert (shining >= light).all()
    assert torch.equal(overexpose(light, 1.0), light)


# The whole degradation


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), height=st.integers(40, 70), width=st.integers(40, 70))
def test_degraded_pictures_have_the_same_shape_and_stay_in_range(
    seed: int, height: int, width: int
) -> None:
    sharp = torch.rand(1, 3, height, width, generator=seeded(seed))
    blurred, partner = degrade(sharp, BlurRecipe(), seeded(seed))
    for picture in (blurred, partner):
        assert picture.shape == sharp.shape
        assert torch.isfinite(picture).all()
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_what_stays_sharp_and_clean_is_returned_as_it_is(picture: Tensor) -> None:
    for seed in range(5):
        blurred, partner = degrade(unit(picture), UNTOUCHED, seeded(seed))
        assert torch.equal(blurred, unit(picture))
        assert torch.equal(partner, unit(picture))


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_the_sharp_partner_is_as_overexposed_as_the_blurred_picture(
    picture: Tensor, gamma: float
) -> None:
    recipe = replace(
        UNTOUCHED,
        sharp_share=0,
        shake_share=1,
        highlight_share=1,
        length=(0.0, 0.0),
        gamma=(gamma, gamma),
    )
    sharp = unit(picture)
    dark = (sharp.amax(1, keepdim=True) ** gamma <= 0.8).expand_as(sharp)
    for seed in range(3):
        blurred, partner = degrade(sharp, recipe, seeded(seed))
        # Nothing moved: what is left is the exposure, and the two agree on it.
        assert torch.allclose(blurred, partner, atol=0.01)
        assert torch.allclose(partner[dark], sharp[dark], atol=0.002)
        assert (partner >= sharp - 0.002).all()
        assert (partner - sharp).max() > 0.01


def test_blur_alone_takes_detail_away(picture: Tensor) -> None:
    for share in (0.0, 1.0):
        recipe = replace(
            UNTOUCHED, sharp_share=0, shake_share=share, highlight_share=0, length=(12.0, 12.0)
        )
        blurred, partner = degrade(unit(picture), recipe, seeded(1))
        assert torch.equal(partner, unit(picture))
        # A straight streak spares the edges along it: both directions count together.
        before, after = (
            sum(p.diff(dim=axis).abs().mean() for axis in (-1, -2)) for p in (partner, blurred)
        )
        assert after < 0.97 * before, (share, after, before)


def test_noise_is_as_strong_as_asked_and_stronger_in_the_light() -> None:
    for level, factor in ((0.0, 0.5), (0.5, 1.0), (1.0, 1.5)):
        noisy = add_noise(torch.full((1, 3, 64, 64), level), 0.01, seeded(1))
        assert float(noisy.std()) == pytest.approx(0.01 * factor, rel=0.05)
        assert float(noisy.mean()) == pytest.approx(level, abs=1e-3)
