"""What export writes, TensorRT for RTX takes: every kind of model file is built
ahead of time on the processor, for each architecture, in one size and in a range.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.model_store import FOLDER
from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, build_plan, open_builder
from deblurgan.runtime.tensorrt.parser import parse_onnx
from deblurgan.runtime.tensorrt.profiles import choose_profile

MakeModel = Callable[[str, str, bool], Model]

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120")
SIZE = (96, 64)
NETWORKS = ("edge", "instance", "batch")
PRECISIONS = ("fp32", "fp16", "int8", "int8-fp16")
# Each network, int8 in both companies and a frozen file: what the others share
# with these they share with all of the slow test.
QUICK = (("edge", "int8", False), ("instance", "int8-fp16", False), ("batch", "fp16", True))

pytestmark = pytest.mark.usefixtures("rtx")


@pytest.fixture(scope="session")
def make_model(photo: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """``make_model(network, precision, frozen)``: what export writes for a tiny one, once."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from deblurgan.export.onnx_export import export_onnx
    from deblurgan.export.search import QuantisationRequest
    from deblurgan.train.checkpoint import Checkpoint
    from deblurgan.train.networks import (
        EdgeGenerator,
        EdgeSettings,
        ResNetGenerator,
        ResNetSettings,
    )

    folder = tmp_path_factory.mktemp("exported")
    for index, left in enumerate((0, 90)):
        cv2.imwrite(str(folder / f"{index}.png"), photo[:64, left : left + 64])

    def make_generator(network: str) -> Any:
        torch.manual_seed(1)
        if network != "edge":
            return ResNetGenerator(ResNetSettings(channels=4, blocks=2, norm=network))
        generator = EdgeGenerator(EdgeSettings(channels=8, blocks=2, deep_blocks=1))
        for weight in generator.tail.parameters():  # all zero at first
            torch.nn.init.normal_(weight, 0, 0.05)
        return generator

    @functools.cache
    def make(network: str, precision: Any, frozen: bool) -> Model:
        path = folder / f"{network}-{precision}{'-frozen' if frozen else ''}.onnx"
        request = QuantisationRequest(folder, method="min-max")
        export_onnx(
            Checkpoint(make_generator(network).eval(), {}),
            path,
            precision,
            SIZE if frozen else None,
            quantisation=request if precision.startswith("int8") else None,
        )
        return open_model(path)

    return make


def build_both_ways(model: Model, targets: tuple[str, ...]) -> None:
    """For one size, and where the file allows it for a range with a batch."""
    profiles = [choose_profile(model, model.size or SIZE)]
    if model.size is None:
        smallest = (model.card.minimum_size,) * 2
        profiles.append(choose_profile(model, min=smallest, opt=SIZE, max=(320, 240), batch=2))
    for profile in profiles:
        built = build_plan(model, BuildOptions(profile, targets=targets))
        assert built.targets == targets
        assert len(built.plan) > 50_000


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnx")), ids=lambda path: path.name)
def test_a_shipped_model_is_built_for_every_architecture(path: Path) -> None:
    model = open_model(path)
    for profile in (
        choose_profile(model, (1280, 720)),
        choose_profile(model, min=(64, 64), opt=(1280, 720), max=(1920, 1088), batch=2),
    ):
        built = build_plan(model, BuildOptions(profile, targets=TARGETS))
        assert len(built.plan) > model.path.stat().st_size // 2


