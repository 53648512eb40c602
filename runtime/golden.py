"""A golden pair: a frame that every machine rebuilds from three numbers, and what
a model file made of it on a CPU engine. A device that runs a plan of the same
model makes the same picture, or something is wrong with the plan.
"""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.difference import Difference, measure_difference
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.picture_size import png_size

SEED = 1
SIZE = (96, 64)  # of a model that takes any
KEPT = (64, 48)  # so that the pair is a few kB, whatever the frame's size
MOST_KEPT = 1 << 20  # pixels that are read, before any memory is taken for them
LARGEST = 1 << 14  # no frame has a longer side
# ONNX Runtime first: it computes in fp32 whatever the processor offers.
ENGINES = ("onnxruntime", "openvino")
# As engines say it that raise no MemoryError.
OUT_OF_MEMORY = re.compile(
    r"bad_alloc|failed to allocate|can't allocate|out of memory", re.IGNORECASE
)


class WrongPicture(DeblurError):
    """An engine that makes another picture of the golden frame than the pair has."""


@dataclass(frozen=True, eq=False)
class Golden:
    """``width`` x ``height`` and ``seed`` are the numbers of :func:`golden_frame`.

    ``output``, uint8 ``[1, h, w, 3]``, is the part of the deblurred frame whose
    upper left corner is at (``left``, ``top``); ``engine`` is what made it.
    """

    width: int
    height: int
    seed: int
    left: int
    top: int
    output: Frames
    engine: str

    def frame(self) -> Frames:
        """What the model was given, uint8 ``[1, height, width, 3]``."""
        return golden_frame(self.width, self.height, self.seed)

    def to_json(self) -> dict[str, Any]:
        """For :attr:`ModelCard.golden` and a plan's sidecar; the output as PNG in base64."""
        _, png = cv2.imencode(".png", self.output[0, :, :, ::-1])
        return {
            "width": self.width,
            "height": self.height,
            "seed": self.seed,
            "left": self.left,
            "top": self.top,
            "engine": self.engine,
            "png": base64.b64encode(png.tobytes()).decode(),
            "sha256": hashlib.sha256(self.output.tobytes()).hexdigest(),
        }

    @classmethod
    def from_json(cls, values: Any) -> Golden:
        """Raises ``ValueError`` for anything but what :meth:`to_json` gives."""
        if not isinstance(values, dict):
            raise ValueError("a golden pair is a JSON object")
        width, height, seed, left, top = (
            read_number(values, name) for name in ("width", "height", "seed", "left", "top")
        )
        output = read_picture(values)
        engine = values.get("engine")
        rows, columns = output.shape[1:3]
        if not isinstance(engine, str):
            raise ValueError("a golden pair names its engine")
        if max(width, height) > LARGEST or left + columns > width or top + rows > height:
            raise ValueError("a golden pair's output lies outside its frame")
        return cls(width, height, seed, left, top, output, engine)


