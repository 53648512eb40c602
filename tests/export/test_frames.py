from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from deblurgan.export.foreign import foreign_checkpoint
from deblurgan.export.frames import FramesModule, NormInFloat, export_module, reference_module
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.difference import TOLERANCES
from deblurgan.train.checkpoint import Checkpoint
from deblurgan.train.evaluation import restore
from deblurgan.train.networks import EdgeGenerator, ResNetGenerator

MakeResNet = Callable[..., ResNetGenerator]


def test_a_generator_that_adds_nothing_returns_the_frames(
    make_frames: Callable[..., Frames],
) -> None:
    frames = torch.from_numpy(make_frames(35, 50, batch=2))
    assert torch.equal(FramesModule(EdgeGenerator())(frames), frames)


def test_it_makes_the_picture_that_training_evaluates(
    edge: Checkpoint, make_frames: Callable[..., Frames]
) -> None:
    frames = torch.from_numpy(make_frames(35, 50))
    made = reference_module(edge.generator)(frames)
    evaluated = restore(edge.generator, frames[0].permute(2, 0, 1))
    assert torch.equal(made[0].permute(2, 0, 1), evaluated)
    assert not torch.equal(made, frames)


def test_dropout_is_off_and_the_callers_generator_untouched(
    make_resnet: MakeResNet, make_frames: Callable[..., Frames]
) -> None:
    generator = make_resnet(norm="batch").train()
    frames = torch.from_numpy(make_frames(32, 32))
    for module in (reference_module(generator), export_module(generator, "fp32")):
        assert torch.equal(module(frames), module(frames))
    assert generator.training
    assert next(generator.parameters()).requires_grad


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "batch"},
        {"norm": "batch", "padding": "zeros", "convolutions": 1},
        {"norm": "instance", "tracked": True},
        {"norm": "instance", "tracked": True, "affine": True},
    ],
    ids=str,
)
def test_folding_a_fixed_norm_leaves_the_picture(
    settings: dict[str, Any], make_resnet: MakeResNet, make_frames: Callable[..., Frames]
) -> None:
    generator = make_resnet(**settings)
    folded = export_module(generator, "fp32")
    assert not [m for m in folded.modules() if getattr(m, "running_mean", None) is not None]
    frames = torch.from_numpy(make_frames(32, 44))
    difference = folded(frames).int() - reference_module(generator)(frames).int()
    assert int(difference.abs().max()) <= 1


def test_fp16_halves_everything_but_the_norms(make_resnet: MakeResNet) -> None:
    module = export_module(make_resnet(affine=True), "fp16")
    norms = [m for m in module.modules() if isinstance(m, NormInFloat)]
    in_float = {id(p) for norm in norms for p in norm.parameters()}
    assert len(norms) == 9
    for parameter in module.parameters():
        wanted = torch.float32 if id(parameter) in in_float else torch.float16
        assert parameter.dtype == wanted


@pytest.mark.parametrize("settings", [{}, {"norm": "batch"}], ids=str)
def test_a_half_run_in_pytorch_stays_near(
    settings: dict[str, Any], make_resnet: MakeResNet, make_frames: Callable[..., Frames]
) -> None:
    """CPU engines compute fp16 files in fp32; this is truly half."""
    generator = make_resnet(**settings)
    frames = torch.from_numpy(make_frames(32, 44))
    difference = export_module(generator, "fp16")(frames).int()
    difference -= reference_module(generator)(frames).int()
    assert int(difference.abs().max()) <= 3


def high_contrast(height: int, width: int) -> Frames:
    """Black and white in stripes, blocks and single pixels: what drives activations furthest."""
    y, x = np.mgrid[:height, :width]
    frame = np.where((x // 8 + y // 8) % 2, 255, 0)
    frame[: height // 3] = np.where(x[: height // 3] % 2, 255, 0)
    frame[:, : width // 4] = 255
    frame[height // 2 :, -(width // 5) :] = 0
    frame[::37, ::41] = 255 - frame[::37, ::41]
    return np.repeat(frame[None, ..., None], 3, 3).astype(np.uint8)


@pytest.mark.parametrize(
    "size",
    [(96, 160), pytest.param((1080, 1920), marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
    ids=str,
)
@pytest.mark.parametrize("settings", [{}, {"norm": "batch"}], ids=str)
def test_high_contrast_frames_fit_in_half_precision(
    settings: dict[str, Any], size: tuple[int, int], make_resnet: MakeResNet
) -> None:
    """A CPU engine would not show an overflow; PyTorch, truly in half, does."""
    generator = make_resnet(**settings)
    frames = torch.from_numpy(high_contrast(*size))
    reference, largest = reference_module(generator), 0.0

    def look(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal largest
        if output.is_floating_point():
            largest = max(largest, float(output.abs().max()))

    for module in reference.modules():
        module.register_forward_hook(look)
    with torch.inference_mode():
        wanted = reference(frames).int()
        made = export_module(generator, "int8-fp16")(frames).int()
    assert 1 < largest < 6e4
    difference = (made - wanted).abs()
    assert int(difference.max()) <= TOLERANCES["fp16"].largest
    assert float(difference.float().mean()) <= TOLERANCES["fp16"].mean


def test_a_sum_of_squares_over_a_frame_would_overflow_in_half(make_resnet: MakeResNet) -> None:
    """Why norms stay in fp32: the same norm in half loses the picture's statistics."""
    activation = torch.full((1, 4, 540, 960), 3.0)
    activation[..., ::2] = -3.0
    (norm, *_) = [
        m for m in export_module(make_resnet(), "fp16").modules() if isinstance(m, NormInFloat)
    ]
    normed = norm(activation.half())
    assert normed.dtype == torch.float16
    assert float((normed.float().abs() - 1).abs().max()) < 0.01
    assert torch.isinf(activation.half().square().sum(dtype=torch.float16))


class Tapped(nn.Sequential):
    """Adds up all that its layers make, and not the last alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x)
        for layer in self:
            x = layer(x)
            total = total + x
        return total


def fixed_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    norm.running_mean, norm.running_var = torch.full((channels,), 0.3), torch.full((channels,), 4.0)
    return norm


@pytest.mark.parametrize(
    "layers",
    [
        lambda: Tapped(nn.Conv2d(3, 3, 3, padding=1), fixed_norm(3)),
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 3, 3, padding=1, groups=3), fixed_norm(3)),
        lambda: nn.Sequential(weight_norm(nn.Conv2d(3, 3, 3, padding=1)), fixed_norm(3)),
        lambda: nn.Sequential(spectral_norm(nn.Conv2d(3, 3, 3, padding=1)), fixed_norm(3)),
    ],
    ids=["tapped", "in groups", "weight norm", "spectral norm"],
)
def test_a_norm_that_cannot_be_folded_leaves_the_picture(
    layers: Callable[[], nn.Module], make_frames: Callable[..., Frames]
) -> None:
    torch.manual_seed(7)
    generator = foreign_checkpoint(layers(), name="mine", stride=1).generator
    frames = torch.from_numpy(make_frames(32, 44))
    difference = export_module(generator, "fp32")(frames).int()
    difference -= reference_module(generator)(frames).int()
    assert int(difference.abs().max()) <= 1
