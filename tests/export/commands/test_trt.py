from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.export.app import app
from deblurgan.export.commands.trt import parse_memory
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime import DeblurError
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import open_model
from deblurgan.runtime.difference import Difference
from deblurgan.runtime.golden import WrongPicture
from deblurgan.runtime.tensorrt.sidecar import open_plan
from deblurgan.train.checkpoint import Checkpoint, save_checkpoint

Exported = tuple[Checkpoint, ExportReport]

RTX = ["--target", "sm89"]


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx")


@pytest.mark.usefixtures("rtx")
def test_a_model_file_becomes_a_plan_that_info_reads(
    edge_fp32: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "edge.plan"
    words = ["trt", str(edge_fp32[1].path), "-o", str(plan), "--max", "128x96", "--batch", "2"]
    assert run(app, [*words, *RTX]) == 0
    said = capsys.readouterr().out
    assert "TensorRT for RTX 1." in said
    card = open_plan(plan)
    assert (card.profile.min.width, card.profile.max.width, card.profile.max.batch) == (16, 128, 2)
    assert card.targets == ("sm89",)
    assert run(app, ["info", str(plan)]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["built for"].strip() == "sm89"
    assert "no device has made it yet" in rows["golden pair"]
    assert rows["precision"].strip() == "fp32"

    assert run(app, [*words, *RTX]) == 2
    assert "--overwrite" in capsys.readouterr().err
    plan.with_name("edge.plan.json").unlink()
    assert run(app, ["info", str(plan)]) == 2
    assert "none beside the plan" in capsys.readouterr().err


@pytest.mark.usefixtures("rtx")
def test_a_checkpoint_is_exported_on_the_way(
    edge: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "best.safetensors"
    save_checkpoint(checkpoint, edge.generator, edge.training)
    assert run(app, ["trt", str(checkpoint), "--size", "64x48", *RTX]) == 0
    plan, model = tmp_path / "best.plan", tmp_path / "best.onnx"
    side = plan.with_name("best.plan.json")
    assert sorted(tmp_path.iterdir()) == [model, plan, side, checkpoint]
    assert open_plan(plan).card.precision == "fp16"
    command = open_plan(plan).rebuild_command().split()[1:]
    monkeypatch.chdir(tmp_path)
    assert run(app, command) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--size 1280x720"),
        (["--size", "8x8"], "at least 16x16"),
        (["--size", "64x48", "--target", "sm12"], "expected some of sm75"),
        (["--size", "64x48", "--version-compatible"], "expected plain TensorRT"),
        (["--size", "64x48", "--precision", "half"], "fp32, fp16, int8"),
        (["--size", "64x48", "--skip", "add"], "clamp, average, none"),
        (["--size", "64x48", "--skip", "none"], "--skip: expected a checkpoint of the original"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("rtx")
def test_what_cannot_be_built_is_refused_before_the_export(
    arguments: list[str],
    said: str,
    edge: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("deblurgan.export.onnx_export.export_onnx", lambda *_, **__: 1 / 0)
    checkpoint = tmp_path / "best.safetensors"
    save_checkpoint(checkpoint, edge.generator, edge.training)
    assert run(app, ["trt", str(checkpoint), *RTX, *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.usefixtures("rtx")
def test_a_plan_that_makes_another_picture_loses_its_name(
    edge_fp32: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(path: Path) -> Difference:
        raise WrongPicture(path, expected="a picture", found="another", remedy="build it again")

    monkeypatch.setattr("deblurgan.export.commands.trt.why_not_here", lambda _: [])
    monkeypatch.setattr("deblurgan.export.commands.trt.verify", differs)
    words = ["trt", str(edge_fp32[1].path), "-o", str(tmp_path / "a.plan"), "--size", "64x48"]
    assert run(app, [*words, *RTX]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--precision", "fp16"], "deblur-export onnx CHECKPOINT --precision fp16"),
        (["--precision", "half"], "fp32, fp16, int8, int8-fp16"),
        (["--calibration", "frames"], "--precision int8-fp16 --calibration frames"),
        (["--precision", "int8"], "--precision int8 --calibration FOLDER"),
        (["-o", "edge.onnx"], "a name that ends in .plan"),
        (["-o", "no/such/folder/edge.plan"], "mkdir -p"),
        (["--size", "8x8", "--target", "sm89"], "at least 16x16"),
        (["--size", "64x48", "--max", "80x80"], "either one size or a range"),
        (["--size", "64"], "WIDTHxHEIGHT"),
        (["--min", "64"], "--min: expected WIDTHxHEIGHT"),
        (["--size", "64x48", "--statistics", "tracked"], "a checkpoint of the original release"),
        (["--size", "64x48", "--workspace", "lots"], "--workspace 512M or 2G"),
        ([], "--size 1280x720"),
    ],
    ids=str,
)
def test_bad_options_exit_with_2_and_leave_nothing(
    arguments: list[str],
    said: str,
    edge_fp32: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "edge.onnx"
    model.write_bytes(edge_fp32[1].path.read_bytes())
    assert run(app, ["trt", str(model), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [model]


def test_what_stands_beside_a_plan_is_not_replaced(
    edge_fp32: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "a.plan.json"
    precious.write_text("precious")
    words = ["trt", str(edge_fp32[1].path), "-o", str(tmp_path / "a.plan"), "--size", "64x48"]
    assert run(app, [*words, *RTX]) == 2
    assert "a.plan.json: expected the name of a new file" in capsys.readouterr().err
    assert precious.read_text() == "precious"


@pytest.mark.usefixtures("rtx")
def test_the_model_of_a_plan_that_fails_stays_and_is_named(
    edge: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DeblurError("plan", expected="room", found="none", remedy="make some")

    monkeypatch.setattr("deblurgan.export.commands.trt.build_plan", fail)
    checkpoint, model = tmp_path / "best.safetensors", tmp_path / "best.onnx"
    save_checkpoint(checkpoint, edge.generator, edge.training)
    model.write_text("of an earlier time")
    assert run(app, ["trt", str(checkpoint), "--size", "64x48", "-y", *RTX]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{model} is whole, and stays" in said
    assert open_model(model).card.precision == "fp16"


def test_without_tensorrt_it_says_how_to_get_one(edge_fp32: Exported, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('tensorrt', 'tensorrt_rtx', 'torch', 'onnx'): sys.modules[name] = None\n"
        "from deblurgan.export.app import app, run\n"
        "sys.exit(run(app))\n"
    )
    words = ["trt", str(edge_fp32[1].path), "-o", str(tmp_path / "a.plan"), "--size", "64x48"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'pip install ".[trt]"' in done.stderr
    assert "JetPack" in done.stderr
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 9999), st.sampled_from(["", "K", "k", "M", "MiB", "G", "gb"]))
def test_memory_is_read_with_its_unit(number: int, unit: str) -> None:
    scale = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30}[unit[:1].upper()]
    assert parse_memory(f"{number}{unit}") == number * scale


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "2T", "G"])
def test_anything_else_is_no_memory(text: str) -> None:
    with pytest.raises(DeblurError, match="512M"):
        parse_memory(text)
