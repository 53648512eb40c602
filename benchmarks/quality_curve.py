"""Quality over the length of the blur, as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matplotlib.figure import Figure

from deblurgan.benchmarks.drawing import new_figure
from deblurgan.benchmarks.pictures import Pictures
from deblurgan.benchmarks.quality import LengthScore
from deblurgan.runtime.errors import DeblurError


class ByLength(Protocol):
    """What is drawn of a model's quality."""

    @property
    def model(self) -> str: ...
    @property
    def by_length(self) -> tuple[LengthScore, ...]: ...


def check_lengths(pictures: Pictures) -> None:
    """Before the measurement: raise ``DeblurError`` where no length will be known."""
    if pictures.kind != "photos":
        raise DeblurError(
            "--curve",
            expected="pictures whose blur has a known length",
            found=f"--{pictures.kind}",
            remedy="give sharp photographs, as --photos",
        )


def draw_quality_curve(models: Sequence[ByLength], title: str) -> Figure:
    """PSNR before and after, and the gain with its standard error, by length."""
    figure = new_figure(10, 4.2)
    psnr_axes, gain_axes = figure.subplots(1, 2)
    rows = models[0].by_length
    lengths = [row.length for row in rows]
    # The blurred pictures are the same for all models.
    psnr_axes.plot(lengths, [row.psnr_before for row in rows], "k--", marker=".", label="blurred")
    for model in models:
        rows = model.by_length
        psnr_axes.plot(lengths, [row.psnr_after for row in rows], marker=".", label=model.model)
        gain_axes.errorbar(
            lengths,
            [row.gain for row in rows],
            [row.gain_error or 0.0 for row in rows],
            marker=".",
            capsize=3,
            label=model.model,
        )
    psnr_axes.set(title="PSNR against the sharp picture, dB", xlabel="length of the blur, pixels")
    gain_axes.set(title="gain, dB (bars: standard error)", xlabel="length of the blur, pixels")
    gain_axes.axhline(0, color="grey", linewidth=0.8)
    for axes in (psnr_axes, gain_axes):
        axes.set_xticks(lengths)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
