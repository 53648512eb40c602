from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError, golden
from deblurgan.runtime.contract import ModelCard, open_model
from deblurgan.runtime.golden import Golden, compare_golden, golden_frame, make_golden


@pytest.mark.parametrize(
    ("width", "height", "seed", "sha256"),
    [
        (96, 64, 1, "7699138a262d3bbbc4d41364956f5ed6787bd66c1b3c0915c7a02d47053c7046"),
        (16, 16, 1, "1902ca53411550995e17ba3ec8561fa017123a24a25f1ab90bb21bc0200e431c"),
        (1, 1, 1, "9c037694c8d8dd45179191afc2f883e9442eecf992b271a5146483b979be7b3d"),
    ],
)
def test_the_frame_is_the_same_for_ever(width: int, height: int, seed: int, sha256: str) -> None:
    frame = golden_frame(width, height, seed)
    assert frame.dtype == np.uint8
    assert frame.shape == (1, height, width, 3)
    assert hashlib.sha256(frame.tobytes()).hexdigest() == sha256


def test_the_frame_has_what_a_network_must_get_right() -> None:
    frame = golden_frame(96, 64)[0].astype(int)
    steps = np.abs(np.diff(frame, axis=1))
    assert (steps > 100).mean() > 0.02, "edges"
    assert np.mean((steps > 0) & (steps < 30)) > 0.5, "gradients and noise"
    assert frame.min() == 0
    assert frame.max() == 255
    assert np.abs(frame[..., 0] - frame[..., 2]).mean() > 20, "colours"
    assert not np.array_equal(golden_frame(96, 64, 2)[0], frame)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 1 << 40))
def test_a_frame_of_any_size(width: int, height: int, seed: int) -> None:
    assert golden_frame(width, height, seed).shape == (1, height, width, 3)


@given(st.data())
def test_a_pair_survives_json(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80))
    rows, columns = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    left, top = data.draw(st.integers(0, width - columns)), data.draw(st.integers(0, height - rows))
    output = golden_frame(width, height, 5)[:, top : top + rows, left : left + columns]
    pair = Golden(width, height, 7, left, top, np.ascontiguousarray(output), "engine 1.2")
    back = Golden.from_json(json.loads(json.dumps(pair.to_json())))
    assert np.array_equal(back.output, output)
    assert back.output.dtype == np.uint8
    assert replace(back, output=pair.output).to_json() == pair.to_json()


def test_a_pair_of_a_model(negative: Path) -> None:
    pytest.importorskip("onnxruntime")
    pair = make_golden(open_model(negative))
    assert (pair.width, pair.height) == (96, 64)
    assert (pair.left, pair.top, pair.output.shape) == (32, 16, (1, 48, 64, 3))
    assert pair.engine.startswith("ONNX Runtime ")
    assert "thread" not in pair.engine, "nothing of the machine that made it"
    frame = golden_frame(96, 64)
    assert np.array_equal(pair.frame(), frame)
    assert np.array_equal(pair.output, 255 - frame[:, 16:, 32:])
    assert len(json.dumps(pair.to_json())) < 20_000


def test_a_pair_has_the_size_that_the_model_takes(
    write_negative: Callable[..., Path], card: ModelCard, tmp_path: Path
) -> None:
    frozen = open_model(write_negative(tmp_path / "frozen.onnx", size=(45, 38)))
    pair = make_golden(frozen)
    assert (pair.width, pair.height, pair.output.shape) == (45, 38, (1, 38, 45, 3))
    with pytest.raises(DeblurError, match="frozen at, found 96x64"):
        make_golden(frozen, 96, 64)
    metadata = replace(card, minimum_size=80).to_metadata()
    large = open_model(write_negative(tmp_path / "large.onnx", metadata=metadata))
    assert make_golden(large).frame().shape == (1, 80, 96, 3)
    assert make_golden(large, 120, 90).frame().shape == (1, 90, 120, 3)
    with pytest.raises(DeblurError, match="at least 80x80"):
        make_golden(large, 64, 64)


