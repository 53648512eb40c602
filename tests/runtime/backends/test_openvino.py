"""OpenVINO off x86-64, where it has to make a model's golden pair's picture first."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")
from deblurgan.runtime.backends import open_backend, openvino
from deblurgan.runtime.contract import Model, ModelCard, open_model
from deblurgan.runtime.golden import WrongPicture, make_golden

FRAME = np.full((1, 48, 64, 3), 200, np.uint8)


@pytest.fixture
def with_golden(
    write_negative: Callable[..., Path], card: ModelCard, tmp_path: Path
) -> Callable[..., Model]:
    """The negative with the pair that it makes, or with one that is ``changed``."""

    def write(**changed: Any) -> Model:
        pair = make_golden(open_model(write_negative(tmp_path / "bare.onnx"))).to_json()
        metadata = replace(card, golden=pair | changed).to_metadata()
        return open_model(write_negative(tmp_path / "model.onnx", metadata=metadata))

    return write


@pytest.fixture
def on_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(openvino, "_seen", {})


@pytest.mark.usefixtures("on_arm")
def test_the_right_picture_is_asked_for_once(
    with_golden: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = with_golden(), []
    compile_model = openvino.compile_model

    def count(model: Model, width: int, height: int, *rest: Any) -> Any:
        sizes.append((width, height))
        return compile_model(model, width, height, *rest)

    monkeypatch.setattr(openvino, "compile_model", count)
    for width in (64, 80):
        open_backend(model, width, 48, name="openvino").close()
    assert sizes == [(96, 64), (64, 48), (80, 48)]


@pytest.mark.usefixtures("on_arm")
def test_another_picture_is_refused_and_the_next_engine_taken(
    with_golden: Callable[..., Model],
) -> None:
    # The golden frame of another seed: what is made of it is another picture.
    model, said = with_golden(seed=2), list[str]()
    with pytest.raises(WrongPicture, match=r"model.onnx.*\(aarch64\).*--backend onnxruntime"):
        open_backend(model, 64, 48, name="openvino")
    backend = open_backend(model, 64, 48, warn=said.append)
    assert backend.description.startswith("ONNX Runtime")
    assert (backend.run(FRAME) == 55).all()
    assert any("openvino: " in line and "the next engine is tried" in line for line in said)


@pytest.mark.usefixtures("on_arm")
@pytest.mark.parametrize("changed", [{"png": "damaged"}, {"sha256": "0" * 64}])
def test_a_pair_that_cannot_be_read_stops_nothing(
    changed: dict[str, str], with_golden: Callable[..., Model]
) -> None:
    backend = open_backend(with_golden(**changed), 64, 48, name="openvino")
    assert (backend.run(FRAME) == 55).all()


def test_on_x86_nothing_is_asked(
    with_golden: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    open_backend(with_golden(seed=2), 64, 48, name="openvino").close()
