"""Figures as files: PNG pictures, and SVG drawings for a page of any colour scheme."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from deblurgan.benchmarks.earlier import SOFTWARE

# The page's own ink and paper (export/page/style.css). An image sees none of the page's
# styles, but the reader's preference.
SCHEMES = """<style>
svg { --ink: #1c1f23; --paper: #fbfaf7; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e4df; --paper: #14161a; } }
text { fill: var(--ink); }
</style>"""
INK, PAPER = "#000000", "#ffffff"


def new_figure(width: float, height: float) -> Figure:
    """Of so many inches. A dollar in a name is a dollar, and no formula."""
    matplotlib.rcParams["text.parse_math"] = False
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110, metadata={"Software": SOFTWARE})
    return image.getvalue()


def pixels_to_png(pixels: NDArray[Any]) -> bytes:
    """Of uint8 ``[H, W, 3]``, RGB."""
    image = io.BytesIO()
    imsave(image, pixels, format="png", metadata={"Software": SOFTWARE})
    return image.getvalue()


def to_svg(figure: Figure) -> bytes:
    """What is black is drawn in the page's ink, and what is white in its paper; the same
    figure is always the same bytes.
    """
    figure.patch.set_visible(False)
    image = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "deblurgan"}):
        figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None})
    drawing = image.getvalue().decode()
    drawing = drawing.replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")
    start = drawing.index(">", drawing.index("<svg")) + 1
    return f"{drawing[:start]}{SCHEMES}{drawing[start:]}".encode()