@pytest.mark.parametrize(
    ("network", "precision", "frozen"),
    [*product(["edge"], PRECISIONS, [False]), QUICK[2]],
)
def test_what_export_writes_is_built(
    network: str, precision: str, frozen: bool, make_model: MakeModel
) -> None:
    build_both_ways(make_model(network, precision, frozen), TARGETS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("frozen", [False, True], ids=["any size", "one size"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_kind_of_file_is_built_for_each_architecture(
    network: str, precision: str, frozen: bool, make_model: MakeModel
) -> None:
    model = make_model(network, precision, frozen)
    for target in TARGETS:
        build_both_ways(model, (target,))


@pytest.mark.parametrize(
    ("network", "precision", "frozen", "expected"),
    [
        (*QUICK[0], {"CONVOLUTION FLOAT", "QUANTIZE INT8", "DEQUANTIZE FLOAT"}),
        (
            *QUICK[1],
            {
                "CONVOLUTION HALF",
                "DECONVOLUTION HALF",
                "QUANTIZE INT8",
                "DEQUANTIZE HALF",
                "NORMALIZATION FLOAT",
            },
        ),
        (*QUICK[2], {"CONVOLUTION HALF", "DECONVOLUTION HALF"}),
    ],
    ids=[name for name, *_ in QUICK],
)
def test_tensorrt_reads_the_precision_that_was_written(
    network: str,
    precision: str,
    frozen: bool,
    expected: set[str],
    rtx: Bindings,
    make_model: MakeModel,
) -> None:
    """The types that its own network has: every convolution in half or in int8 with
    scales, the statistics of instance norm in float.
    """
    builder = open_builder(rtx)
    parsed = parse_onnx(rtx, builder, make_model(network, precision, frozen).path)
    layers = [parsed.network.get_layer(index) for index in range(parsed.network.num_layers)]
    types = {f"{layer.type.name} {layer.get_output(0).dtype.name}" for layer in layers}
    kinds = ("CONVOLUTION", "DECONVOLUTION", "QUANTIZE", "DEQUANTIZE", "NORMALIZATION")
    assert {kind for kind in types if kind.split()[0] in kinds} == expected
    for tensor in (parsed.network.get_input(0), parsed.network.get_output(0)):
        assert tensor.dtype == rtx.trt.DataType.UINT8


def test_a_transpose_on_uint8_is_refused_on_the_way_in_and_out(
    make_model: MakeModel, tmp_path: Path
) -> None:
    """ONNX Runtime takes both, so only a build shows that export has the right order."""
    onnx = pytest.importorskip("onnx")
    for faulty, kinds in (("in", ["Cast", "Transpose"]), ("out", ["Transpose", "Cast"])):
        model = onnx.load(make_model(*QUICK[2]).path)
        nodes = model.graph.node
        first, second = nodes[:2] if faulty == "in" else nodes[-2:]
        assert [first.op_type, second.op_type] == kinds
        swap(first, second)
        path = tmp_path / f"{faulty}.onnx"
        onnx.save(model, path)
        with pytest.raises(DeblurError, match=r"TensorRT for RTX .*node"):
            build_both_ways(open_model(path), ("sm89",))


def swap(first: Any, second: Any) -> None:
    """Exchange two nodes, one of which reads the other, that do not mind what they read."""
    middle = first.output[0]
    for field in ("op_type", "name"):
        ours, theirs = getattr(first, field), getattr(second, field)
        setattr(first, field, theirs)
        setattr(second, field, ours)
    ours, theirs = list(first.attribute), list(second.attribute)
    for node, attributes in ((first, theirs), (second, ours)):
        del node.attribute[:]
        node.attribute.extend(attributes)
    assert second.input[0] == middle


def test_an_int8_constant_that_a_bound_shares_is_refused(
    write_graph: Callable[..., Path], tmp_path: Path
) -> None:
    """What a quantiser makes of ``255 - x`` that is clipped to the same 255."""
    helper = pytest.importorskip("onnx").helper
    floats, int8 = 1, 3  # TensorProto.DataType
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=floats),
        helper.make_node("DequantizeLinear", ["code", "scale", "zero"], ["white"]),
        helper.make_node("Sub", ["white", "x"], ["negative"]),
        helper.make_node("Clip", ["negative", "black", "white"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["deblurred"], to=2),
    ]
    constants = [
        helper.make_tensor("code", int8, [], [127]),
        helper.make_tensor("scale", floats, [], [2.0]),
        helper.make_tensor("zero", int8, [], [0]),
        helper.make_tensor("black", floats, [], [0.0]),
    ]
    path = write_graph(tmp_path / "shared.onnx", nodes, constants)
    with pytest.raises(DeblurError, match="Quantized constant"):
        build_both_ways(open_model(path), ("sm89",))
