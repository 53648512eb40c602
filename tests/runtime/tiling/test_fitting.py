from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deblurgan.runtime import DeblurError, Deblurrer
from deblurgan.runtime.backends import DoesNotFit, Request
from deblurgan.runtime.contract import ModelCard, open_model
from deblurgan.runtime.tiling import fitting
from deblurgan.runtime.tiling.engine_memory import EngineMemory
from deblurgan.runtime.tiling.fitting import Choice, Tile, choose_tile
from deblurgan.runtime.tiling.frame_memory import frame_memory
from deblurgan.runtime.tiling.memory import used_memory
from deblurgan.runtime.tiling.tiles import smallest_side

GIB = 1 << 30
# As measured with the shipped model in OpenVINO.
LIGHT = EngineMemory(fixed=94_000_000, per_pixel=88, in_flight=2)


@pytest.fixture
def request_8k(negative: Path) -> Request:
    return Request("openvino", open_model(negative), 7680, 4320, threads=2, overlap=True)


@pytest.fixture
def averaging(card: ModelCard, tmp_path: Path) -> Path:
    """A contract file that norms over the picture."""
    onnx = pytest.importorskip("onnx")
    shape, uint8 = ["batch", "height", "width", 3], onnx.TensorProto.UINT8
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("Cast", ["frames"], ["x"], to=onnx.TensorProto.FLOAT),
            node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            node("InstanceNormalization", ["t", "ones", "ones"], ["n"]),
            node("Transpose", ["n"], ["y"], perm=[0, 2, 3, 1]),
            node("Cast", ["y"], ["deblurred"], to=uint8),
        ],
        "averaging",
        [onnx.helper.make_tensor_value_info("frames", uint8, shape)],
        [onnx.helper.make_tensor_value_info("deblurred", uint8, shape)],
        [onnx.helper.make_tensor("ones", onnx.TensorProto.FLOAT, [3], [1.0, 1.0, 1.0])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    onnx.helper.set_model_props(model, card.to_metadata())
    onnx.save(model, tmp_path / "averaging.onnx")
    return tmp_path / "averaging.onnx"


def limit(request: Request, in_flight: int, engine: int) -> int:
    """A memory limit that leaves the engine so many bytes."""
    return used_memory() + frame_memory(request.width, request.height, in_flight) + engine


def never() -> EngineMemory:
    raise AssertionError("measured although it does not matter")


def test_a_small_frame_stays_whole_and_nothing_is_measured(request_8k: Request) -> None:
    small = replace(request_8k, width=1280, height=720)
    assert choose_tile(small, "auto", 16 * GIB, never) == Choice(None, overlap=True)
    assert choose_tile(small, "auto", None, never) == Choice(None, overlap=True)
    assert choose_tile(request_8k, None, GIB, never) == Choice(None, overlap=True)


def test_a_number_is_kept_unless_the_frame_is_a_single_tile(request_8k: Request) -> None:
    assert choose_tile(request_8k, 1024, None, never) == Choice(1024, overlap=True)
    assert choose_tile(request_8k, 7680, 1, never) == Choice(None, overlap=True)


def test_frames_in_flight_go_before_tiles_come(request_8k: Request) -> None:
    pixels, slack = 7680 * 4320, 100 << 20
    whole = {n: limit(request_8k, n, LIGHT.at(pixels, n) + slack) for n in (1, 2)}
    assert choose_tile(request_8k, "auto", whole[2], lambda: LIGHT) == Choice(None, overlap=True)
    assert choose_tile(request_8k, "auto", whole[1], lambda: LIGHT) == Choice(None, overlap=False)
    less = whole[1] - 10 * slack
    assert choose_tile(request_8k, "auto", less, lambda: LIGHT).side is not None


@pytest.mark.parametrize("mebibytes", [300, 500, 900, 1500])
def test_tiles_are_as_large_as_the_room_and_keep_within_it(
    request_8k: Request, mebibytes: int
) -> None:
    room = mebibytes << 20
    choice = choose_tile(request_8k, "auto", limit(request_8k, 1, room), lambda: LIGHT)
    assert choice.side is not None
    assert choice.side >= smallest_side(4)
    in_flight = 2 if choice.overlap else 1
    assert 0.5 * room < LIGHT.at(choice.side**2, in_flight) + 6 * choice.side * 7680 < room


def test_too_little_for_the_smallest_tiles_says_how_much_it_takes(request_8k: Request) -> None:
    with pytest.raises(DoesNotFit, match=r"1024 MiB .* needed .*--memory-limit") as refused:
        choose_tile(request_8k, "auto", GIB, lambda: LIGHT)
    enough = float(str(refused.value).rsplit(" ", 1)[1].removesuffix("G"))
    choice = choose_tile(request_8k, "auto", round(enough * GIB), lambda: LIGHT)
    assert choice.side is not None


def test_a_number_below_the_smallest_is_refused_with_it(negative: Path) -> None:
    frame = np.zeros((600, 800, 3), np.uint8)
    for tile in (-1, 0, 479):
        with Deblurrer(negative, tile=tile) as deblur, pytest.raises(DeblurError) as refused:
            deblur(frame)
        assert "write --tile 480" in str(refused.value)


@pytest.mark.parametrize("tile", ["auto", 480, 512, None])
def test_the_picture_is_the_same_in_tiles(
    negative: Path, tile: Tile, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = EngineMemory(fixed=1000, per_pixel=1000, in_flight=1)
    monkeypatch.setattr(fitting, "measure_engine", lambda _: heavy)
    frame = np.random.default_rng(5).integers(0, 256, (601, 903, 3), np.uint8)
    memory_limit = used_memory() + frame_memory(903, 601, 1) + (450 << 20)
    with Deblurrer(negative, tile=tile, memory_limit=memory_limit) as deblur:
        assert np.array_equal(deblur(frame), 255 - frame)
        assert ("tiles of" in deblur.engine(903, 601).description) == (tile is not None)


def test_a_norm_over_the_picture_is_refused_with_the_reason(
    averaging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.zeros((600, 800, 3), np.uint8)
    with Deblurrer(averaging, tile=512) as deblur:
        assert deblur(frame[:512, :512]).shape == (512, 512, 3), "a single tile has no seam"
        with pytest.raises(DeblurError, match="InstanceNormalization over the whole picture"):
            deblur(frame)
    monkeypatch.setattr(fitting, "measure_engine", lambda _: LIGHT)
    with (
        Deblurrer(averaging, memory_limit=1 << 20) as deblur,
        pytest.raises(DeblurError, match=r"InstanceNorm.*--memory-limit \d\.\dG"),
    ):
        deblur(frame)


def test_a_frozen_model_is_not_cut(write_negative: Callable[..., Path], tmp_path: Path) -> None:
    frozen = write_negative(tmp_path / "frozen.onnx", size=(640, 480))
    frame = np.zeros((480, 640, 3), np.uint8)
    with Deblurrer(frozen, memory_limit=1 << 20) as deblur:
        assert (deblur(frame) == 255).all()
    with Deblurrer(frozen, tile=512) as deblur, pytest.raises(DeblurError, match="frozen at"):
        deblur(frame)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_8k_works_in_4_gib(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    """The whole program, with as many frames as its encoder keeps and some more."""
    y, x = np.mgrid[:4320, :7680].astype(np.float32)
    waves = (127 + 60 * np.sin(x / 17) + 60 * np.cos(y / 23)).astype(np.uint8)
    clip, report = tmp_path / "8k.mp4", tmp_path / "report.json"
    make_clip(clip, np.repeat(waves[..., None], 3, 2), times=[512 * i for i in range(16)])
    program = "from deblurgan.runtime.app import main; main()"
    words = [clip, tmp_path / "sharp.mp4", "--memory-limit", "4G", "--json", report]
    subprocess.run([sys.executable, "-c", program, *map(str, words)], check=True)
    values = json.loads(report.read_text())
    assert "tiles of" in values["engine"]
    assert 0 < values["peak_memory"] <= 4 * GIB
