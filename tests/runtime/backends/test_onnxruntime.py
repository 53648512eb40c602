"""The CUDA engine's way of running frames, on the processor where there is no GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")
from deblurgan.runtime import DeblurError, backends
from deblurgan.runtime.backends import Request, Unavailable, onnxruntime, open_backend
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt.device import Device


class BoundOnCPU(onnxruntime.CUDAEngine):
    """The same code, with the processor as the device."""

    provider, device, options = "CPUExecutionProvider", "cpu", {}


def load(model: Model, width: int, height: int, *, overlap: bool = True) -> Any:
    return BoundOnCPU(Request("onnxruntime-cuda", model, width, height, threads=1, overlap=overlap))


def test_frames_in_flight_do_not_mix(negative: Path) -> None:
    engine = load(open_model(negative), 64, 48)
    assert (engine.in_flight, engine.memory) == (2, None)
    frames = [np.full((1, 48, 64, 3), level, np.uint8) for level in range(60)]
    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(engine.run, frames))
    assert all((after == 255 - level).all() for level, after in enumerate(made))
    engine.close()


@given(width=st.integers(16, 70), height=st.integers(16, 70), seed=st.integers(0, 99))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_makes_the_picture_of_the_plain_engine(width: int, height: int, seed: int) -> None:
    model = find_model()
    frame = np.random.RandomState(seed).randint(0, 256, (1, height, width, 3)).astype(np.uint8)
    plain = open_backend(model, width, height, name="onnxruntime", threads=1)
    engine = load(model, width, height, overlap=False)
    made = engine.run(frame)
    assert np.array_equal(made, plain.run(frame))
    assert np.array_equal(engine.run(frame[:, ::-1]), plain.run(frame[:, ::-1].copy()))
    assert np.array_equal(made, plain.run(frame)), "it outlives the next frame"


@pytest.mark.parametrize("overlap", [False, True])
def test_page_locked_memory_is_taken_once_and_given_back(
    overlap: bool, negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, freed = [], []

    def allocate(size: int, undo: Any) -> Any:
        taken.append(size)
        undo.callback(freed.append, size)
        return np.empty(size, np.uint8)

    monkeypatch.setattr(onnxruntime, "page_locked", allocate)
    engine = load(open_model(negative), 64, 48, overlap=overlap)
    for _ in range(3):
        engine.run(np.zeros((1, 48, 64, 3), np.uint8))
    assert taken == [64 * 48 * 3] * (4 if overlap else 2)
    assert freed == []
    engine.close()
    assert freed == taken

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(onnxruntime, "BoundFrame", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        load(open_model(negative), 64, 48)
    assert freed == taken, "also when loading fails half-way"


def test_its_memory_is_what_the_driver_misses(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([5000, 1200])
    monkeypatch.setattr(onnxruntime, "ask_free", lambda library: next(free))
    assert load(open_model(negative), 64, 48).memory == 3800


def test_a_gpu_without_an_onnxruntime_for_it_names_the_extra(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "CUDAExecutionProvider" in onnxruntime.onnxruntime.get_available_providers():
        pytest.skip("this machine has ONNX Runtime with CUDA")
    device = Device("GeForce", "GeForce", "8.9", 128, False, 1 << 34, "570.1", "12.8")
    monkeypatch.setattr(backends, "find_device", lambda: device)
    with pytest.raises(DeblurError, match=r"without CUDA; pip install \"\.\[gpu\]\""):
        open_backend(open_model(negative), 64, 48, name="onnxruntime-cuda")


def test_a_session_that_fell_back_to_the_processor_is_none(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fallen(BoundOnCPU):
        provider = "CUDAExecutionProvider"

    monkeypatch.setattr(
        onnxruntime.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"]
    )
    real = onnxruntime.open_session
    monkeypatch.setattr(
        onnxruntime,
        "open_session",
        lambda request, *_: real(request, "CPUExecutionProvider", {}),
    )
    with pytest.raises(Unavailable, match="no CUDA device that ONNX Runtime can use"):
        Fallen(Request("onnxruntime-cuda", open_model(negative), 64, 48, 1))
