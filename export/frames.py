"""A generator with the contract around it: uint8 frames in, uint8 frames out."""

from __future__ import annotations

import copy
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deblurgan.train.networks import Generator

Precision = Literal["fp32", "fp16", "int8", "int8-fp16"]
HALF = ("fp16", "int8-fp16")


class FramesModule(nn.Module):
    """Deblurs uint8 ``[N, H, W, 3]``, RGB, full range, into the same type and shape.

    ``inside`` is what the generator computes in; what surrounds it is fp32.
    """

    def __init__(self, generator: Generator, inside: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.generator = generator
        self.inside = inside
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        # TensorRT takes no Transpose on uint8: cast first here, last at the end.
        blurred = frames.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1
        deblurred = self.generator(blurred.to(self.inside)).to(torch.float32)
        levels: Tensor = ((deblurred + 1) * 127.5).round().clamp(0, 255)
        return levels.permute(0, 2, 3, 1).to(torch.uint8)


def reference_module(generator: Generator) -> FramesModule:
    """The generator's copy as PyTorch runs it in fp32, dropout off: what files are held against."""
    return FramesModule(copy_for_inference(generator))


def export_module(generator: Generator, precision: Precision) -> FramesModule:
    """The generator's copy as it is exported: fixed norms folded, weights in ``precision``.

    For int8 that is what the rest is in, before any layer is quantised.
    """
    ready = copy_for_inference(generator)
    # Folded before halving: a running variance may not fit in half precision.
    fold_fixed_norms(ready)
    if precision not in HALF:
        return FramesModule(ready)
    keep_norms_in_float(ready.half())
    return FramesModule(ready, torch.float16)


def copy_for_inference(generator: Generator) -> Generator:
    return copy.deepcopy(generator).cpu().float().eval().requires_grad_(False)


def fold_fixed_norms(module: nn.Module) -> None:
    """Make every norm with tracked statistics part of the convolution before it.

    That is batch norm, and instance norm whose statistics were tracked in
    training: at inference both only scale and shift. Where something may see
    what is between the two, they stay as they are.
    """
    for sequence in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        if type(sequence).forward is not nn.Sequential.forward:
            continue
        for index in range(1, len(sequence)):
            layer, norm = sequence[index - 1], sequence[index]
            if can_take_a_norm(layer) and has_fixed_statistics(norm):
                sequence[index - 1] = fuse_conv_bn_eval(
                    cast(nn.Conv2d, layer),
                    cast(nn.BatchNorm2d, norm),
                    transpose=isinstance(layer, nn.ConvTranspose2d),
                )
                sequence[index] = nn.Identity()


def can_take_a_norm(module: nn.Module) -> bool:
    # PyTorch folds into a transposed convolution as if it had one group.
    one_group = isinstance(module, nn.ConvTranspose2d) and module.groups == 1
    return (isinstance(module, nn.Conv2d) or one_group) and is_plain(module)


def has_fixed_statistics(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d)
        and module.running_mean is not None
        and is_plain(module)
    )


def is_plain(module: nn.Module) -> bool:
    """Nothing computes its weights, as weight and spectral norm do, or looks on."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return not hooked and not parametrize.is_parametrized(module)


def keep_norms_in_float(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.InstanceNorm2d | nn.GroupNorm):
            setattr(module, name, NormInFloat(child))
        else:
            keep_norms_in_float(child)


class NormInFloat(nn.Module):
    """A norm among half-typed layers whose statistics are taken in fp32: a sum
    of squares over a 720p frame is more than half precision holds.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.float())
        return normed.half()
