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
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train.blur import (
    KERNEL_SIZE,
    TRAJECTORY_LENGTH,
    TRAJECTORY_STEPS,
    BlurRecipe,
    add_noise,
    compress,
    convolve,
    dct_matrix,
    degrade,
    from_light,
    homography_grid,
    overexpose,
    path_homographies,
    shake,
    shake_path,
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


@settings(max_examples=20, deadline=None)
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


@settings(max_examples=20, deadline=None)
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


# JPEG


def test_the_dct_matrix_is_orthonormal_and_cv2s() -> None:
    matrix = dct_matrix()
    assert torch.allclose(matrix @ matrix.T, torch.eye(8).double(), atol=1e-12)
    block = np.random.default_rng(1).random((8, 8))
    assert np.allclose((matrix @ torch.from_numpy(block) @ matrix.T).numpy(), cv2.dct(block))


def test_the_best_quality_hardly_changes_the_picture_and_lower_ones_more(picture: Tensor) -> None:
    sharp = unit(picture)
    losses = [
        float((compress(sharp, quality) - sharp).abs().mean()) * 255
        for quality in (100, 90, 75, 50, 20)
    ]
    assert losses[0] < 0.5
    assert losses == sorted(losses)


@pytest.mark.parametrize("size", [(8, 8), (1, 9), (17, 30), (23, 64)])
def test_pictures_of_any_size_are_compressed(picture: Tensor, size: tuple[int, int]) -> None:
    sharp = unit(picture)[..., : size[0], : size[1]]
    compressed = compress(sharp, 90)
    assert compressed.shape == sharp.shape
    assert float((compressed - sharp).abs().mean()) < 4 / 255


def test_each_picture_of_a_batch_is_compressed_alone(picture: Tensor) -> None:
    batch = torch.cat([unit(picture), unit(picture).flip(-1)])
    alone = torch.cat([compress(one[None], 80) for one in batch])
    assert torch.allclose(compress(batch, 80), alone, atol=1e-5)


@pytest.mark.parametrize("quality", [30, 60, 75, 90, 97])
def test_compression_is_close_to_cv2s_jpeg(photo: NDArray[np.uint8], quality: int) -> None:
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, coded = cv2.imencode(".jpg", photo[:, :, ::-1], settings)
    expected = cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1].astype(np.float64)
    sharp = torch.from_numpy(photo.copy()).permute(2, 0, 1)
    ours = (compress(unit(sharp), quality).clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).mean() < 1.1
    # And as lossy: the loss itself is several levels at the lower qualities.
    loss, expected_loss = (np.abs(p - photo.astype(np.float64)).mean() for p in (ours, expected))
    assert loss == pytest.approx(expected_loss, abs=0.2)
