"""Networks from elsewhere: any PyTorch module from pictures to pictures can be exported.

>>> from deblurgan.export.foreign import foreign_checkpoint
>>> export_onnx(foreign_checkpoint(net, name="mine", stride=8), Path("mine.onnx"))

A network that works on other values than [-1, 1] is put into a module that scales.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import Checkpoint
from deblurgan.train.networks import GENERATORS, MINIMUM_SIZE, Generator, count_parameters

EXPECTED = "a module that makes float [N, 3, H, W] in [-1, 1] into the same"
# Far above what another order of sums makes of a value, far below a grey level.
SAME = 1e-3


@dataclass(frozen=True)
class ForeignSettings:
    """What a model file says of a network that this project cannot build:
    the name of its class, and ``values`` as its owner gives them (JSON).
    """

    network: str
    values: dict[str, Any]


class ForeignGenerator(Generator):
    """A network from elsewhere, padded to its stride and cropped as our own are."""

    def __init__(
        self, network: nn.Module, name: str, stride: int, minimum_size: int, settings: Any
    ) -> None:
        super().__init__()
        self.network = network
        self.name, self.stride, self.minimum_size = name, stride, minimum_size
        self.settings = settings

    def restore(self, blurred: Tensor) -> Tensor:
        return self.network(blurred)


def foreign_checkpoint(
    module: nn.Module,
    *,
    name: str,
    stride: int = 4,
    minimum_size: int = MINIMUM_SIZE,
    settings: dict[str, Any] | None = None,
) -> Checkpoint:
    """A module ``[N, 3, H, W] -> [N, 3, H, W]``, RGB in [-1, 1], ready to be exported.

    The module only ever sees heights and widths that are multiples of ``stride``:
    pictures are padded to them by reflection, and cropped. ``minimum_size`` is the
    smallest height and width in pixels, at least half of the stride, which such
    padding needs. ``name`` and ``settings`` (JSON) go into the model file.

    What is exported is a copy on the processor, in fp32 and in eval mode; the
    caller's module stays as it is. Raises ``DeblurError`` for a module that cannot
    be copied, or fails on two noise pictures: with another number of channels or
    another size, with values that are not finite, or where a picture comes out
    differently alone and in a batch (dropout, a batch's own statistics).
    """
    check_description(name, stride, minimum_size, settings)
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise DeblurError(
            name,
            expected="a torch.nn.Module",
            found=f"a {type(module).__name__}",
            remedy="give the network itself, not its weights, a file or a scripted form",
        )
    try:
        network = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    except Exception as error:  # anything: it is other people's code
        raise DeblurError(
            name,
            expected="a module that copy.deepcopy() copies",
            found=first_line(error),
            remedy="remove hooks and weight norms from it, or build it anew and load its weights",
        ) from error
    described = ForeignSettings(type(module).__name__, settings or {})
    smallest = max(minimum_size, stride // 2 + 1)
    generator = ForeignGenerator(network, name, stride, smallest, described).eval()
    check_pictures(generator)
    recognised = f"{described.network} from elsewhere, {count_parameters(network):,} parameters"
    return Checkpoint(generator, {}, recognised)


def check_description(
    name: str, stride: int, minimum_size: int, settings: dict[str, Any] | None
) -> None:
    if not name or name in GENERATORS:
        raise DeblurError(
            "name",
            expected=f"one that none of our networks has ({', '.join(GENERATORS)})",
            found=repr(name),
            remedy="for example name='mine'",
        )
    if stride < 1 or minimum_size < 1:
        raise DeblurError(
            name,
            expected="a stride and a minimum_size of at least 1 pixel",
            found=f"{stride} and {minimum_size}",
            remedy="a network that takes any size has stride=1",
        )
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise DeblurError(
            name,
            expected="settings that JSON can hold",
            found=first_line(error),
            remedy="give numbers, texts, lists and dictionaries",
        ) from None


@torch.no_grad()
def check_pictures(generator: ForeignGenerator) -> None:
    """Run the network on noise, in a batch and one by one."""
    least = -(-generator.minimum_size // generator.stride) * generator.stride
    noise = torch.Generator().manual_seed(1)
    # Not square, so that a network which turns height and width round is noticed.
    blurred = torch.rand(2, 3, least, least + generator.stride, generator=noise) * 2 - 1
    together = restored(generator, blurred)
    alone = torch.cat([restored(generator, picture[None]) for picture in blurred])
    apart = float((together - alone).abs().max())
    if apart > SAME * max(1.0, float(together.abs().max())):
        raise DeblurError(
            generator.name,
            expected="a picture that comes out the same alone and in a batch",
            found=f"values {apart:.2g} apart",
            remedy="take dropout, noise and a batch's own statistics out of it for inference",
        )


def restored(generator: ForeignGenerator, blurred: Tensor) -> Tensor:
    """What the network makes of pictures; raises ``DeblurError`` where that is no picture."""
    shape = list(blurred.shape)
    try:
        made: Any = generator.restore(blurred.clone())
    except Exception as error:  # anything: it is other people's code
        raise unfit(generator, shape, f"{type(error).__name__}: {first_line(error)}") from error
    if not isinstance(made, Tensor):
        raise unfit(generator, shape, f"a {type(made).__name__}")
    if list(made.shape) != shape or not made.is_floating_point():
        raise unfit(generator, shape, f"{made.dtype} {list(made.shape)}".removeprefix("torch."))
    if not made.isfinite().all():
        raise unfit(generator, shape, "values that are not finite")
    return made


def unfit(generator: ForeignGenerator, shape: list[int], found: str) -> DeblurError:
    return DeblurError(
        generator.name,
        expected=EXPECTED,
        found=f"{found} out of {shape}",
        remedy=f"put it into a module that does so; its stride is said to be {generator.stride}",
    )


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
