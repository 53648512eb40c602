"""Shipped models by name: which of their files an engine gets, and that none is another."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from deblurgan.runtime import DeblurError, Deblurrer, model_store
from deblurgan.runtime.backends import ENGINES
from deblurgan.runtime.model_store import CHECKSUMS, DEFAULT, FOLDER, find_model
from deblurgan.runtime.tensorrt.device import find_device

FRAME = np.full((64, 96, 3), 90, np.uint8)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(model_store, "FOLDER", folder)
    return folder


def test_each_engine_gets_the_precision_that_it_is_fastest_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    model = find_model(DEFAULT)
    assert (model.reference, model.card.precision) == ("edge", "fp32")
    assert {engine: model.best_for(engine).card.precision for engine in ENGINES} == {
        "tensorrt": "fp16",
        "tensorrt-rtx": "fp16",
        "onnxruntime-cuda": "fp16",
        "openvino": "int8",
        "onnxruntime": "fp32",
    }
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert model.best_for("openvino").card.precision == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_single_file_has_a_name_as_well(precision: str, tmp_path: Path) -> None:
    model = find_model(f"edge-{precision}")
    assert model.card.precision == precision
    assert model.best_for("openvino") is model
    assert model.in_precision("fp32") is model
    copied = Path(shutil.copy(model.path, tmp_path / "mine.onnx"))
    assert find_model(copied).card == model.card


def test_all_files_are_of_the_same_weights() -> None:
    cards = [find_model(f"edge-{precision}").card for precision in ("fp32", "fp16", "int8")]
    assert len({card.weights_sha256 for card in cards}) == 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_file_that_is_loaded_is_told(engine: str) -> None:
    pytest.importorskip(engine)
    with Deblurrer(Path("edge"), backend=engine) as deblur:
        assert deblur.model.card.precision == "fp32"
        deblur(FRAME)
        assert deblur.model == find_model().best_for(engine)
    assert deblur.model == find_model().best_for(engine), "closed as well"


def test_a_name_that_is_none_lists_those_that_are() -> None:
    with pytest.raises(DeblurError) as error:
        find_model("resnet9")
    assert "(edge, or in one precision edge-fp16, edge-fp32, edge-int8)" in error.value.expected


def test_a_file_that_is_not_the_shipped_one_is_refused(store: Path) -> None:
    path = store / "edge-fp32.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DeblurError, match=r"found another, with SHA-256 .*; install the package"):
        find_model(DEFAULT)
    path.write_bytes(content[:1000])
    with pytest.raises(DeblurError, match="install the package again"):
        find_model("edge-fp32")


def test_a_file_for_another_engine_is_not_looked_at(store: Path) -> None:
    pytest.importorskip("openvino")
    (store / "edge-fp16.onnx").write_bytes(b"damaged")
    with Deblurrer(backend="openvino") as deblur:
        assert deblur(FRAME).shape == FRAME.shape
    if find_device() is None:
        told: list[str] = []
        with Deblurrer(warn=told.append) as deblur:
            deblur(FRAME)
        assert told == []


def test_a_missing_or_damaged_list_of_checksums_is_told(store: Path) -> None:
    (store / CHECKSUMS).write_bytes(b"\xff\xfe nothing")
    with pytest.raises(DeblurError, match=f"{CHECKSUMS}.*no list of checksums"):
        find_model(DEFAULT)
    (store / CHECKSUMS).unlink()
    with pytest.raises(DeblurError, match=f"{CHECKSUMS}.*no such file"):
        find_model(DEFAULT)


def test_the_checksums_are_what_sha256sum_checks() -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum")
    done = subprocess.run(
        ["sha256sum", "-c", CHECKSUMS], cwd=FOLDER, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(list(FOLDER.glob("*.onnx")))


def test_what_is_shipped_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 60e6
