"""How near a picture is to a reference. Pictures are uint8 ``[3, H, W]``, RGB."""

from __future__ import annotations

import math

import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional as F

SSIM_SIGMA = 1.5
SSIM_WINDOW = 11  # pixels a side; a picture must hold one window

WIDTHS = range(1, 31)  # of the wavelets, in pixels
SUPPORT = 10  # a wavelet's length in widths
CW_CONSTANT = 0.01
BLOCK = 1 << 14  # samples in one transform: what the cache holds, whatever the picture


def psnr(picture: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, over all channels."""
    error = (picture.double() - reference.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(picture: Tensor, reference: Tensor) -> float:
    """Wang et al. 2004's: Gaussian window of sigma 1.5, mean over the channels."""
    value = structural_similarity(
        picture.permute(1, 2, 0).numpy(),
        reference.permute(1, 2, 0).numpy(),
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
    )
    return float(value)


def cw_ssim(picture: Tensor, reference: Tensor) -> float:
    """The figure that DeblurGAN's paper calls SSIM: pyssim's ``cw_ssim_value``.

    Its name says complex wavelet, but this is not Sampat et al.'s CW-SSIM: the
    grey picture is read as one row of pixels and transformed with real Ricker
    wavelets, 1 to 30 pixels wide (pyssim before 0.7.1, on SciPy's ``cwt``). It
    comes out higher than SSIM: 0.96 where that is 0.86. With wavelet
    coefficients x and y, its first factor's numerator is its second factor's
    denominator, which leaves

        (2 |sum x y| + k) / (sum x^2 + sum y^2 + k),   k = 0.01,

    summed over the widths and averaged over the pixels.
    """
    signals = torch.stack([grey(picture).flatten(), grey(reference).flatten()]).double()
    pixels = signals.shape[1]
    # Zeros around the picture; each block of outputs needs a wavelet's half on either side.
    reach = SUPPORT * WIDTHS[-1] // 2
    hop = BLOCK - 2 * reach
    padded = F.pad(signals, (reach, reach + -pixels % hop))
    wavelets = torch.fft.rfft(wavelet_bank(pixels))[:, None]
    total = 0.0
    for start in range(0, pixels, hop):
        spectra = torch.fft.rfft(padded[:, start : start + BLOCK])
        x, y = torch.fft.irfft(spectra * wavelets, BLOCK)[..., reach : reach + hop].unbind(1)
        alike, energy = (x * y).sum(0).abs(), (x.square() + y.square()).sum(0)
        similarity = (2 * alike + CW_CONSTANT) / (energy + CW_CONSTANT)
        total += float(similarity[: pixels - start].sum())
    return total / pixels


def grey(picture: Tensor) -> Tensor:
    """Luma of ITU-R BT.601 in integers ``[H, W]``, rounded as Pillow's mode L is."""
    red, green, blue = picture.int()
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def wavelet_bank(pixels: int) -> Tensor:
    """Ricker wavelets ``[len(WIDTHS), BLOCK]``, wrapped around so that convolution
    leaves the signal where it is. None is longer than the picture has pixels.
    """
    bank = torch.zeros(len(WIDTHS), BLOCK, dtype=torch.float64)
    for row, width in zip(bank, WIDTHS, strict=True):
        length = min(SUPPORT * width, pixels)
        offset = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
        ratio = (offset / width).square()
        wavelet = (1 - ratio) * (-ratio / 2).exp()
        wavelet *= 2 / (math.sqrt(3 * width) * math.pi**0.25)
        row[:length] = wavelet
        row.copy_(row.roll(-((length - 1) // 2)))
    return bank
