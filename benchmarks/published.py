"""What papers report of GoPro's test set, and what it can be compared with."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "arXiv 1711.07064"
V2_PAPER = "arXiv 1908.03826"
TEST_PAIRS = 1111  # of GOPRO_Large

CAUTION = (
    "The paper's SSIM is, by others' measurement of the same pictures, what is CW-SSIM here: "
    "the v2 paper gives 0.927 for the network that the paper gives 0.958 for. The paper does "
    "not state the size that it measured at, and trained at half size."
)


@dataclass(frozen=True)
class PublishedQuality:
    """One row of a paper's table: PSNR in dB; the paper's SSIM in the column it belongs to."""

    method: str
    psnr: float
    ssim: float | None
    cw_ssim: float | None
    source: str


PUBLISHED = (
    PublishedQuality("DeblurGAN WILD", 27.2, None, 0.954, PAPER),
    PublishedQuality("DeblurGAN Comb", 28.7, None, 0.958, PAPER),
    PublishedQuality("DeepDeblur (Nah et al.)", 29.23, 0.916, None, PAPER),
    PublishedQuality("DeblurGAN, measured by v2", 28.70, 0.927, None, V2_PAPER),
    PublishedQuality("DeblurGAN-v2 Inception", 29.55, 0.934, None, V2_PAPER),
    PublishedQuality("DeblurGAN-v2 MobileNet", 28.17, 0.925, None, V2_PAPER),
    PublishedQuality("DeblurGAN-v2 MobileNet-DSC", 28.03, 0.922, None, V2_PAPER),
)

DETECTION_CAUTION = (
    "The paper's rows are of another detector (YOLO) on 410 pairs of its own (averaged frames of "
    "street video at 240 a second), at a threshold that is not known, and written down from "
    "memory: compare what deblurring changes, not the shares."
)


@dataclass(frozen=True)
class PublishedDetection:
    """One row of the paper's detection table: shares from 0 to 1."""

    pictures: str
    precision: float
    recall: float
    f1: float


# From memory of the paper's table, not held against a copy of it.
PUBLISHED_DETECTION = (
    PublishedDetection("blurred", 0.821, 0.437, 0.570),
    PublishedDetection("Nah et al.", 0.834, 0.552, 0.665),
    PublishedDetection("DeblurGAN WILD", 0.764, 0.631, 0.691),
    PublishedDetection("DeblurGAN Synth", 0.801, 0.517, 0.628),
    PublishedDetection("DeblurGAN Comb", 0.671, 0.742, 0.704),
)
