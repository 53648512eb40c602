"""Reports as one HTML file: a template, the style and the pictures in it, and nothing outside.

>>> html = render_page(Path("ladder.html"), report=report)

The page asks for nothing over the network: styles and scripts are inline, pictures
are data URIs, and its own content security policy lets the browser refuse the rest.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from deblurgan.export.wording import plain
from deblurgan.runtime.contract import Frames

HERE = Path(__file__).parent
SHOWN_WIDTH = 1120  # pixels, of a photograph that fills the page
HIGHEST = 4 * SHOWN_WIDTH  # of them; WebP ends at 16383
ENGINES = {
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime-cuda": "ONNX Runtime, CUDA",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT for RTX",
}
QUALITY = 92  # of a photograph that is looked at as a whole
LOSSLESS = 101  # OpenCV's word for a WebP without loss


def render_page(template: Path, **values: Any) -> str:
    """Fill a template that extends ``base.html`` and may import ``parts.html``, both of
    ``templates/``; every text in ``values`` is escaped.

    Raises ``jinja2.TemplateNotFound`` where there is none and ``jinja2.UndefinedError``
    for a value that the template wants and was not given.
    """
    return environment(template.parent).get_template(template.name).render(values)


@dataclass(frozen=True)
class Bar:
    """Frames a second; ``share`` is of the fastest, 0 to 1."""

    label: str
    detail: str
    rate: float
    share: float
    ours: bool


def draw_bars(rates: Sequence[tuple[str, str, float, bool]]) -> list[Bar]:
    """Of label, detail, frames a second, and whether it is ours."""
    fastest = max((rate for _, _, rate, _ in rates), default=0.0)
    return [Bar(label, detail, rate, rate / fastest, ours) for label, detail, rate, ours in rates]


@dataclass(frozen=True)
class Comparison:
    """Two pictures under a slider, as data URIs."""

    width: int
    height: int
    before: str
    after: str


def compare(before: Frames, after: Frames) -> Comparison:
    """Of two pictures of one size, RGB uint8 ``[H, W, 3]``, made to fit the page."""
    height, width = before.shape[:2]
    scale = min(1.0, SHOWN_WIDTH / width, HIGHEST / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def shrink(picture: Frames) -> str:
        smaller = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return picture_uri(smaller.astype(np.uint8, copy=False), "photograph")

    return Comparison(*size, shrink(before), shrink(after))


def plot_uri(svg: bytes) -> str:
    """A drawing as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def picture_uri(picture: Frames, kind: Literal["photograph", "detail"]) -> str:
    """A picture, RGB uint8 ``[H, W, 3]``, as a data URI; a detail without loss."""
    quality = LOSSLESS if kind == "detail" else QUALITY
    bgr = np.ascontiguousarray(picture[:, :, ::-1])
    data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


@functools.cache
def environment(folder: Path) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["style"] = Markup((HERE / "style.css").read_text())
    made.globals["script"] = Markup((HERE / "script.js").read_text())
    made.filters.update(
        figure=figure,
        signed=signed,
        significant=significant,
        milliseconds=milliseconds,
        count=count,
        percent=percent,
        plain=plain,
    )
    return made


def figure(value: float, digits: int = 2) -> str:
    """With a true minus, and none where nothing is left after rounding."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """As :func:`figure`, with a plus before what is more than nothing."""
    return ("+" if round(value, digits) > 0 else "") + figure(value, digits)


def significant(value: float) -> str:
    """Three digits that count: 0.0668, 2.71, 40.5, 1,230."""
    if value == 0 or not math.isfinite(value):
        return figure(value, 0)
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def milliseconds(seconds: float) -> str:
    return significant(1000 * seconds)


def count(value: int) -> str:
    return f"{value:,}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
