from __future__ import annotations

import errno
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from deblurgan.export import onnx_export, proof
from deblurgan.export.calibration import read_calibration
from deblurgan.export.foreign import foreign_checkpoint
from deblurgan.export.frames import reference_module
from deblurgan.export.graph import check_norms_in_float
from deblurgan.export.onnx_export import ExportReport, export_onnx
from deblurgan.export.search import QuantisationRequest
from deblurgan.runtime import DeblurError
from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.contract import Frames, open_model
from deblurgan.runtime.difference import Difference, Tolerance
from deblurgan.runtime.golden import Golden
from deblurgan.train.checkpoint import Checkpoint, weights_sha256
from deblurgan.train.networks import (
    Generator,
    ResNetGenerator,
    UNetGenerator,
    UNetSettings,
    describe_generator,
)

Exported = tuple[Checkpoint, ExportReport]
RunFile = Callable[[Path, Frames], Frames]
MakeFrames = Callable[..., Frames]

FP_FILES = ("edge_fp32", "instance_fp32", "instance_fp16", "batch_fp16_frozen")
INT8_FILES = ("edge_int8", "instance_int8_half", "batch_int8_frozen")
FILES = FP_FILES + INT8_FILES


@pytest.fixture(params=FILES)
def exported(request: pytest.FixtureRequest) -> Exported:
    result: Exported = request.getfixturevalue(request.param)
    return result


def from_pytorch(generator: Generator, frames: Frames) -> Frames:
    with torch.inference_mode():
        made: Frames = reference_module(generator)(torch.from_numpy(frames)).numpy()
    return made


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(66, 91), (64, 64), (35, 50), (16, 16)])
@pytest.mark.parametrize(
    ("name", "largest"), [("edge_fp32", 1), ("instance_fp32", 1), ("instance_fp16", 3)]
)
def test_the_file_makes_pytorchs_picture_at_any_size(
    name: str,
    largest: int,
    height: int,
    width: int,
    batch: int,
    request: pytest.FixtureRequest,
    run_file: RunFile,
    make_frames: MakeFrames,
) -> None:
    checkpoint, report = request.getfixturevalue(name)
    frames = make_frames(height, width, batch)
    made, expected = run_file(report.path, frames), from_pytorch(checkpoint.generator, frames)
    apart = np.abs(made.astype(int) - expected)
    assert made.shape == frames.shape
    assert apart.max() <= largest, f"{np.count_nonzero(apart)} of {apart.size} values differ"
    if largest == 1:
        assert np.count_nonzero(apart) <= 0.01 * apart.size
    assert np.abs(made.astype(int) - frames).mean() > 1  # it does something


def test_a_frozen_file_takes_its_size_in_any_batch(
    batch_fp16_frozen: Exported, run_file: RunFile, make_frames: MakeFrames
) -> None:
    checkpoint, report = batch_fp16_frozen
    assert open_model(report.path).size == (45, 38)
    for batch in (1, 3):
        frames = make_frames(38, 45, batch)
        made = run_file(report.path, frames).astype(int)
        assert np.abs(made - from_pytorch(checkpoint.generator, frames)).max() <= 3
    with pytest.raises(DeblurError, match="45x38"):
        open_model(report.path).check_frame(64, 64)


def test_frames_are_cast_first_and_last(exported: Exported) -> None:
    """TensorRT takes no Transpose on uint8."""
    graph = onnx.load(exported[1].path).graph
    readers = [node.op_type for node in graph.node if "frames" in node.input]
    assert readers.count("Cast") == 1
    assert set(readers) <= {"Cast", "Shape"}
    computing = [node for node in graph.node if node.op_type in ("Cast", "Transpose", "Div")]
    assert [node.op_type for node in computing[:3]] == ["Cast", "Transpose", "Div"]
    assert [node.op_type for node in graph.node[-4:]] == ["Round", "Clip", "Transpose", "Cast"]
    assert list(graph.node[-1].output) == ["deblurred"]


def test_dropout_and_training_leave_no_trace(exported: Exported) -> None:
    operators = {node.op_type for node in onnx.load(exported[1].path).graph.node}
    assert not operators & {"Dropout", "RandomUniformLike", "BatchNormalization", "Identity"}


def test_fp16_weights_are_half_and_its_norms_are_not(instance_fp16: Exported) -> None:
    model = onnx.load(instance_fp16[1].path)
    check_norms_in_float(model)
    kinds = {node.op_type for node in model.graph.node}
    assert "InstanceNormalization" in kinds
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            assert types[node.input[1]] == onnx.TensorProto.FLOAT16


def test_a_norm_in_half_is_noticed(instance_fp16: Exported) -> None:
    model = onnx.load(instance_fp16[1].path)
    norm = next(node for node in model.graph.node if node.op_type == "InstanceNormalization")
    cast = next(node for node in model.graph.node if norm.input[0] in node.output)
    norm.input[0] = cast.input[0]
    with pytest.raises(DeblurError, match="takes them in half"):
        check_norms_in_float(model)


