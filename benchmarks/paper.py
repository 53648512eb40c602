"""The numbers of the paper, of DeblurGAN-v2's and of others, as they published them.

Nothing here was measured by us. ``recalled`` names the figures that were written down from
memory and not held against a stored copy of their source.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Kupyn et al. 2018, DeblurGAN, arXiv 1711.07064"
V2 = "Kupyn et al. 2019, the tables of the DeblurGAN-v2 paper"
REPRODUCTIONS = "others' reproductions of DeblurGAN"


@dataclass(frozen=True)
class Quality:
    """A line of a table. PSNR in dB, the mean of a test set; ``seconds`` for a picture on
    one GPU; ``multiply_adds`` of the network for one picture; None where the table has none.
    """

    method: str
    data: str
    psnr: float
    ssim: float | None
    seconds: float | None
    multiply_adds: float | None
    source: str
    recalled: tuple[str, ...] = ()

    @property
    def is_cw_ssim(self) -> bool:
        """Whether its ``ssim`` is what is CW-SSIM here."""
        return self.source == PAPER and self.method.startswith("DeblurGAN")


@dataclass(frozen=True)
class Span:
    """PSNR in dB, from the lowest to the highest that was found."""

    what: str
    data: str
    lowest: float
    highest: float
    source: str


@dataclass(frozen=True)
class Detection:
    """YOLO's detections, with those on the sharp picture as the reference."""

    pictures: str
    precision: float
    recall: float
    f1: float
    source: str
    recalled: tuple[str, ...]


@dataclass(frozen=True)
class PublishedTime:
    """``seconds`` for a picture; what the source does not state is None."""

    method: str
    seconds: float
    device: str
    size: tuple[int, int] | None
    precision: str | None
    source: str
    note: str

    @property
    def label(self) -> str:
        unsaid = [
            word
            for word, value in (("resolution", self.size), ("precision", self.precision))
            if value is None
        ]
        return f"paper, {self.device}" + (f", {' and '.join(unsaid)} not stated" if unsaid else "")


@dataclass(frozen=True)
class NetworkSize:
    """Multiply-adds of the paper's generator for a picture of a size, in pixels. Operations
    are twice as many.
    """

    width: int
    height: int
    multiply_adds: float


# For a 1280x720 picture of the test set, as the table has it; of the timing the paper states
# neither the resolution nor the precision.
PAPER_TIME = PublishedTime(
    method="DeblurGAN",
    seconds=0.85,
    device="Titan X (Maxwell)",
    size=None,
    precision=None,
    source=PAPER,
    note="the card is the one that the paper trained on",
)

GOPRO = "GoPro test"
TEST_PAIRS = 1111  # of GOPRO_Large
SSIM_NOTE = (
    "The paper's SSIM of its own networks is, by others' measurements of the same pictures, the "
    "complex-wavelet one: 0.858 plain, 0.956 CW-SSIM. It does not state the size that it "
    "measured at, and trained at half size."
)
QUALITY = (
    Quality("DeblurGAN WILD", GOPRO, 27.2, 0.954, 0.85, None, PAPER),
    Quality("DeblurGAN Synth", GOPRO, 23.7, 0.884, 0.85, None, PAPER, ("ssim",)),
    Quality("DeblurGAN Comb", GOPRO, 28.7, 0.958, 0.85, None, PAPER),
    Quality("Nah et al. (DeepDeblur)", GOPRO, 29.23, 0.916, 4.33, None, PAPER),
    Quality("DeblurGAN", GOPRO, 28.70, 0.927, 0.85, 678e9, V2),
    Quality("DeblurGAN-v2 Inception", GOPRO, 29.55, 0.934, 0.35, None, V2),
    Quality("DeblurGAN-v2 MobileNet", GOPRO, 28.17, 0.925, 0.06, None, V2),
    Quality("DeblurGAN-v2 MobileNet-DSC", GOPRO, 28.03, 0.922, 0.04, None, V2),
    Quality("DeblurGAN", "Koehler", 26.10, 0.816, None, None, V2),
)
INPUT = Span("the blurred input itself", GOPRO, 25.6, 25.6, REPRODUCTIONS)
SPANS = (
    Span("DeblurGAN trained anew, at full size", GOPRO, 25.0, 26.6, REPRODUCTIONS),
    INPUT,
)

DETECTION_NOTE = (
    "The paper's rows are of another detector (YOLO) on 410 pairs of its own (averaged frames of "
    "street video at 240 a second), at a threshold that is not known, and written down from "
    "memory: compare what deblurring changes, not the shares."
)
FIGURES = ("precision", "recall", "f1")
DETECTION = (
    Detection("blurred", 0.821, 0.437, 0.570, PAPER, FIGURES),
    Detection("Nah et al.", 0.834, 0.552, 0.665, PAPER, FIGURES),
    Detection("DeblurGAN WILD", 0.764, 0.631, 0.691, PAPER, FIGURES),
    Detection("DeblurGAN Synth", 0.801, 0.517, 0.628, PAPER, FIGURES),
    Detection("DeblurGAN Comb", 0.671, 0.742, 0.704, PAPER, FIGURES),
)

# Counted from the network that the paper describes; a test counts them again.
NETWORK_720P = NetworkSize(1280, 720, 697e9)
NETWORK_SIZES = (
    NetworkSize(256, 256, 49.6e9),
    NetworkSize(640, 360, 174e9),
    NETWORK_720P,
    NetworkSize(1920, 1080, 1568e9),
)
PARAMETERS = 11_378_179
