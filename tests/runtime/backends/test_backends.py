from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import DeblurError, Deblurrer, backends
from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.contract import open_model

CPU_ENGINES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}


@pytest.fixture(params=CPU_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(CPU_ENGINES[request.param])
    return str(request.param)


@pytest.mark.parametrize("overlap", [False, True])
def test_every_backend_gives_the_same_picture(
    engine: str, overlap: bool, negative: Path, photo: NDArray[np.uint8]
) -> None:
    backend = open_backend(open_model(negative), 160, 96, name=engine, threads=2, overlap=overlap)
    assert np.array_equal(backend.run(photo[None]), 255 - photo[None])
    backend.close()


def test_frames_in_flight_do_not_mix(engine: str, negative: Path) -> None:
    backend = open_backend(open_model(negative), 64, 48, name=engine, threads=2, overlap=True)
    frames = [np.full((1, 48, 64, 3), level, np.uint8) for level in range(60)]
    with ThreadPoolExecutor(backend.in_flight + 1) as threads:
        results = list(threads.map(backend.run, frames))
    assert all((result == 255 - frame).all() for frame, result in zip(frames, results, strict=True))


def test_results_outlive_the_next_frame(engine: str, negative: Path) -> None:
    backend = open_backend(open_model(negative), 64, 48, name=engine)
    first = backend.run(np.zeros((1, 48, 64, 3), np.uint8))
    backend.run(np.full((1, 48, 64, 3), 200, np.uint8))
    assert (first == 255).all()


def test_a_missing_engine_names_the_extra(negative: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in CPU_ENGINES.values():
        monkeypatch.setitem(sys.modules, package, None)
    for module in ("openvino", "onnxruntime"):
        monkeypatch.delitem(sys.modules, f"deblurgan.runtime.backends.{module}", raising=False)
    for name in backends.NAMES:
        with pytest.raises(DeblurError, match=r'pip install "\.\[cpu\]"'):
            open_backend(open_model(negative), 64, 48, name=name)


def test_cuda_without_a_device_is_said_not_ignored(negative: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has ONNX Runtime with CUDA")
    with pytest.raises(DeblurError, match="without CUDA"):
        open_backend(open_model(negative), 64, 48, name="onnxruntime-cuda")


def test_an_unknown_backend_is_named(negative: Path) -> None:
    with pytest.raises(DeblurError, match=r"one of auto, .*found tensorflow"):
        open_backend(open_model(negative), 64, 48, name="tensorflow")


def test_auto_takes_the_first_that_works(negative: Path) -> None:
    pytest.importorskip("openvino")
    module = importlib.import_module("deblurgan.runtime.backends.openvino")
    if importlib.util.find_spec("onnxruntime"):
        onnxruntime = importlib.import_module("onnxruntime")
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this machine has ONNX Runtime with CUDA")
    assert isinstance(open_backend(open_model(negative), 64, 48), module.CPUEngine)


def test_deblurrer_takes_frames_and_batches(negative: Path, photo: NDArray[np.uint8]) -> None:
    with Deblurrer(negative) as deblur:
        assert np.array_equal(deblur(photo), 255 - photo)
        batch = np.stack([photo, photo[::-1]])
        assert np.array_equal(deblur(batch), 255 - batch)
        assert np.array_equal(deblur(photo[:50, :70]), 255 - photo[:50, :70])  # another size
        assert np.array_equal(deblur(photo[:, ::-1]), 255 - photo[:, ::-1])  # not contiguous


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((2, 2, 48, 64, 3), np.uint8),
        np.zeros((0, 48, 64, 3), np.uint8),
    ],
    ids=["float", "grey", "alpha", "five dimensions", "none"],
)
def test_deblurrer_refuses_what_is_no_frame(negative: Path, frame: NDArray[np.uint8]) -> None:
    with Deblurrer(negative) as deblur, pytest.raises(DeblurError, match="uint8 RGB"):
        deblur(frame)


def test_a_model_frozen_at_another_size_is_refused(
    write_negative: Callable[..., Path], tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    frozen = write_negative(tmp_path / "frozen.onnx", size=(64, 48))
    with Deblurrer(frozen) as deblur, pytest.raises(DeblurError, match="64x48"):
        deblur(photo)


def test_an_unknown_model_lists_the_shipped_ones() -> None:
    with pytest.raises(DeblurError, match=r"a shipped model \(.*edge.*\)"):
        Deblurrer("edgy")


def test_auto_goes_on_when_an_engine_cannot_load_the_model(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    openvino = pytest.importorskip("deblurgan.runtime.backends.openvino")

    def fail(*_: object) -> None:
        raise RuntimeError("an operator it does not know")

    monkeypatch.setattr(openvino, "CPUEngine", fail)
    assert "ONNX Runtime" in open_backend(open_model(negative), 64, 48).description
    with pytest.raises(RuntimeError, match="does not know"):
        open_backend(open_model(negative), 64, 48, name="openvino")


def test_frames_need_not_be_contiguous(engine: str, negative: Path) -> None:
    wide = np.arange(48 * 80 * 3, dtype=np.int64).astype(np.uint8).reshape(1, 48, 80, 3)
    backend = open_backend(open_model(negative), 64, 48, name=engine)
    assert np.array_equal(backend.run(wide[:, :, :64]), 255 - wide[:, :, :64])
