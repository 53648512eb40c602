"""Made photographs and pairs, and networks small enough to be trained in a test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.train.networks import EdgeGenerator, EdgeSettings


def write_photos(folder: Path, photo: NDArray[np.uint8], count: int) -> Path:
    """``count`` square pictures of 96 pixels, each one another part of ``photo``."""
    folder.mkdir()
    for index in range(count):
        part = np.roll(photo, 11 * index, 1)[:, :96, ::-1]
        cv2.imwrite(str(folder / f"{index:02}.png"), part)
    return folder


@pytest.fixture(scope="session")
def photos(photo: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", photo, 10)


@pytest.fixture(scope="session")
def picture(photo: NDArray[np.uint8]) -> Tensor:
    """``photo`` as a tensor, uint8 ``[3, 96, 160]``."""
    return torch.from_numpy(photo.copy()).permute(2, 0, 1).contiguous()


@pytest.fixture
def tiny_edge() -> EdgeGenerator:
    torch.manual_seed(1)
    return EdgeGenerator(EdgeSettings(channels=8, blocks=2, deep_blocks=1))
