"""The proof that a model file still makes the picture that PyTorch makes.

Both run on the pictures that this package carries; the file in a CPU engine.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames, open_model
from deblurgan.runtime.difference import TOLERANCES, Difference, measure_difference
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import ENGINES, OUT_OF_MEMORY

PICTURES = Path(__file__).with_name("pictures")
# Half precision ends at 65504; other pictures than ours may go further.
LARGEST_IN_HALF = 30_000.0
# Int8 is a few levels off everywhere; near black and white that is no saturation.
NEAR_END, MOST_SATURATED = 16, 0.01
ONE_SIZE = (
    "it works at one frame size only: export fp32 or fp16 with --size WIDTHxHEIGHT, or make what "
    "depends on the size out of tensors (torch.ones_like(x), not a number kept from x.shape)"
)
NEAR_ENOUGH = 45.0  # dB, where half precision's own error begins to count


def prove(path: Path, reference: nn.Module) -> Difference:
    """Compare a contract file with ``reference``, uint8 ``[N, H, W, 3]`` in and out.

    Raises :class:`DeblurError` when they differ by more than the tolerance for
    the file's precision, and when no engine is installed. Int8 has no tolerance:
    how much it may lose is for the search to keep, and only a broken picture
    is refused (:func:`check_whole`).
    """
    engine = find_engine()
    model = open_model(path)
    pairs: list[tuple[Frames, Frames]] = []
    for picture in load_pictures(model.size):
        height, width = picture.shape[:2]
        frames = np.ascontiguousarray(picture[None])
        with engine_failures_told(engine, width, height):
            backend = open_backend(model, width, height, name=engine)
            try:
                made = backend.run(frames)
            finally:
                backend.close()
        pairs.append((made, run_module(reference, frames)))
    check_shapes(pairs)
    difference = measure_difference(pairs)
    if model.card.precision.startswith("int8"):
        check_whole(pairs)
    else:
        check_difference(difference, model.card.precision)
    return difference


@contextmanager
def engine_failures_told(engine: str, width: int, height: int) -> Iterator[None]:
    """What an engine raises at a size that PyTorch takes is a graph made for another size."""
    try:
        yield
    except DeblurError:
        raise
    except Exception as error:  # each engine has kinds of its own
        check_interrupted()
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(said):
            raise too_little_memory(engine, width, height) from error
        raise DeblurError(
            "export",
            expected=f"a file that {engine} runs on a frame of {width}x{height}",
            found=said,
            remedy=ONE_SIZE,
        ) from error


def check_shapes(pairs: Sequence[tuple[Frames, Frames]]) -> None:
    for made, expected in pairs:
        if made.shape != expected.shape:
            raise DeblurError(
                "export",
                expected=f"a picture of shape {list(expected.shape)}",
                found=str(list(made.shape)),
                remedy=ONE_SIZE,
            )


def check_whole(pairs: list[tuple[Frames, Frames]]) -> None:
    """Refuse int8 pictures, each with fp32's, that are broken.

    That is saturation: more than ``MOST_SATURATED`` of the
    values at 0 or 255 where fp32 is ``NEAR_END`` levels and more from there.
    What is not a number becomes one of the two, and is found so.
    """
    found = None
    for made, expected in pairs:
        dark = (made == 0) & (expected >= NEAR_END)
        bright = (made == 255) & (expected <= 255 - NEAR_END)
        share = float(np.mean(dark | bright))
        if share > MOST_SATURATED:
            found = f"{share:.1%} of the picture driven to black or white"
            break
    if found is not None:
        raise DeblurError(
            "export",
            expected="an int8 picture like fp32's",
            found=found,
            remedy="calibrate on pictures like those to be deblurred, or give --pairs, "
            "by which the layers that do not survive int8 are found",
        )


def check_half(difference: Difference, in_float: Difference) -> None:
    """Refuse an int8-fp16 file that is farther from PyTorch than int8 amid fp32 is:
    then ranges have met the wrong tensors, or half precision does not hold.
    """
    allowed = min(in_float.psnr, NEAR_ENOUGH) - 1
    if difference.psnr < allowed:
        raise DeblurError(
            "export",
            expected=f"at least {allowed:.1f} dB between int8-fp16 and PyTorch, as in int8",
            found=f"{difference.psnr:.1f} dB",
            remedy="this generator does not survive half precision; export with --precision int8",
        )


def run_module(module: nn.Module, frames: Frames) -> Frames:
    """What PyTorch makes of uint8 ``[N, H, W, 3]``; raises :class:`DeblurError` for too many."""
    try:
        with torch.inference_mode():
            made: Frames = module(torch.from_numpy(frames)).numpy()
    except RuntimeError as error:
        if not OUT_OF_MEMORY.search(str(error)):
            raise
        raise too_little_memory("PyTorch", *frames.shape[2:0:-1]) from error
    return made


def too_little_memory(engine: str, width: int, height: int) -> DeblurError:
    return DeblurError(
        "export",
        expected=f"memory to run the file on a frame of {width}x{height}",
        found=f"too little ({engine})",
        remedy="close other programs",
    )


def find_engine(engines: Sequence[str] | None = None) -> str:
    """The first backend that is installed, of those that proofs run on if none are named.

    Raises :class:`DeblurError` where none is.
    """
    engines = engines or ENGINES
    for name in engines:
        if importlib.util.find_spec(name) is not None:
            return name
    raise DeblurError(
        "export",
        expected="an engine to run model files on this processor",
        found=f"neither {' nor '.join(engines)}",
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


def check_difference(difference: Difference, precision: str) -> None:
    """Refuse a picture farther from PyTorch's than ``precision`` may be."""
    tolerance = TOLERANCES[precision]
    if not difference.within(tolerance):
        remedy = "this generator does not survive that precision, or the exporter has a fault"
        if precision != "fp32":
            remedy += "; export with --precision fp32"
        raise DeblurError(
            "export",
            expected=f"a file that makes PyTorch's picture in {precision} "
            f"(largest difference {tolerance.largest}, mean {tolerance.mean} levels)",
            found=str(difference),
            remedy=remedy,
        )


def check_range(reference: nn.Module, size: tuple[int, int] | None = None) -> float:
    """The largest activation of an fp32 module on the package's pictures.

    CPU engines compute half-typed graphs in fp32, so only this shows what
    would overflow on a GPU. Raises :class:`DeblurError` when it would.
    """
    seen = [0.0]

    def look(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            seen.append(float(output.abs().max()))

    hooks = [module.register_forward_hook(look) for module in reference.modules()]
    try:
        for picture in load_pictures(size):
            run_module(reference, np.ascontiguousarray(picture[None]))
    finally:
        for hook in hooks:
            hook.remove()
    largest = float(np.max(seen))  # not a number, if any is none
    if not largest <= LARGEST_IN_HALF:
        raise DeblurError(
            "--precision",
            expected=f"activations that fit in half precision (below {LARGEST_IN_HALF:.0f})",
            found=f"{largest:.0f}",
            remedy="export with --precision fp32",
        )
    return largest
