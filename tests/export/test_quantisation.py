from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import Tensor, nn

from deblurgan.export.frames import export_module
from deblurgan.export.graph import Wiring
from deblurgan.export.onnx_export import ExportReport
from deblurgan.export.quantisation import (
    WEIGHT_LEVELS,
    LayerRange,
    assign_ranges,
    find_layers,
    quantise,
    quantise_weights,
)
from deblurgan.runtime.contract import Frames, open_model
from deblurgan.train.checkpoint import Checkpoint

Exported = tuple[Checkpoint, ExportReport]
MakeFrames = Callable[..., Frames]

INT8_FILES = ("edge_int8", "instance_int8_half", "batch_int8_frozen")


@pytest.fixture(params=INT8_FILES)
def exported(request: pytest.FixtureRequest) -> Exported:
    result: Exported = request.getfixturevalue(request.param)
    return result


def ranges_of(model: onnx.ModelProto, largest: float = 2.0) -> dict[str, LayerRange]:
    return {layer.name: LayerRange(largest, largest) for layer in find_layers(model)}


def test_every_convolution_reads_what_int8_gave(exported: Exported) -> None:
    model = onnx.load(exported[1].path)
    wiring = Wiring(model.graph)
    convolutions = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) == len(exported[1].card.quantisation["layers"])
    for node in convolutions:
        entry, weights = (wiring.makers[name] for name in node.input[:2])
        if entry.op_type == "Pad":
            entry = wiring.makers[entry.input[0]]
        assert entry.op_type == weights.op_type == "DequantizeLinear"
        assert wiring.makers[entry.input[0]].op_type == "QuantizeLinear"
        if len(node.input) > 2:
            assert wiring.constants[node.input[2]].data_type != onnx.TensorProto.INT8


def test_nothing_stands_between_a_convolution_and_what_engines_fuse_with_it(
    exported: Exported,
) -> None:
    graph = onnx.load(exported[1].path).graph
    wiring = Wiring(graph)
    for node in graph.node:
        if node.op_type in ("Relu", "Add", "InstanceNormalization"):
            for name in node.input:
                maker = wiring.makers.get(name)
                if maker is not None and maker.op_type == "DequantizeLinear":
                    # The residual alone: what it is added to comes from a convolution.
                    others = {wiring.makers[n].op_type for n in node.input if n != name}
                    assert (node.op_type, others) == ("Add", {"Conv"})


@pytest.mark.parametrize(
    ("name", "residuals"), [("edge_int8", 3), ("batch_int8_frozen", 2), ("instance_int8_half", 0)]
)
def test_residuals_are_int8_where_the_add_is_fused(
    name: str, residuals: int, request: pytest.FixtureRequest
) -> None:
    """With instance norm no convolution stands right before the Add."""
    graph = onnx.load(request.getfixturevalue(name)[1].path).graph
    makers = Wiring(graph).makers
    adds = [
        node
        for node in graph.node
        if node.op_type == "Add"
        and any(n in makers and makers[n].op_type == "DequantizeLinear" for n in node.input)
    ]
    assert len(adds) == residuals


def test_one_pair_serves_all_readers_of_a_tensor(exported: Exported) -> None:
    nodes = onnx.load(exported[1].path).graph.node
    quantised = [node.input[0] for node in nodes if node.op_type == "QuantizeLinear"]
    assert len(quantised) == len(set(quantised))
    names = [node.name for node in nodes]
    assert len(names) == len(set(names))


def test_what_surrounds_the_generator_stays_float(exported: Exported) -> None:
    graph = onnx.load(exported[1].path).graph
    wiring = Wiring(graph)
    outside = [node for node in graph.node if node.op_type in ("Div", "Round", "Clip", "Tanh")]
    for node in (*outside, *graph.node[-4:]):
        around = [wiring.makers[n].op_type for n in node.input if n in wiring.makers]
        assert "DequantizeLinear" not in around
    # The picture that the global skip adds comes as it is.
    skip = [n for n in graph.node if n.op_type == "Add" and "pad" in n.input]
    assert len(skip) == 1


