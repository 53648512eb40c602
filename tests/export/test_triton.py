from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.export import triton
from deblurgan.export.triton import describe, write_repository
from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import ModelCard, open_model
from deblurgan.runtime.onnx_file import read_onnx
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan
from deblurgan.runtime.tensorrt.profiles import Profile, Shape
from deblurgan.runtime.tensorrt.sidecar import open_plan, write_plan

Fields = dict[str, list[Any]]

RANGE = Profile(Shape(1, 64, 64), Shape(4, 720, 1280), Shape(4, 1088, 1920))
FIXED = Profile(*[Shape(1, 64, 96)] * 3)


@pytest.fixture(scope="session")
def make_plan(negative: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a plan that no TensorRT made, with the sidecar that a real one has."""

    def make(profile: Profile = RANGE, flavour: str = "tensorrt", **options: Any) -> Path:
        path = tmp_path_factory.mktemp("plan") / "edge.plan"
        built = BuiltPlan(b"ptrt" + bytes(99), 1.0, "10.3.0", flavour, (), 20, None)
        model = open_model(negative)
        write_plan(path, built, model, BuildOptions(profile=profile, **options))
        return path

    return make


@pytest.fixture
def frozen_batch(negative: Path, tmp_path: Path) -> Path:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(negative)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    return tmp_path / "one.onnx"


def read_config(folder: Path) -> Fields:
    """The configuration, checked for what the server refuses (its ``model_config_utils.cc``)."""
    fields = parse((folder / "config.pbtxt").read_text())
    (most,) = fields["max_batch_size"]
    (name,), (platform,), (backend,) = fields["name"], fields["platform"], fields["backend"]
    assert name == folder.name
    assert (platform, backend) in {
        ("onnxruntime_onnx", "onnxruntime"),
        ("tensorrt_plan", "tensorrt"),
    }
    for kind, tensor in (("input", "frames"), ("output", "deblurred")):
        (entry,) = fields[kind]
        assert entry["name"] == [tensor]
        assert entry["data_type"] == ["TYPE_UINT8"]
        assert all(size >= 1 or size == -1 for size in entry["dims"])
        assert len(entry["dims"]) == (3 if most else 4)
    (warmup,) = fields["model_warmup"]
    (entry,) = warmup["inputs"]
    assert entry["key"] == ["frames"]
    assert all(size >= 1 for size in entry["value"][0]["dims"])
    for wanted, size in zip(fields["input"][0]["dims"], entry["value"][0]["dims"], strict=True):
        assert wanted in (-1, size)
    for batching in fields.get("dynamic_batching", []):
        assert all(1 <= size <= most for size in batching["preferred_batch_size"])
    assert fields["version_policy"]
    assert fields["instance_group"]
    return fields


def parse(text: str) -> Fields:
    """Protobuf's text format, as far as a configuration uses it, into nested lists."""
    text = "\n".join(line.split("#")[0] for line in text.splitlines())
    tokens = re.findall(r'"[^"\n]*"|[\w.-]+|[\[\]{}:,]|\S', text)

    def value(at: int) -> tuple[Any, int]:
        token = tokens[at]
        if token == "{":
            return message(at + 1, "}")
        if token == "[":
            items, at = [], at + 1
            while tokens[at] != "]":
                item, at = value(at)
                items.append(item)
                at += tokens[at] == ","
            return items, at + 1
        assert re.fullmatch(r'"[^"]*"|[\w.-]+', token), f"{token} where a value should be"
        if token.startswith('"'):
            return token[1:-1], at + 1
        return int(token) if re.fullmatch(r"-?\d+", token) else token, at + 1

    def message(at: int, end: str) -> tuple[Fields, int]:
        fields: Fields = {}
        while at < len(tokens) and tokens[at] != end:
            name, colon = tokens[at], tokens[at + 1] == ":"
            assert re.fullmatch(r"[a-z_]+", name), f"{name} where a field should be"
            item, at = value(at + 1 + colon)
            fields.setdefault(name, []).extend(item if isinstance(item, list) else [item])
        assert end == "" or at < len(tokens), f"no {end}"
        return fields, at + 1

    return message(0, "")[0]


def test_the_check_itself_refuses_what_is_broken(negative: Path, tmp_path: Path) -> None:
    folder = write_repository(negative, tmp_path)
    good = (folder / "config.pbtxt").read_text()
    for old, new in (
        ("} ]", "}"),
        ("max_batch_size: 8", "max_batch_size: 2"),
        ("TYPE_UINT8", "TYPE_FP32"),
        ('name: "negative"', 'name: "other"'),
        ("dims: [256, 256, 3]", "dims: [-1, 256, 3]"),
        ("instance_group", "instance_groups"),
        ('"tensorrt', '"onnx'),
        ('backend: "onnxruntime"', 'backend: "tensorrt"'),
    ):
        (folder / "config.pbtxt").write_text(good.replace(old, new))
        if good != good.replace(old, new):
            with pytest.raises((AssertionError, KeyError, IndexError, ValueError)):
                read_config(folder)


def test_a_model_file_of_any_size(negative: Path, tmp_path: Path) -> None:
    folder = write_repository(negative, tmp_path / "new" / "repository")
    assert folder == tmp_path / "new" / "repository" / "negative"
    assert (folder / "1" / "model.onnx").read_bytes() == negative.read_bytes()
    assert sorted(path.name for path in folder.rglob("*")) == ["1", "config.pbtxt", "model.onnx"]
    fields = read_config(folder)
    assert fields["max_batch_size"] == [8]
    assert fields["input"][0]["dims"] == fields["output"][0]["dims"] == [-1, -1, 3]
    assert fields["instance_group"] == [{"kind": ["KIND_AUTO"], "count": [1]}]
    assert fields["dynamic_batching"][0]["preferred_batch_size"] == [2, 4, 8]
    said = {entry["key"][0]: entry["value"][0]["string_value"][0] for entry in fields["parameters"]}
    assert said["deblurgan.precision"] == "fp32"
    assert said["deblurgan.weights_sha256"] == "0" * 64
    assert len(said["deblurgan.sha256"]) == 64


def test_the_shapes_are_the_files_own(
    negative: Path, frozen_batch: Path, write_negative: Callable[..., Path], tmp_path: Path
) -> None:
    """The server compares a model's output with the configuration, number for number."""
    fixed = write_negative(tmp_path / "fixed.onnx", size=(96, 64))
    for path in (negative, fixed, frozen_batch):
        fields = read_config(write_repository(path, tmp_path / "repository"))
        for kind, tensor in (
            ("input", read_onnx(path).inputs[0]),
            ("output", read_onnx(path).outputs[0]),
        ):
            shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
            batch = [-1] if fields["max_batch_size"] != [0] else []
            assert [*batch, *fields[kind][0]["dims"]] == shape


def test_a_batch_frozen_at_one_is_not_batched(frozen_batch: Path, tmp_path: Path) -> None:
    fields = read_config(write_repository(frozen_batch, tmp_path / "repository"))
    assert fields["max_batch_size"] == [0]
    assert "dynamic_batching" not in fields
    assert fields["model_warmup"][0]["inputs"][0]["value"][0]["dims"] == [1, 256, 256, 3]
    with pytest.raises(DeblurError, match=r"expected 1 for one\.onnx, found 4"):
        write_repository(frozen_batch, tmp_path, name="four", max_batch=4)


def test_a_plan_goes_with_its_sidecar_and_its_profile(
    make_plan: Callable[..., Path], tmp_path: Path
) -> None:
    plan = make_plan()
    folder = write_repository(plan, tmp_path)
    assert open_plan(folder / "1" / "model.plan").plan_sha256 == open_plan(plan).plan_sha256
    fields = read_config(folder)
    assert fields["max_batch_size"] == [4]
    assert fields["backend"] == ["tensorrt"]
    assert fields["instance_group"] == [{"kind": ["KIND_GPU"], "count": [1]}]
    assert fields["dynamic_batching"][0]["preferred_batch_size"] == [4]
    assert fields["input"][0]["dims"] == [-1, -1, 3]
    assert fields["model_warmup"][0]["inputs"][0]["value"][0]["dims"] == [720, 1280, 3]
    assert "TensorRT 10.3.0, no other" in (folder / "config.pbtxt").read_text()


def test_a_plan_of_one_size_and_one_frame(make_plan: Callable[..., Path], tmp_path: Path) -> None:
    plan = make_plan(FIXED, version_compatible=True)
    folder = write_repository(plan, tmp_path, name="small")
    fields = read_config(folder)
    assert fields["max_batch_size"] == [1]
    assert "dynamic_batching" not in fields
    assert fields["output"][0]["dims"] == [64, 96, 3]
    assert "tensorrt,version-compatible=true" in (folder / "config.pbtxt").read_text()


@pytest.mark.parametrize("name", ["model", "plan", "frozen"])
def test_tritons_own_protobuf_reads_it(
    name: str,
    negative: Path,
    frozen_batch: Path,
    make_plan: Callable[..., Path],
    tmp_path: Path,
) -> None:
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    path = {"model": negative, "frozen": frozen_batch}.get(name) or make_plan()
    folder = write_repository(path, tmp_path / "repository", name=name)
    text = (folder / "config.pbtxt").read_text()
    config = text_format.Parse(text, messages.ModelConfig())
    ours = read_config(folder)
    assert config.name == name
    assert config.max_batch_size == ours["max_batch_size"][0]
    assert list(config.input[0].dims) == ours["input"][0]["dims"]
    assert config.output[0].data_type == messages.TYPE_UINT8
    assert config.version_policy.latest.num_versions == 1
    assert config.HasField("dynamic_batching") == (name != "frozen")
    warmup = config.model_warmup[0].inputs["frames"]
    assert warmup.random_data
    assert list(warmup.dims) == ours["model_warmup"][0]["inputs"][0]["value"][0]["dims"]
    assert config.parameters["deblurgan.precision"].string_value == "fp32"
    kind = messages.ModelInstanceGroup.Kind.Name(config.instance_group[0].kind)
    assert kind == ("KIND_GPU" if name == "plan" else "KIND_AUTO")


@given(most=st.integers(1, 200))
def test_preferred_batches_are_legal(most: int, negative: Path) -> None:
    served = triton.read_model(negative, most)
    assert served.preferred[-1] == served.batch == most
    assert sorted(set(served.preferred)) == list(served.preferred)
    assert ("dynamic_batching" in describe(served, "x")) == (most > 1)


@pytest.mark.parametrize("most", [0, -3])
def test_a_batch_of_nothing_is_refused(most: int, negative: Path, tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match=f"expected at least 1 for negative.onnx, found {most}"):
        write_repository(negative, tmp_path / "repository", max_batch=most)
    assert not (tmp_path / "repository").exists()


def test_a_plan_takes_no_more_than_its_profile(
    make_plan: Callable[..., Path], tmp_path: Path
) -> None:
    plan = make_plan()
    with pytest.raises(DeblurError, match=r"1 to 4 for edge\.plan, found 5.*trt .* --batch 5"):
        write_repository(plan, tmp_path, max_batch=5)
    fields = read_config(write_repository(plan, tmp_path, max_batch=2))
    assert fields["max_batch_size"] == [2]
    assert fields["dynamic_batching"][0]["preferred_batch_size"] == [2]


def test_what_the_server_could_not_run_is_refused(
    make_plan: Callable[..., Path],
    write_negative: Callable[..., Path],
    card: ModelCard,
    tmp_path: Path,
) -> None:
    repository = tmp_path / "repository"
    strange = write_negative(tmp_path / "strange.onnx", metadata={})
    half = replace(card, precision="int8-fp16").to_metadata()
    quantised = write_negative(tmp_path / "int8-fp16.onnx", metadata=half)
    alone = Path(shutil.copy(make_plan(), tmp_path / "alone.plan"))
    for path, reason in (
        (strange, "without the contract's metadata"),
        (tmp_path / "none.onnx", "no such file"),
        (tmp_path / "none.plan", "no such file"),
        (alone, "alone.plan.json: .*none beside the plan"),
        (quantised, "int8-fp16, which is for TensorRT; deblur-export trt .*int8-fp16.onnx"),
        (make_plan(flavour="tensorrt_rtx"), "TensorRT for RTX 10.3.0; serve the model file"),
    ):
        with pytest.raises(DeblurError, match=reason):
            write_repository(path, repository)
    assert not repository.exists()


def test_weights_beside_the_file_are_refused(negative: Path, tmp_path: Path) -> None:
    """They would not go along into the repository."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(negative)
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.zeros(999, np.float32), "beside")
    )
    path = tmp_path / "beside.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="beside.bin")
    assert (tmp_path / "beside.bin").is_file()
    with pytest.raises(DeblurError, match=r"beside\.onnx: .*(weights|data)"):
        write_repository(path, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_an_opset_of_the_future_is_refused(negative: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(negative)
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "future.onnx")
    with pytest.raises(DeblurError, match="opset"):
        write_repository(tmp_path / "future.onnx", tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def read_example(address: str) -> str:
    examples = doctest.DocTestParser().get_examples(triton.__doc__ or "")
    return "".join(example.source for example in examples).replace("localhost:8001", address)


@pytest.fixture
def server(negative: Path) -> Iterator[str]:
    """Answers Triton's protocol by turning frames into their negative."""
    grpc = pytest.importorskip("grpc")
    service = pytest.importorskip("tritonclient.grpc.service_pb2")
    protocol = pytest.importorskip("tritonclient.grpc.service_pb2_grpc")

    class Server(protocol.GRPCInferenceServiceServicer):  # type: ignore[misc,name-defined]
        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
            (tensor,) = request.inputs
            assert (tensor.name, tensor.datatype) == ("frames", "UINT8")
            answer = service.ModelInferResponse(model_name=request.model_name)
            answer.outputs.add(name="deblurred", datatype="UINT8", shape=tensor.shape)
            frames = np.frombuffer(request.raw_input_contents[0], np.uint8)
            answer.raw_output_contents.append((255 - frames).tobytes())
            return answer

    running = grpc.server(ThreadPoolExecutor(1))
    protocol.add_GRPCInferenceServiceServicer_to_server(Server(), running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}"
    running.stop(None)


def test_the_example_talks_to_a_server(server: str) -> None:
    variables: dict[str, Any] = {}
    exec(read_example(server), variables)
    assert variables["sharp"].shape == (1, 480, 640, 3)
    assert variables["sharp"].dtype == np.uint8
    assert variables["sharp"].min() == 255


@pytest.mark.slow
def test_triton_itself_takes_the_configuration(negative: Path, tmp_path: Path) -> None:
    """PyTriton's package has the server without the engines: it reads the
    configuration and gets as far as looking for ONNX Runtime.
    """
    package = find_spec("pytriton")
    if package is None or package.origin is None:
        pytest.skip("no Triton: pip install --no-deps nvidia-pytriton")
    home = Path(package.origin).parent
    write_repository(negative, tmp_path / "good")
    write_repository(negative, tmp_path / "bad")
    config = tmp_path / "bad" / "negative" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims:", "dimensions:"))
    said = {}
    for name in ("good", "bad"):
        command = [
            str(home / "tritonserver/bin/tritonserver"),
            f"--model-repository={tmp_path / name}",
        ]
        libraries = str(home.parent / "nvidia_pytriton.libs")
        said[name] = subprocess.run(
            [*command, "--allow-http=false", "--allow-grpc=false", "--allow-metrics=false"],
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            capture_output=True,
            text=True,
            timeout=60,
        ).stderr
    assert "unable to find backend library for backend 'onnxruntime'" in said["good"]
    assert "unable to find backend library" not in said["bad"]