def golden_frame(width: int, height: int, seed: int = SEED) -> Frames:
    """Gradients, edges, a disc, fine lines and noise, uint8 RGB ``[1, height, width, 3]``.

    The same bytes on every machine and with every numpy: integers and SHAKE-256
    alone. Every golden pair ever written rests on them, so they never change.
    """
    y, x = np.mgrid[:height, :width].astype(np.int32)
    frame = np.stack(
        [
            x * 255 // max(width - 1, 1),
            y * 255 // max(height - 1, 1),
            np.abs((x + 2 * y) % 48 - 24) * 255 // 24,
        ],
        axis=-1,
    )
    random = hashlib.shake_256(f"{seed} {width}x{height}".encode()).digest(
        height * width * 3 + 6 * 7
    )
    for index in range(6):
        across, down, wide, high, *colour = random[7 * index : 7 * index + 7]
        left, top = across * width >> 8, down * height >> 8
        right, bottom = left + 2 + (wide * width >> 10), top + 2 + (high * height >> 10)
        frame[top:bottom, left:right] = colour
    radius = min(width, height) // 5
    disc = (x - width * 2 // 3) ** 2 + (y - height * 2 // 3) ** 2 < radius**2
    frame[disc] = 255 - frame[disc]
    lines = (y < height // 6) & (x >= width // 2)
    frame[lines] = (x[lines] % 3 == 0)[:, None] * 255
    noise = np.frombuffer(random, np.uint8, offset=6 * 7).reshape(height, width, 3)
    noisy = frame + noise.astype(np.int32) % 17 - 8
    return np.clip(noisy, 0, 255).astype(np.uint8)[None]


def read_golden(model: Model) -> Golden | None:
    """The pair that the file brings; None where it brings none that can be read."""
    with suppress(ValueError):
        return Golden.from_json(model.card.golden)
    return None


def make_golden(model: Model, width: int | None = None, height: int | None = None) -> Golden:
    """Run ``model`` on a golden frame in the first CPU engine that loads it.

    Without a size it is the one the model is frozen at, else 96x64 or what its
    smallest size asks for. Raises :class:`DeblurError` when the model does not
    take that size, when no CPU engine runs it, and where the memory does not suffice.
    """
    smallest = model.card.minimum_size
    frozen = model.size or (max(SIZE[0], smallest), max(SIZE[1], smallest))
    width, height = width or frozen[0], height or frozen[1]
    model.check_frame(width, height)
    try:
        output, engine = run_on_cpu(model, golden_frame(width, height))
    except MemoryError:
        raise DeblurError(
            model.path,
            expected="memory to make a golden pair on the processor",
            found=f"too little memory for a frame of {width}x{height}",
            remedy="close other programs, or ask for smaller frames",
        ) from None
    # The corner at the right and below, where the padding was cut off again.
    left, top = max(width - KEPT[0], 0), max(height - KEPT[1], 0)
    kept = np.ascontiguousarray(output[:, top:, left:])
    return Golden(width, height, SEED, left, top, kept, engine)


def compare_golden(golden: Golden, made: Frames) -> Difference:
    """Between the pair's output and what an engine made of all of :meth:`Golden.frame`.

    Raises ``ValueError`` when ``made`` has not the shape of that frame.
    """
    if made.shape != (1, golden.height, golden.width, 3):
        raise ValueError(f"{list(made.shape)} is not the golden frame's shape")
    rows, columns = golden.output.shape[1:3]
    part = made[:, golden.top : golden.top + rows, golden.left : golden.left + columns]
    return measure_difference([(part, golden.output)])


def run_on_cpu(model: Model, frame: Frames) -> tuple[Frames, str]:
    """The model's picture, and the name and version of the engine that made it.

    Raises ``MemoryError`` where that does not suffice, whatever the engine calls it.
    """
    reasons = []
    height, width = frame.shape[1:3]
    for name in ENGINES:
        try:
            # One thread: sums in one order, on every machine.
            backend = open_backend(model, width, height, name=name, threads=1)
            try:
                return backend.run(frame), backend.description.split(",")[0]
            finally:
                backend.close()
        except DeblurError as error:
            reasons.append(error.found)
        except Exception as error:  # what one engine cannot load, the next one may
            if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(name) from None
            reasons.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[:1]}")
    raise DeblurError(
        model.path,
        expected="a CPU engine that runs it, for its golden pair",
        found="; ".join(reasons),
        remedy='install one with: pip install ".[cpu]" in the checkout',
    )


def read_number(values: dict[str, Any], name: str) -> int:
    number = values.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"a golden pair's {name} is a whole number")
    return number


def read_picture(values: dict[str, Any]) -> Frames:
    png = values.get("png")
    if not isinstance(png, str):
        raise ValueError("a golden pair's output is PNG in base64")
    data = base64.b64decode(png, validate=True)
    size = png_size(data)
    if size is None or size[0] * size[1] > MOST_KEPT:
        raise ValueError("a golden pair's output is no picture, or one beyond reason")
    content = np.frombuffer(data, np.uint8)
    try:
        decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
    except cv2.error:  # of nothing at all, and of a size beyond reason
        decoded = None
    if decoded is None:
        raise ValueError("a golden pair's output is no picture")
    output = np.ascontiguousarray(decoded[None, :, :, ::-1], np.uint8)
    # OpenCV gives what it could read of a damaged PNG.
    if hashlib.sha256(output.tobytes()).hexdigest() != values.get("sha256"):
        raise ValueError("a golden pair's output is damaged")
    return output
