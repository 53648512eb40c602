from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from deblurgan.export.frames import FramesModule, NormInFloat, export_module, reference_module
from deblurgan.runtime.contract import Frames
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
