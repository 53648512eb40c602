from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deblurgan.runtime.backends import Request
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.model_store import DEFAULT, find_model
from deblurgan.runtime.tiling import engine_memory
from deblurgan.runtime.tiling.engine_memory import EngineMemory, heaviest, measure_engine
from deblurgan.runtime.tiling.memory import used_memory


def request_for(model: Model) -> Request:
    return Request("openvino", model, 64, 48, threads=2, overlap=True)


@pytest.mark.skipif(used_memory() == 0, reason="this system does not tell")
def test_the_shipped_model_is_measured() -> None:
    pytest.importorskip("openvino")
    request = request_for(find_model(DEFAULT).best_for("openvino"))
    measured = measure_engine(request)
    assert measured.in_flight == 2
    assert measure_engine(replace(request, overlap=False)).in_flight == 1
    # At 4K and 8K it takes 71 to 75 bytes a pixel.
    assert 60 < measured.per_pixel < 200
    assert 20 << 20 < measured.fixed < 300 << 20


def test_what_cannot_be_measured_is_taken_for_the_worst(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(open_model(negative))
    assert measure_engine(replace(request, engine="none")) == heaviest(request)
    monkeypatch.setattr(engine_memory.sys, "executable", "/nowhere/python")
    assert measure_engine(request) == heaviest(request)


def test_the_worst_is_of_as_many_frames_as_an_engine_takes(negative: Path) -> None:
    request = request_for(open_model(negative))
    assert heaviest(request).in_flight == 2
    assert heaviest(replace(request, threads=64)).in_flight == 8
    assert heaviest(replace(request, overlap=False)).in_flight == 1


def test_memory_grows_with_the_frame_and_with_frames_in_flight() -> None:
    memory = EngineMemory(fixed=100, per_pixel=8, in_flight=4)
    assert memory.at(0, 1) == 100
    assert memory.at(1000, 1) > 8100
    assert memory.at(1000, 2) - 100 == 2 * (memory.at(1000, 1) - 100)