def test_without_a_cpu_engine_it_says_how_to_get_one(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, engine, None)
        monkeypatch.delitem(sys.modules, f"deblurgan.runtime.backends.{engine}", raising=False)
    with pytest.raises(DeblurError, match=r"not installed.*not installed.*\[cpu\]"):
        make_golden(open_model(negative))


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        RuntimeError("[ONNXRuntimeError] : 6 : Exception during initialization: std::bad_alloc"),
        RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 235929600"),
    ],
)
def test_too_little_memory_is_said_and_no_other_engine_is_tried(
    failure: Exception, negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fail(*_: object, name: str, **__: object) -> None:
        tried.append(name)
        raise failure

    monkeypatch.setattr(golden, "open_backend", fail)
    with pytest.raises(
        DeblurError, match="too little memory for a frame of 96x64; close other programs"
    ):
        make_golden(open_model(negative))
    assert tried == ["onnxruntime"]


def test_openvino_stands_in_for_onnxruntime(
    negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "deblurgan.runtime.backends.onnxruntime", raising=False)
    pair = make_golden(open_model(negative))
    assert pair.engine.startswith("OpenVINO ")
    assert compare_golden(pair, 255 - pair.frame()).largest == 0


def test_one_level_in_one_value_is_found() -> None:
    frame = golden_frame(50, 40)
    pair = Golden(50, 40, 1, 10, 8, np.ascontiguousarray(frame[:, 8:30, 10:40]), "")
    assert compare_golden(pair, frame).largest == 0
    off = frame.copy()
    off[0, 29, 39, 2] ^= 1
    found = compare_golden(pair, off)
    assert (found.largest, found.differing) == (1, 1 / (22 * 30 * 3))
    outside = frame.copy()
    outside[0, 30, 39] ^= 255
    assert compare_golden(pair, outside).largest == 0
    with pytest.raises(ValueError, match="shape"):
        compare_golden(pair, frame[:, :-1])


def damaged(pair: dict[str, Any], **changes: Any) -> Any:
    return {**pair, **changes}


def header_of(pair: dict[str, Any], width: int, height: int) -> str:
    """Its picture, with another size in the header."""
    png = base64.b64decode(pair["png"])
    return base64.b64encode(png[:16] + struct.pack(">II", width, height) + png[24:]).decode()


def test_a_picture_beyond_reason_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = golden_frame(50, 40)
    pair = Golden(50, 40, 1, 0, 0, frame, "engine").to_json()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="beyond reason"):
        Golden.from_json(damaged(pair, png=header_of(pair, 20_000, 20_000)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda pair: None,
        lambda pair: [pair],
        lambda pair: {},
        lambda pair: damaged(pair, width="50"),
        lambda pair: damaged(pair, width=True),
        lambda pair: damaged(pair, height=1 << 40),
        lambda pair: damaged(pair, height=39),
        lambda pair: damaged(pair, left=-1),
        lambda pair: damaged(pair, left=11),
        lambda pair: damaged(pair, seed=1.5),
        lambda pair: damaged(pair, engine=None),
        lambda pair: damaged(pair, png=""),
        lambda pair: damaged(pair, png="ö"),
        lambda pair: damaged(pair, png="not base 64"),
        lambda pair: damaged(pair, png=base64.b64encode(b"no picture").decode()),
        lambda pair: damaged(pair, png=pair["png"][: len(pair["png"]) // 8 * 4]),
        lambda pair: damaged(pair, png=header_of(pair, 60_000, 60_000)),
        lambda pair: damaged(pair, png=header_of(pair, 20_000, 20_000)),
        lambda pair: damaged(pair, sha256="0" * 64),
        lambda pair: {key: value for key, value in pair.items() if key != "sha256"},
    ],
)
def test_what_is_no_pair_is_a_value_error(damage: Callable[[dict[str, Any]], Any]) -> None:
    frame = golden_frame(50, 40)
    pair = Golden(50, 40, 1, 10, 8, np.ascontiguousarray(frame[:, 8:40, 10:50]), "engine")
    Golden.from_json(pair.to_json())
    with pytest.raises(ValueError, match=r"."):
        Golden.from_json(damage(pair.to_json()))
