"""Compression in tensors is JPEG's: the same transform, tables and losses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train.jpeg import compress, dct_matrix


def unit(picture: Tensor) -> Tensor:
    """uint8 ``[3, H, W]`` as float ``[1, 3, H, W]`` in [0, 1]."""
    return picture[None].float() / 255


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
