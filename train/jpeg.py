"""What JPEG does to a picture, in tensors, so that it runs where the picture is."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def compress(picture: Tensor, quality: float) -> Tensor:
    """What JPEG at ``quality`` leaves of float ``[N, 3, H, W]`` in [0, 1], RGB: 8x8 DCT,
    standard tables, full-resolution chroma. The result may leave [0, 1] a little.
    """
    height, width = picture.shape[-2:]
    padded = F.pad(picture, (0, -width % 8, 0, -height % 8), mode="replicate")
    to_ycc = picture.new_tensor(RGB_TO_YCC)
    planes = torch.einsum("ij,njhw->nihw", to_ycc, padded * 255)
    planes[:, 0] -= 128
    n, c, h, w = planes.shape
    blocks = planes.reshape(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    dct = dct_matrix().to(picture)
    scale = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    table = (picture.new_tensor(JPEG_TABLES) * scale + 0.5).floor().clamp(1, 255)
    table = table.reshape(3, 1, 1, 8, 8)
    quantised = (dct @ blocks @ dct.T / table).round() * table
    planes = (dct.T @ quantised @ dct).transpose(3, 4).reshape(n, c, h, w)
    planes[:, 0] += 128
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), planes) / 255
    return rgb[..., :height, :width]


def dct_matrix() -> Tensor:
    """The orthonormal 8-point DCT-II."""
    index = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * index[:, None] * (index + 0.5)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


RGB_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)

# ITU-T T.81, annex K.
LUMA_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA_TABLE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip
JPEG_TABLES = (LUMA_TABLE, CHROMA_TABLE, CHROMA_TABLE)
