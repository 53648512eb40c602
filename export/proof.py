"""The proof that a model file still makes the picture that PyTorch makes.

Both run on the pictures that this package carries; the file in a CPU engine.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.contract import Frames, Model, open_model
from deblurgan.runtime.difference import TOLERANCES, Difference, measure_difference
from deblurgan.runtime.errors import DeblurError

PICTURES = Path(__file__).with_name("pictures")
# ONNX Runtime first: it computes in fp32 whatever the processor offers.
ENGINES = ("onnxruntime", "openvino")
# Half precision ends at 65504; other pictures than ours may go further.
LARGEST_IN_HALF = 30_000.0


def prove(path: Path, reference: nn.Module) -> Difference:
    """Compare a contract file with ``reference``, uint8 ``[N, H, W, 3]`` in and out.

    Raises :class:`DeblurError` when they differ by more than the tolerance
    for the file's precision, and when no engine is installed.
    """
    engine = find_engine()
    model = open_model(path)
    pairs = []
    for picture in load_pictures(model.size):
        height, width = picture.shape[:2]
        frames = np.ascontiguousarray(picture[None])
        backend = open_backend(model, width, height, name=engine)
        try:
            made = backend.run(frames)
        finally:
            backend.close()
        with torch.inference_mode():
            expected = reference(torch.from_numpy(frames)).numpy()
        pairs.append((made, expected))
    difference = measure_difference(pairs)
    check_difference(model, difference)
    return difference


def find_engine() -> str:
    """The name of the backend that proofs run on; raises :class:`DeblurError` for none."""
    for name in ENGINES:
        if importlib.util.find_spec(name) is not None:
            return name
    raise DeblurError(
        "export",
        expected="an engine to compare the file with PyTorch",
        found="neither onnxruntime nor openvino",
        remedy='pip install ".[cpu]" in the checkout (or [gpu] where there is an NVIDIA GPU)',
    )


def load_pictures(size: tuple[int, int] | None = None) -> Iterator[Frames]:
    """The package's pictures, RGB uint8 ``[H, W, 3]``, scaled to ``size`` (width, height)."""
    for path in sorted(PICTURES.glob("*.jpg")):
        decoded = cv2.imread(str(path))
        if decoded is None:
            raise RuntimeError(f"cannot read {path}, which came with this package")
        picture = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        if size is not None:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        yield picture.astype(np.uint8, copy=False)


def check_difference(model: Model, difference: Difference) -> None:
    tolerance = TOLERANCES[model.card.precision]
    if not difference.within(tolerance):
        remedy = "this generator does not survive that precision, or the exporter has a fault"
        if model.card.precision != "fp32":
            remedy += "; export with --precision fp32"
        raise DeblurError(
            "export",
            expected=f"a file that makes PyTorch's picture in {model.card.precision} "
            f"(largest difference {tolerance.largest}, mean {tolerance.mean} levels)",
            found=str(difference),
            remedy=remedy,
        )


def check_range(reference: nn.Module, size: tuple[int, int] | None = None) -> float:
    """The largest activation of an fp32 module on the package's pictures.

    CPU engines compute half-typed graphs in fp32, so only this shows what
    would overflow on a GPU. Raises :class:`DeblurError` when it would.
    """
    largest = 0.0

    def look(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor) and output.is_floating_point():
            largest = max(largest, float(output.abs().max()))

    hooks = [module.register_forward_hook(look) for module in reference.modules()]
    try:
        for picture in load_pictures(size):
            with torch.inference_mode():
                reference(torch.from_numpy(np.ascontiguousarray(picture[None])))
    finally:
        for hook in hooks:
            hook.remove()
    if not largest <= LARGEST_IN_HALF:  # also when it is not a number
        raise DeblurError(
            "--precision",
            expected=f"activations that fit in half precision (below {LARGEST_IN_HALF:.0f})",
            found=f"{largest:.0f}",
            remedy="export with --precision fp32",
        )
    return largest