def test_every_scale_belongs_to_one_tensor_and_no_float_weights_are_left(
    exported: Exported,
) -> None:
    graph = onnx.load(exported[1].path).graph
    half = exported[1].card.precision == "int8-fp16"
    wiring = Wiring(graph)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            readers = wiring.readers[node.input[1]]
            assert {reader.op_type for reader in readers} <= {"QuantizeLinear", "DequantizeLinear"}
            assert len(readers) <= 2
            kind = wiring.constants[node.input[1]].data_type
            assert kind == (onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT)
            zero = numpy_helper.to_array(wiring.constants[node.input[2]])
            assert zero.dtype == np.int8
            assert not zero.any()
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    assert not [t.name for t in graph.initializer if len(t.dims) == 4 and t.data_type in floats]
    assert all(name in wiring.readers for name in wiring.constants)


def test_a_layer_left_out_reads_the_tensor_as_it_was(edge_fp32: Exported) -> None:
    model = onnx.load(edge_fp32[1].path)
    layers = find_layers(model)
    left_out = next(layer for layer in layers if layer.residual is not None)
    names = [layer.name for layer in layers if layer is not left_out]
    quantised = quantise(model, ranges_of(model), names)
    onnx.checker.check_model(quantised, full_check=True)
    nodes = {node.name: node for node in quantised.graph.node}
    assert nodes[left_out.node].input[0] == left_out.input
    assert nodes[left_out.node].input[1] in Wiring(model.graph).constants
    add = Wiring(quantised.graph).readers[nodes[left_out.node].output[0]][0]
    assert left_out.residual in add.input


def test_no_layer_leaves_the_graph_and_an_unknown_one_is_an_error(edge_fp32: Exported) -> None:
    model = onnx.load(edge_fp32[1].path)
    assert quantise(model, ranges_of(model), []) == model
    with pytest.raises(KeyError, match=r"deep\.77"):
        quantise(model, ranges_of(model), ["deep.77"])


def test_layers_have_the_same_names_in_both_graphs(
    instance_fp32: Exported, instance_fp16: Exported
) -> None:
    """Ranges measured on the one serve the other, whose tensors are named otherwise."""
    single, half = (find_layers(onnx.load(e[1].path)) for e in (instance_fp32, instance_fp16))
    assert [(layer.name, layer.kind) for layer in single] == [(x.name, x.kind) for x in half]
    assert [layer.input for layer in single] != [layer.input for layer in half]


def test_ranges_go_to_layers_by_their_tensors(edge_fp32: Exported) -> None:
    layers = find_layers(onnx.load(edge_fp32[1].path))
    tensors = {name for layer in layers for name in (layer.input, layer.residual) if name}
    ranges = assign_ranges(layers, {name: float(at) for at, name in enumerate(sorted(tensors))})
    for layer in layers:
        assert ranges[layer.name].input == sorted(tensors).index(layer.input)
        assert (ranges[layer.name].residual is None) == (layer.residual is None)


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([0, 1]),
    st.sampled_from([np.float32, np.float16]),
    st.floats(1e-9, 100),
)
def test_weights_are_within_half_a_step(
    first: int, second: int, axis: int, dtype: type[np.floating], size: float
) -> None:
    random = np.random.default_rng(first * 7 + second)
    weights = (random.normal(size=(first, second, 3, 3)) * size).astype(dtype)
    weights[0] = 0
    codes, scales = quantise_weights(weights, axis)
    assert codes.dtype == np.int8
    assert scales.dtype == dtype
    assert scales.shape == (weights.shape[axis],)
    assert 2 * 255 * np.abs(codes.astype(int)).max() < 2**15  # what 16 bits hold
    assert (scales > 0).all()
    steps = np.moveaxis(weights.astype(np.float64), axis, -1) / scales.astype(np.float64)
    # A half scale may be rounded down, and then the largest weight is cut a little.
    slack = 0.5 + (WEIGHT_LEVELS * 2**-4 if dtype is np.float16 else 1e-3)
    assert np.abs(steps - np.moveaxis(codes, axis, -1)).max() <= slack