def test_nothing_of_this_machine_is_in_the_file(exported: Exported) -> None:
    content = exported[1].path.read_bytes()
    places = {sys.prefix, str(Path.home()), str(Path(__file__).parents[2]), "site-packages", ".py"}
    assert not [place for place in places | {f"/{getpass.getuser()}/"} if place.encode() in content]
    model = onnx.load_from_string(content)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 20}
    assert all(entry.key.startswith("deblurgan.") for entry in model.metadata_props)


def test_the_card_tells_where_the_file_is_from(edge_fp32: Exported) -> None:
    checkpoint, report = edge_fp32
    card = open_model(report.path).card
    assert card == report.card
    assert card.generator == describe_generator(checkpoint.generator)
    assert (card.stride, card.minimum_size, card.precision) == (8, 16, "fp32")
    assert card.weights_sha256 == weights_sha256(checkpoint.generator)
    assert (card.training, card.licence) == (checkpoint.training, "CC0-1.0")
    assert card.quality == {"psnr": 30.5}
    assert report.size == report.path.stat().st_size


def test_a_file_that_fails_its_proof_leaves_nothing(
    edge_fp32: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "build_model", lambda *_: onnx.load(edge_fp32[1].path))
    monkeypatch.setitem(proof.TOLERANCES, "fp32", Tolerance(largest=-1, mean=0))
    with pytest.raises(DeblurError, match="largest difference -1"):
        export_onnx(edge_fp32[0], tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_file(
    edge_fp32: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    broken = onnx.load(edge_fp32[1].path)
    broken.graph.node[5].op_type = "NoSuchOperator"
    monkeypatch.setattr(onnx_export, "build_model", lambda *_: broken)
    with pytest.raises(onnx.checker.ValidationError):
        export_onnx(edge_fp32[0], target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"old"


def test_a_file_that_is_there_is_replaced_only_when_told(
    edge_fp32: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    monkeypatch.setattr(onnx_export, "build_model", lambda *_: onnx.load(edge_fp32[1].path))
    with pytest.raises(DeblurError, match="--overwrite, in Python overwrite=True"):
        export_onnx(edge_fp32[0], target)
    assert target.read_bytes() == b"old"
    export_onnx(edge_fp32[0], target, overwrite=True)
    assert open_model(target).card.weights_sha256 == edge_fp32[1].card.weights_sha256


def test_bad_targets_and_sizes_are_said_before_any_work(edge: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match="mkdir -p"):
        export_onnx(edge, tmp_path / "missing" / "model.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(DeblurError, match="a folder"):
        export_onnx(edge, tmp_path / "folder.onnx", overwrite=True)
    with pytest.raises(DeblurError, match=r"ends in \.onnx"):
        export_onnx(edge, tmp_path / "model.engine")
    with pytest.raises(DeblurError, match="16x16"):
        export_onnx(edge, tmp_path / "model.onnx", size=(640, 8))


def test_an_int8_file_tells_what_it_was_made_of(
    edge_int8: Exported, calibration_folder: Path
) -> None:
    report = edge_int8[1]
    card = open_model(report.path).card
    assert card == report.card
    assert card.calibration_sha256 == read_calibration(calibration_folder).sha256
    story = card.quantisation
    assert (story["method"], story["drop"]) == ("min-max", None)
    assert [layer["int8"] for layer in story["layers"]] == [True] * len(story["layers"])
    assert story["difference"]["psnr"] == round(report.difference.psnr, 4) > 30
    assert ["3 calibration pictures" in line for line in report.warnings] == [True]


def test_int8_makes_nearly_the_same_picture_and_is_a_quarter_of_the_size(
    edge_int8: Exported, edge_fp32: Exported, run_file: RunFile, make_frames: MakeFrames
) -> None:
    frames = make_frames(66, 91, 2)
    made, wanted = (run_file(e[1].path, frames).astype(int) for e in (edge_int8, edge_fp32))
    assert 0 < np.abs(made - wanted).mean() < 4
    assert edge_int8[1].size < 0.7 * edge_fp32[1].size  # a tiny network is mostly graph


def test_int8_in_half_is_as_near_as_int8_and_its_norms_are_in_float(
    instance_int8_half: Exported, instance_int8: Exported
) -> None:
    report, single = instance_int8_half[1], instance_int8[1]
    check_norms_in_float(onnx.load(report.path))
    assert report.difference.psnr == pytest.approx(single.difference.psnr, abs=1)


def test_int8_in_half_runs_unoptimised_in_onnx_runtime(
    instance_int8_half: Exported, make_frames: MakeFrames
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path, frames = instance_int8_half[1].path, make_frames(64, 64)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    backend = open_backend(open_model(path), 64, 64, name="onnxruntime")
    used = backend.session.get_session_options()  # type: ignore[attr-defined]
    assert used.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert np.array_equal(backend.run(frames), session.run(None, {"frames": frames})[0])
    backend.close()


def test_every_file_carries_a_golden_pair_of_its_own(exported: Exported) -> None:
    model = open_model(exported[1].path)
    golden = Golden.from_json(model.card.golden)
    assert (golden.width, golden.height) == (model.size or (96, 64))
    backend = open_backend(model, golden.width, golden.height, name="onnxruntime")
    made = backend.run(golden.frame())
    backend.close()
    rows, columns = golden.output.shape[1:3]
    kept = made[:, golden.top : golden.top + rows, golden.left : golden.left + columns]
    assert np.abs(kept.astype(int) - golden.output).max() <= 1


def test_a_search_goes_into_the_file(edge: Checkpoint, pairs: Path, tmp_path: Path) -> None:
    told: list[str] = []
    report = export_onnx(
        edge,
        tmp_path / "8.onnx",
        "int8",
        quantisation=QuantisationRequest(pairs / "blur", pairs, "min-max"),
        progress=lambda _done, _total, what: told.append(what),
    )
    story = open_model(report.path).card.quantisation
    assert story["drop"]["psnr"] <= 0.1
    assert story["pairs"] == 10
    assert all(isinstance(layer["cost_db"], float) for layer in story["layers"])
    assert told[-1] == "putting layers back"
    assert [path.name for path in tmp_path.iterdir()] == ["8.onnx"]


def test_calibration_goes_with_int8_and_with_nothing_else(
    edge: Checkpoint, request_int8: QuantisationRequest, tmp_path: Path
) -> None:
    with pytest.raises(DeblurError, match=r"frames to calibrate int8 on.*--calibration FOLDER"):
        export_onnx(edge, tmp_path / "8.onnx", "int8")
    with pytest.raises(DeblurError, match="add --precision int8"):
        export_onnx(edge, tmp_path / "16.onnx", "fp16", quantisation=request_int8)
    nothing = QuantisationRequest(tmp_path)
    with pytest.raises(DeblurError, match="found none"):
        export_onnx(edge, tmp_path / "8.onnx", "int8", quantisation=nothing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["saturated", "half", "golden", "interrupted"])
def test_an_int8_file_that_fails_leaves_nothing(
    fault: str,
    edge: Checkpoint,
    edge_fp32: Exported,
    request_int8: QuantisationRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    expected: type[BaseException] = DeblurError
    if fault == "saturated":
        monkeypatch.setattr(proof, "MOST_SATURATED", -1.0)
    elif fault == "half":
        monkeypatch.setattr(onnx_export, "HALF", ("fp16", "int8"))
        monkeypatch.setattr(onnx_export, "measure_candidate", lambda *_: Difference(0, 0, 0, 99))
    else:
        place = "make_golden" if fault == "golden" else "prove"
        monkeypatch.setattr(onnx_export, place, stop)
        expected = KeyboardInterrupt
    monkeypatch.setattr(onnx_export, "build_model", lambda *_: onnx.load(edge_fp32[1].path))
    monkeypatch.setattr(proof, "NEAR_ENOUGH", 99.0)
    with pytest.raises(expected):
        export_onnx(edge, tmp_path / "8.onnx", "int8", quantisation=request_int8)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    edge: Checkpoint, edge_fp32: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_model: onnx.ModelProto, path: Path) -> None:
        path.write_bytes(b"half a model")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(onnx_export, "build_model", lambda *_: onnx.load(edge_fp32[1].path))
    monkeypatch.setattr(onnx, "save_model", fill)
    with pytest.raises(DeblurError, match="No space left on device; free some space"):
        export_onnx(edge, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_far_from_fp32s_is_warned_of(
    edge: Checkpoint,
    edge_fp32: Exported,
    request_int8: QuantisationRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_export, "FAR", 99.0)
    monkeypatch.setattr(onnx_export, "build_model", lambda *_: onnx.load(edge_fp32[1].path))
    report = export_onnx(edge, tmp_path / "8.onnx", "int8", quantisation=request_int8)
    assert "give --pairs" in report.warnings[1]


def test_a_u_net_takes_any_size_from_its_own_smallest(
    tmp_path: Path, run_file: RunFile, make_frames: MakeFrames
) -> None:
    torch.manual_seed(3)
    generator = UNetGenerator(UNetSettings(channels=2)).eval()
    for weight in generator.parameters():
        torch.nn.init.normal_(weight, 0, 0.2)
    checkpoint = Checkpoint(generator, {})
    with pytest.raises(DeblurError, match="129x129, found 640x128"):
        export_onnx(checkpoint, tmp_path / "model.onnx", size=(640, 128))
    report = export_onnx(checkpoint, tmp_path / "model.onnx")
    assert (report.card.stride, report.card.minimum_size) == (256, 129)
    with pytest.raises(DeblurError, match="129x129"):
        open_model(report.path).check_frame(640, 128)
    for height, width in ((129, 129), (150, 300), (256, 256)):
        frames = make_frames(height, width)
        made, expected = run_file(report.path, frames), from_pytorch(generator, frames)
        assert np.abs(made.astype(int) - expected).max() <= 1
        assert np.abs(made.astype(int) - frames).mean() > 1


@pytest.mark.slow
def test_the_papers_generator_is_the_same_in_three_engines(
    tmp_path: Path, run_file: RunFile, make_frames: MakeFrames
) -> None:
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(3)
    checkpoint = Checkpoint(ResNetGenerator().eval(), {})
    report = export_onnx(checkpoint, tmp_path / "paper.onnx")
    frames = make_frames(64, 64)
    expected = from_pytorch(checkpoint.generator, frames).astype(int)
    assert np.abs(run_file(report.path, frames) - expected).max() <= 1
    compiled = openvino.Core().compile_model(
        report.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert np.abs(compiled([frames])[0] - expected).max() <= 1


def test_int8_is_refused_where_its_float_graph_is_not_pytorchs(
    edge: Checkpoint,
    edge_fp32: Exported,
    request_int8: QuantisationRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = onnx.load(edge_fp32[1].path)
    bias = next(t for t in wrong.graph.initializer if t.name.endswith("tail.0.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    monkeypatch.setattr(onnx_export, "build_model", lambda *_: wrong)
    monkeypatch.setattr(onnx_export, "choose_layers", lambda *_: pytest.fail("searched"))
    with pytest.raises(DeblurError, match="PyTorch's picture in fp32"):
        export_onnx(edge, tmp_path / "8.onnx", "int8", quantisation=request_int8)
    assert list(tmp_path.iterdir()) == []


def test_activations_beyond_half_precision_are_refused_before_the_export(
    make_resnet: Callable[..., ResNetGenerator], tmp_path: Path
) -> None:
    generator = make_resnet()
    with torch.no_grad():
        next(generator.parameters()).mul_(1e6)
    with pytest.raises(DeblurError, match="fit in half precision"):
        export_onnx(Checkpoint(generator, {}), tmp_path / "16.onnx", "fp16", (48, 32))


@pytest.mark.parametrize("call", ["touch", "replace"])
def test_a_folder_that_takes_no_file_is_said(
    call: str,
    edge: Checkpoint,
    edge_fp32: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def build(*_: object) -> onnx.ModelProto:
        assert call == "replace", "it began to work"
        return onnx.load(edge_fp32[1].path)

    monkeypatch.setattr(onnx_export, "build_model", build)
    if call == "touch":
        monkeypatch.setattr(Path, "touch", refuse)
    else:
        monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DeblurError, match="Permission denied; free some space or choose another"):
        export_onnx(edge, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_warning_asks_for_pairs_only_where_there_were_none() -> None:
    far = Difference(90, 9.0, 0.9, 20.0)
    assert "give --pairs" in onnx_export.warn_of_distance(far, searched=False)
    assert "give --pairs" not in onnx_export.warn_of_distance(far, searched=True)


class OwnFloats(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(x * torch.full((1, 3, 1, 1), 0.5, dtype=torch.float32))
        return made


def test_a_network_that_makes_floats_of_its_own_is_told_how_to_be_half(tmp_path: Path) -> None:
    checkpoint = foreign_checkpoint(OwnFloats(), name="mine", stride=1)
    with pytest.raises(DeblurError, match=r"dtype=x\.dtype"):
        export_onnx(checkpoint, tmp_path / "16.onnx", "fp16")


def test_a_file_that_runs_at_one_size_only_is_refused_in_words(
    edge: Checkpoint, edge_fp32: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exporters write what was made from a number: with the example's width in it."""
    model = onnx.load(edge_fp32[1].path)
    ramp = onnx.numpy_helper.from_array(np.ones((1, 1, 91, 1), np.float32), "ramp")
    model.graph.initializer.append(ramp)
    cast = next(n for n in model.graph.node if n.op_type == "Cast" and "frames" in n.input)
    made = cast.output[0]
    cast.output[0] = "frames_in_float"
    at = list(model.graph.node).index(cast) + 1
    scale = onnx.helper.make_node("Mul", ["frames_in_float", "ramp"], [made], "scale")
    model.graph.node.insert(at, scale)
    monkeypatch.setattr(onnx_export, "build_model", lambda *_: model)
    with pytest.raises(DeblurError, match=r"one frame size only.*--size"):
        export_onnx(edge, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
