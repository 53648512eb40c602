from __future__ import annotations

import importlib
import subprocess
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
    monkeypatch.setattr(backends, "find_device", lambda: None)
    for name in (backends.AUTO, *CPU_ENGINES):
        with pytest.raises(DeblurError, match=r'pip install "\.\[cpu\]"'):
            open_backend(open_model(negative), 64, 48, name=name)


def test_a_gpu_engine_without_a_gpu_is_said_not_ignored(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "find_device", lambda: None)
    for name in backends.NEED_GPU:
        with pytest.raises(DeblurError, match=rf"expected {name} to run here.*no NVIDIA GPU"):
            open_backend(open_model(negative), 64, 48, name=name)


def test_without_a_gpu_nothing_is_imported_for_one(negative: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from deblurgan.runtime import DeblurError, backends, contract\n"
        "backends.find_device = lambda: None\n"
        "backends.ENGINES = {name: backends.ENGINES[name] for name in backends.NEED_GPU}\n"
        f"model = contract.open_model(Path({str(negative)!r}))\n"
        "try: backends.open_backend(model, 64, 48)\n"
        "except DeblurError: print(*sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "deblurgan.runtime.backends" in printed
    unwanted = {"tensorrt", "tensorrt_rtx", "pycuda", "onnxruntime"}
    assert unwanted.isdisjoint(name.split(".")[0] for name in printed)
    assert "deblurgan.runtime.tensorrt.builder" not in printed


def test_memory_of_a_gpu_is_none_on_the_processor(engine: str, negative: Path) -> None:
    assert open_backend(open_model(negative), 64, 48, name=engine).memory is None


def test_an_unknown_backend_is_named(negative: Path) -> None:
    with pytest.raises(DeblurError, match=r"one of auto, .*found tensorflow"):
        open_backend(open_model(negative), 64, 48, name="tensorflow")


def test_auto_takes_the_first_that_works(negative: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    module = importlib.import_module("deblurgan.runtime.backends.openvino")
    monkeypatch.setattr(backends, "find_device", lambda: None)
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
    monkeypatch.setattr(backends, "find_device", lambda: None)
    warnings: list[str] = []
    backend = open_backend(open_model(negative), 64, 48, warn=warnings.append)
    assert "ONNX Runtime" in backend.description
    assert warnings == [
        "openvino: RuntimeError: an operator it does not know; the next engine is tried"
    ]
    with pytest.raises(RuntimeError, match="does not know"):
        open_backend(open_model(negative), 64, 48, name="openvino")


def test_frames_need_not_be_contiguous(engine: str, negative: Path) -> None:
    wide = np.arange(48 * 80 * 3, dtype=np.int64).astype(np.uint8).reshape(1, 48, 80, 3)
    backend = open_backend(open_model(negative), 64, 48, name=engine)
    assert np.array_equal(backend.run(wide[:, :, :64]), 255 - wide[:, :, :64])


def test_a_signal_arrives_after_engines_ended_in_any_order(negative: Path) -> None:
    """Two cores of OpenVINO would leave a stack for signals that is no longer there."""
    pytest.importorskip("openvino")
    program = f"""
import gc, os, pathlib, signal
from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.contract import open_model
model = open_model(pathlib.Path({str(negative)!r}))
engines = [open_backend(model, side, side, name="openvino") for side in (32, 48, 64)]
while engines:
    engines.pop(0).close()
    gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("arrived"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "arrived\n"), done.stderr
