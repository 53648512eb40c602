"""Tiny generators, each exported once for the whole folder: an export takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from deblurgan.export.onnx_export import ExportReport, export_onnx
from deblurgan.export.search import QuantisationRequest
from deblurgan.runtime.contract import Frames
from deblurgan.train.checkpoint import Checkpoint
from deblurgan.train.networks import (
    EdgeGenerator,
    EdgeSettings,
    ResNetGenerator,
    ResNetSettings,
)

Exported = tuple[Checkpoint, ExportReport]

TRAINING = {"recipe": "tiny", "crops": 8}


def tiny_edge() -> EdgeGenerator:
    torch.manual_seed(1)
    generator = EdgeGenerator(EdgeSettings(channels=8, blocks=2, deep_blocks=1))
    # It starts as the identity, which would hide every fault.
    for weight in generator.tail.parameters():
        torch.nn.init.normal_(weight, 0, 0.05)
    return generator


def tiny_resnet(**settings: Any) -> ResNetGenerator:
    torch.manual_seed(2)
    generator = ResNetGenerator(ResNetSettings(channels=4, blocks=2, **settings))
    for name, statistics in generator.named_buffers():
        if name.endswith("running_mean"):
            statistics.normal_(0, 0.3)
        elif name.endswith("running_var"):
            statistics.uniform_(0.2, 2)
    return generator


@pytest.fixture(scope="session")
def edge() -> Checkpoint:
    return Checkpoint(tiny_edge().eval(), TRAINING)


@pytest.fixture(scope="session")
def make_resnet() -> Callable[..., ResNetGenerator]:
    return tiny_resnet


@pytest.fixture(scope="session")
def edge_fp32(edge: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return edge, export_onnx(
        edge,
        tmp_path_factory.mktemp("edge") / "edge.onnx",
        licence="CC0-1.0",
        quality={"psnr": 30.5},
    )


@pytest.fixture(scope="session")
def instance_fp32(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    # In training mode, as a caller may leave it: export turns dropout off.
    checkpoint = Checkpoint(tiny_resnet().train(), {})
    return checkpoint, export_onnx(checkpoint, tmp_path_factory.mktemp("instance") / "32.onnx")


@pytest.fixture(scope="session")
def instance_fp16(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    checkpoint = Checkpoint(tiny_resnet(affine=True), {})
    path = tmp_path_factory.mktemp("instance") / "16.onnx"
    return checkpoint, export_onnx(checkpoint, path, "fp16")


@pytest.fixture(scope="session")
def batch_fp16_frozen(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Frozen at 45x38 pixels, no multiple of the stride."""
    checkpoint = Checkpoint(tiny_resnet(norm="batch"), {})
    path = tmp_path_factory.mktemp("batch") / "16.onnx"
    return checkpoint, export_onnx(checkpoint, path, "fp16", (45, 38))


@pytest.fixture(scope="session")
def calibration_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of two sizes, with edges, gradients and noise."""
    folder = tmp_path_factory.mktemp("calibration")
    random = np.random.default_rng(5)
    for index, (height, width) in enumerate(((64, 80), (64, 80), (72, 64))):
        y, x = np.mgrid[:height, :width]
        picture = np.stack([x * 3, y * 3, (x + y) % 64 * 3], -1) + random.integers(0, 20, (1, 1, 3))
        picture[index * 8 : index * 8 + 20, 10:40] = (10, 220, 90)
        picture = picture + random.integers(0, 12, picture.shape)
        cv2.imwrite(str(folder / f"{index}.png"), picture.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def request_int8(calibration_folder: Path) -> QuantisationRequest:
    """By the quickest method, and without a search."""
    return QuantisationRequest(calibration_folder, method="min-max")


@pytest.fixture(scope="session")
def edge_int8(
    edge: Checkpoint, request_int8: QuantisationRequest, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    path = tmp_path_factory.mktemp("edge") / "8.onnx"
    return edge, export_onnx(edge, path, "int8", quantisation=request_int8)


@pytest.fixture(scope="session")
def instance_int8(
    request_int8: QuantisationRequest, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    checkpoint = Checkpoint(tiny_resnet(), {})
    path = tmp_path_factory.mktemp("instance") / "8.onnx"
    return checkpoint, export_onnx(checkpoint, path, "int8", quantisation=request_int8)


@pytest.fixture(scope="session")
def instance_int8_half(
    request_int8: QuantisationRequest, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    checkpoint = Checkpoint(tiny_resnet(), {})
    path = tmp_path_factory.mktemp("instance") / "8-16.onnx"
    return checkpoint, export_onnx(checkpoint, path, "int8-fp16", quantisation=request_int8)


@pytest.fixture(scope="session")
def batch_int8_frozen(
    request_int8: QuantisationRequest, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """Frozen at 45x38 pixels, which no calibration picture has."""
    checkpoint = Checkpoint(tiny_resnet(norm="batch"), {})
    path = tmp_path_factory.mktemp("batch") / "8.onnx"
    return checkpoint, export_onnx(checkpoint, path, "int8", (45, 38), quantisation=request_int8)


@pytest.fixture(scope="session")
def make_frames() -> Callable[..., Frames]:
    """Frames with edges and noise: ``make_frames(height, width, batch=1)``."""

    def make(height: int, width: int, batch: int = 1) -> Frames:
        random = np.random.default_rng(height * width + batch)
        frames = random.integers(0, 60, (batch, height, width, 3), np.uint8)
        frames[:, height // 4 : height // 2, width // 3 :] += 180
        frames[:, :, : width // 4, 1] += 90
        return frames

    return make


@pytest.fixture(scope="session")
def run_file() -> Callable[[Path, Frames], Frames]:
    """Runs a model file in ONNX Runtime as it stands, without this project's backends."""
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(path: Path, frames: Frames) -> Frames:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        made: Frames = session.run(["deblurred"], {"frames": frames})[0]
        return made

    return run