def test_it_computes_what_rounding_by_hand_in_pytorch_does(
    make_resnet: Callable[..., nn.Module], make_frames: MakeFrames, tmp_path: Path
) -> None:
    """Independent of Q and DQ: hooks that round inputs to 255 levels and weights to 127."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from deblurgan.export.graph import build_model

    module = export_module(make_resnet(convolutions=1, skip="none"), "fp32")
    model = build_model(module, None)
    quantised = quantise(model, ranges_of(model, 1.5), [x.name for x in find_layers(model)])

    def rounded(values: Tensor, scale: Tensor) -> Tensor:
        return (values / scale).round().clamp(-128, 127) * scale

    def round_input(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return rounded(inputs[0], torch.tensor(1.5 / 127))

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            axes = (0, 2, 3) if isinstance(layer, nn.ConvTranspose2d) else (1, 2, 3)
            scale = layer.weight.detach().abs().amax(axes, keepdim=True) / WEIGHT_LEVELS
            layer.weight.data = rounded(layer.weight.data, scale)
            layer.register_forward_pre_hook(round_input)
    frames = make_frames(64, 64)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(quantised.SerializeToString(), options)
    made = session.run(None, {"frames": frames})[0].astype(int)
    apart = np.abs(made - module(torch.from_numpy(frames)).numpy())
    assert np.mean(apart > 1) < 0.01


@pytest.mark.parametrize(
    ("constant", "groups", "obstacle"),
    [(True, 1, None), (True, 2, "groups"), (False, 1, "computed")],
)
def test_what_cannot_be_int8_says_why(constant: bool, groups: int, obstacle: str | None) -> None:
    weights = numpy_helper.from_array(np.ones((4, 2, 2, 2), np.float32), "t.weight")
    nodes = [
        onnx.helper.make_node(
            "ConvTranspose", ["x", "w" if not constant else "t.weight"], ["y"], "t", group=groups
        )
    ]
    if not constant:
        nodes.insert(0, onnx.helper.make_node("Neg", ["t.weight"], ["w"], "n"))
    graph = onnx.helper.make_graph(nodes, "g", [], [], [weights])
    (layer,) = find_layers(onnx.helper.make_model(graph))
    assert layer.obstacle is None if obstacle is None else obstacle in str(layer.obstacle)


def test_of_two_branches_that_are_added_the_later_is_fused() -> None:
    """A shortcut with a convolution of its own: engines fuse one of the two."""
    weights = [
        numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), f"{name}.weight")
        for name in ("body", "short", "long")
    ]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "body.weight"], ["b"], "body"),
        onnx.helper.make_node("Conv", ["b", "short.weight"], ["s"], "short"),
        onnx.helper.make_node("Conv", ["b", "long.weight"], ["l"], "long"),
        onnx.helper.make_node("Add", ["s", "l"], ["y"], "add"),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [], [], weights)
    layers = {layer.name: layer for layer in find_layers(onnx.helper.make_model(graph))}
    assert (layers["short"].residual, layers["long"].residual) == (None, "s")


@pytest.mark.parametrize("name", INT8_FILES)
def test_tensorrt_for_rtx_parses_and_builds_it(name: str, request: pytest.FixtureRequest) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    report: ExportReport = request.getfixturevalue(name)[1]
    width, height = open_model(report.path).size or (160, 128)
    smallest = (height, width) if open_model(report.path).size else (64, 64)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(report.path.read_bytes()), parser.get_error(0).desc()
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("frames", (1, *smallest, 3), (1, height, width, 3), (2, height, width, 3))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    assert builder.build_serialized_network(network, config) is not None


@pytest.mark.parametrize("name", ["edge_int8", "instance_int8", "batch_int8_frozen"])
def test_openvino_runs_every_quantised_convolution_in_int8(
    name: str, request: pytest.FixtureRequest
) -> None:
    openvino = pytest.importorskip("openvino")
    report: ExportReport = request.getfixturevalue(name)[1]
    core = openvino.Core()
    network = core.read_model(report.path)
    width, height = open_model(report.path).size or (96, 64)
    network.reshape([1, height, width, 3])
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    ran = [
        info["runtimePrecision"].astype(str)
        for info in kinds
        if info["layerType"].astype(str) in ("Convolution", "Deconvolution")
    ]
    layers = report.card.quantisation["layers"]
    assert len(ran) == len(layers) == sum(layer["int8"] for layer in layers)
    assert set(ran) <= {"i8", "u8"}, ran
