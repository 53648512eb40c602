"""Which frames a plan takes: a profile of TensorRT's, out of sizes in pixels.

A plan is tuned for ``opt`` and takes every size from ``min`` to ``max``; when all
three are one, it is smaller, faster and wants a quarter of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.golden import LARGEST
from deblurgan.runtime.onnx_file import read_onnx

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Shape:
    """``[batch, height, width, 3]`` without the channels; sizes in pixels."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.width}x{self.height}"

    @property
    def dimensions(self) -> tuple[int, int, int, int]:
        return (self.batch, self.height, self.width, 3)


@dataclass(frozen=True)
class Profile:
    min: Shape
    opt: Shape
    max: Shape

    @property
    def is_fixed(self) -> bool:
        return self.min == self.max

    def contains(self, batch: int, height: int, width: int) -> bool:
        return (
            self.min.batch <= batch <= self.max.batch
            and self.min.height <= height <= self.max.height
            and self.min.width <= width <= self.max.width
        )


def choose_profile(
    model: Model,
    size: Size | None = None,
    min: Size | None = None,
    opt: Size | None = None,
    max: Size | None = None,
    batch: int = 1,
) -> Profile:
    """The profile for one ``size``, or for all from ``min`` to ``max``.

    Sizes are (width, height). ``min`` is otherwise the smallest that the model
    takes, ``opt`` the same as ``max``; a model frozen at a size needs none.
    ``batch`` is the most frames at a time, and what it is tuned for. Raises
    :class:`DeblurError` for sizes that the model does not take, or in no order.
    """
    given = [n for n, s in (("--min", min), ("--opt", opt), ("--max", max)) if s is not None]
    if size is not None and given:
        raise DeblurError(
            "--size",
            expected="either one size or a range of them",
            found=f"--size with {', '.join(given)}",
            remedy="leave out --size, or the others",
        )
    check_batch(model, batch)
    only, largest = size or (None if given else model.size), max or model.size
    if only is not None:
        bounds = {"--size": only}
    elif largest is not None:
        smallest = model.size or (model.card.minimum_size, model.card.minimum_size)
        bounds = {"--min": min or smallest, "--opt": opt or largest, "--max": largest}
    else:
        raise DeblurError(
            "--max" if given else "--size",
            expected="the sizes of the frames that the plan is to take",
            found=f"only {', '.join(given)}" if given else f"none, and {model.path} takes any",
            remedy="say --size 1280x720 for one, or --min 640x360 --opt 1280x720 --max 1920x1088",
        )
    for name, (width, height) in reversed(bounds.items()):  # --opt may be --max's
        check_size(model, name, width, height)
    check_order(bounds)
    sizes = list(bounds.values())
    low, best, high = sizes if len(sizes) == 3 else sizes * 3
    return Profile(
        Shape(1, low[1], low[0]), Shape(batch, best[1], best[0]), Shape(batch, high[1], high[0])
    )


def check_batch(model: Model, batch: int) -> None:
    # Also asked of a checkpoint, still to be exported, which never freezes it.
    is_file = model.path.suffix == ".onnx"
    frozen = read_onnx(model.path).inputs[0].shape[0] if is_file else None
    if not 1 <= batch <= LARGEST:
        raise DeblurError(
            "--batch",
            expected=f"how many frames at a time, 1 to {LARGEST}",
            found=str(batch),
            remedy="leave it out for one",
        )
    if isinstance(frozen, int) and batch != frozen:
        raise DeblurError(
            "--batch",
            expected=f"{frozen}, at which the batch of {model.path} is frozen",
            found=str(batch),
            remedy="leave it out, or export again: deblur-export onnx CHECKPOINT -o MODEL.onnx",
        )


def check_size(model: Model, name: str, width: int, height: int) -> None:
    smallest, found = model.card.minimum_size, f"{width}x{height}"
    if model.size is not None and (width, height) != model.size:
        raise DeblurError(
            name,
            expected=f"{model.size[0]}x{model.size[1]}, the size {model.path} was frozen at",
            found=found,
            remedy="leave it out, or export without --size: deblur-export onnx CHECKPOINT",
        )
    if min(width, height) < smallest:
        raise DeblurError(
            name,
            expected=f"at least {smallest}x{smallest}, the smallest that {model.path} takes",
            found=found,
            remedy="name a larger one",
        )
    if max(width, height) > LARGEST:
        raise DeblurError(
            name,
            expected=f"sides of at most {LARGEST} pixels",
            found=found,
            remedy="name a smaller one, and let larger frames go through in tiles",
        )


def check_order(bounds: dict[str, Size]) -> None:
    for (name, small), (larger, large) in pairwise(bounds.items()):
        if small[0] > large[0] or small[1] > large[1]:
            raise DeblurError(
                name,
                expected=f"no wider and no higher than {larger} {large[0]}x{large[1]}",
                found=f"{small[0]}x{small[1]}",
                remedy="let them grow from --min over --opt to --max, in width and in height",
            )
