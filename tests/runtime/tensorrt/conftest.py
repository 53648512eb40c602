"""Models for real builds (a tiny network, and graphs as a test wants them), two
devices, and a plan as far as its sidecar is concerned: bytes that begin like one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deblurgan.runtime.contract import INPUT, OUTPUT, Model, ModelCard, open_model
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt import sidecar
from deblurgan.runtime.tensorrt.bindings import Bindings, find_bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan
from deblurgan.runtime.tensorrt.device import Device
from deblurgan.runtime.tensorrt.profiles import Profile, Shape
from deblurgan.runtime.tensorrt.sidecar import PlanCard, write_plan


@pytest.fixture(scope="session")
def rtx() -> Bindings:
    """TensorRT for RTX, which builds on a processor."""
    pytest.importorskip("tensorrt_rtx")
    return find_bindings(rtx=True)


@pytest.fixture(scope="session")
def shipped() -> Model:
    return find_model()


@pytest.fixture(scope="session")
def write_graph(card: ModelCard) -> Callable[..., Path]:
    """Writes nodes between ``frames`` and ``deblurred`` as a contract file, unchecked."""
    onnx = pytest.importorskip("onnx")

    def write(
        path: Path,
        nodes: Sequence[Any],
        constants: Sequence[Any] = (),
        *,
        domains: Sequence[str] = (),
        opset: int = 20,
        precision: str = "fp32",
        size: tuple[int, int] | None = None,
        batch: int | None = None,
    ) -> Path:
        width, height = size or ("width", "height")
        shape = [batch or "batch", height, width, 3]
        value, uint8 = onnx.helper.make_tensor_value_info, onnx.TensorProto.UINT8
        graph = onnx.helper.make_graph(
            list(nodes),
            "test",
            [value(INPUT, uint8, shape)],
            [value(OUTPUT, uint8, shape)],
            list(constants),
        )
        opsets = [onnx.helper.make_opsetid("", opset)]
        opsets += [onnx.helper.make_opsetid(domain, 1) for domain in domains]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.helper.set_model_props(model, replace(card, precision=precision).to_metadata())
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def write_tiny(write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """Writes two convolutions and an instance norm, as export writes such: ``precision``
    is fp32 or fp16.
    """
    onnx = pytest.importorskip("onnx")
    node, kind = onnx.helper.make_node, onnx.TensorProto

    def write(path: Path, precision: str = "fp32", **settings: Any) -> Path:
        dtype = np.float16 if precision == "fp16" else np.float32
        number = kind.FLOAT16 if precision == "fp16" else kind.FLOAT
        random = np.random.RandomState(1)

        def constant(name: str, values: Any, of: Any = dtype) -> Any:
            return onnx.numpy_helper.from_array(np.asarray(values, of), name)

        nodes = [
            node("Cast", [INPUT], ["x"], to=number),
            node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
            node("Mul", ["planes", "scale"], ["scaled"]),
            node("Conv", ["scaled", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            node("Cast", ["c1"], ["float"], to=kind.FLOAT),
            node("InstanceNormalization", ["float", "gain", "shift"], ["normed"]),
            node("Cast", ["normed"], ["back"], to=number),
            node("Relu", ["back"], ["r1"]),
            node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
            node("Add", ["c2", "scaled"], ["sum"]),
            node("Mul", ["sum", "white"], ["y"]),
            node("Clip", ["y", "low", "white"], ["clipped"]),
            node("Transpose", ["clipped"], ["rows"], perm=[0, 2, 3, 1]),
            node("Cast", ["rows"], [OUTPUT], to=kind.UINT8),
        ]
        constants = [
            constant("scale", 1 / 255),
            constant("white", 255),
            constant("low", 0),
            constant("w1", random.randn(8, 3, 3, 3) / 5),
            constant("b1", random.randn(8) / 5),
            constant("gain", np.ones(8), np.float32),
            constant("shift", np.zeros(8), np.float32),
            constant("w2", random.randn(3, 8, 3, 3) / 50),
        ]
        return write_graph(path, nodes, constants, precision=precision, **settings)

    return write


@pytest.fixture(scope="session")
def tiny(write_tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.onnx"))


@pytest.fixture
def device() -> Device:
    return Device(
        name="NVIDIA GeForce RTX 4090",
        chip="NVIDIA GeForce RTX 4090",
        compute_capability="8.9",
        multiprocessors=128,
        is_integrated=False,
        memory=24 << 30,
        driver="570.86.15",
        cuda="12.8",
    )


@pytest.fixture
def orin() -> Device:
    return Device(
        name="NVIDIA Jetson Orin Nano Developer Kit",
        chip="Orin",
        compute_capability="8.7",
        multiprocessors=8,
        is_integrated=True,
        memory=7620 << 20,
        driver="540.4.0",
        cuda="12.6",
    )


@pytest.fixture
def options() -> BuildOptions:
    return BuildOptions(Profile(Shape(1, 32, 48), Shape(1, 64, 96), Shape(2, 128, 192)))


@pytest.fixture
def built() -> BuiltPlan:
    content = b"ptrt" + bytes(range(256)) * 20
    return BuiltPlan(
        plan=content,
        seconds=12.345,
        tensorrt="10.3.0",
        flavour="tensorrt",
        targets=(),
        layers=17,
        device_memory=1 << 20,
    )


@pytest.fixture
def plan(
    tmp_path: Path,
    negative: Path,
    built: BuiltPlan,
    options: BuildOptions,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """``edge.plan`` and its sidecar, of the negative, as if built on an RTX 4090."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sidecar, "find_device", lambda: device)
    path = tmp_path / "edge.plan"
    write_plan(path, built, open_model(negative), options)
    return path


@pytest.fixture
def make_card(plan: Path) -> Callable[..., PlanCard]:
    """That plan's card with other values."""
    return lambda **values: replace(sidecar.open_plan(plan), **values)
