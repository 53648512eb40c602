from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from deblurgan.export import calibration
from deblurgan.export.calibration import METHODS, collect_ranges, read_calibration
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime import DeblurError
from deblurgan.train.checkpoint import Checkpoint

Exported = tuple[Checkpoint, ExportReport]


def test_a_folder_is_read_in_order_and_warned_of_when_small(calibration_folder: Path) -> None:
    read = read_calibration(calibration_folder)
    assert read.names == ("0.png", "1.png", "2.png")
    assert [frame.shape for frame in read.frames] == [(64, 80, 3), (64, 80, 3), (72, 64, 3)]
    first = cv2.imread(str(calibration_folder / "0.png"))
    assert np.array_equal(read.frames[0], first[..., ::-1])
    assert "3 calibration pictures" in read.warnings[0]


def test_sixteen_pictures_are_enough_and_a_limit_spreads(
    calibration_folder: Path, tmp_path: Path
) -> None:
    for index in range(16):
        shutil.copy(calibration_folder / "0.png", tmp_path / f"{index:02}.png")
    assert read_calibration(tmp_path).warnings == ()
    assert read_calibration(tmp_path, 4).names == ("00.png", "04.png", "08.png", "12.png")


def test_the_hash_is_of_the_pixels(calibration_folder: Path, tmp_path: Path) -> None:
    for path in calibration_folder.iterdir():
        cv2.imwrite(str(tmp_path / path.name.replace("png", "bmp")), cv2.imread(str(path)))
    same, before = read_calibration(tmp_path).sha256, read_calibration(calibration_folder).sha256
    assert same == before
    picture = cv2.imread(str(tmp_path / "1.bmp"))
    picture[5, 5, 0] ^= 1
    cv2.imwrite(str(tmp_path / "1.bmp"), picture)
    assert read_calibration(tmp_path).sha256 != before


def test_of_a_large_picture_the_centre_is_taken(tmp_path: Path) -> None:
    picture = np.zeros((600, 900, 3), np.uint8)
    picture[44:556, 194:706] = 200
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), picture)
    frame = read_calibration(tmp_path).frames[0]
    assert frame.shape == (512, 512, 3)
    assert frame.min() == 200


def test_every_frame_of_a_clip_may_be_taken(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    """Training takes one a second, and of this clip only one."""
    clip = make_clip(tmp_path / "clip.mp4")
    assert len(read_calibration(clip).frames) == 12
    few = read_calibration(clip, 3)
    assert len(few.frames) == 3
    assert not np.array_equal(few.frames[0], few.frames[1])
    assert few.names == tuple(f"clip.mp4, frame {place} of 12" for place in (1, 5, 9))


def test_too_little_or_broken_is_refused(calibration_folder: Path, tmp_path: Path) -> None:
    def refused(source: Path, said: str, smallest: int = 16) -> None:
        with pytest.raises(DeblurError, match=said):
            read_calibration(source, smallest=smallest)

    refused(tmp_path / "missing", "found nothing.*--calibration")
    refused(tmp_path, "found none")
    refused(calibration_folder / "0.png", "at least 2 pictures.*a single picture")
    shutil.copy(calibration_folder / "0.png", tmp_path / "0.png")
    refused(tmp_path, "at least 2 pictures.*a single picture")
    shutil.copy(calibration_folder / "1.png", tmp_path / "1.png")
    refused(tmp_path, rf"{tmp_path}/0.png: .* at least 65x65 pixels, found 80x64", smallest=65)
    (tmp_path / "2.png").write_bytes(b"not a picture")
    refused(tmp_path, "2.png.*does not decode")
    (tmp_path / "clip.mp4").write_bytes(b"not a clip")
    refused(tmp_path / "clip.mp4", "whole video clip")
    (tmp_path / "notes.txt").write_text("notes")
    refused(tmp_path / "notes.txt", "something else")


@pytest.fixture
def graph() -> onnx.ModelProto:
    """``large`` is the frames times 4 and ``small`` minus a half of them."""
    float_, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    shape = [1, None, None, 3]
    nodes = [
        onnx.helper.make_node("Cast", ["frames"], ["x"], to=float_),
        onnx.helper.make_node("Mul", ["x", "four"], ["large"]),
        onnx.helper.make_node("Mul", ["x", "half"], ["small"]),
        onnx.helper.make_node("Cast", ["large"], ["deblurred"], to=uint8),
    ]
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "graph",
            [onnx.helper.make_tensor_value_info("frames", uint8, shape)],
            [onnx.helper.make_tensor_value_info("deblurred", uint8, shape)],
            [
                onnx.helper.make_tensor("four", float_, [], [4.0]),
                onnx.helper.make_tensor("half", float_, [], [-0.5]),
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )


def frames_with_outliers() -> list[NDArray[np.uint8]]:
    """Values up to 100, and one of 200 in every 30,000."""
    random = np.random.default_rng(3)
    frames = [random.integers(0, 101, (100, 100, 3), np.uint8) for _ in range(4)]
    for frame in frames:
        frame[50, 50, 1] = 200
    return frames


def test_ranges_hold_all_or_all_but_what_is_rare(graph: onnx.ModelProto) -> None:
    ranges = collect_ranges(graph, ["large", "small", "large"], frames_with_outliers(), METHODS)
    assert ranges["min-max"] == {"large": 800.0, "small": 100.0}
    # One value in 30,000 is rarer than one in 10,000; a bin is 1.2 of these.
    assert ranges["percentile"]["large"] == pytest.approx(400, abs=3)
    assert ranges["percentile"]["small"] == pytest.approx(50, abs=0.4)
    assert 350 <= ranges["entropy"]["large"] <= 800


def test_histograms_stay_small_after_a_dark_frame(
    graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own calibrator would keep the dark frame's bins, 200 times as many."""
    kept: list[calibration.Histograms] = []
    make = calibration.Histograms

    def watch(reach: dict[str, float]) -> calibration.Histograms:
        kept.append(make(reach))
        return kept[-1]

    monkeypatch.setattr(calibration, "Histograms", watch)
    dark = np.ones((100, 100, 3), np.uint8)
    frames = [dark, *frames_with_outliers()]
    ranges = collect_ranges(graph, ["large"], frames, ["min-max", "percentile"])
    assert ranges["min-max"]["large"] == 800
    assert all(len(h[0]) == calibration.BINS for h in kept[0].collector.histogram_dict.values())


def test_what_is_always_zero_has_no_range(graph: onnx.ModelProto) -> None:
    black = [np.zeros((32, 32, 3), np.uint8)] * 2
    ranges = collect_ranges(graph, ["large"], black, METHODS)
    assert ranges == {method: {"large": 0.0} for method in METHODS}


def test_progress_counts_all_runs_and_ctrl_c_is_seen(
    graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, str]] = []
    collect_ranges(
        graph, ["large"], frames_with_outliers(), METHODS, lambda *step: told.append(step)
    )
    assert told == [(done, 5, "calibrating") for done in range(1, 6)]

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration, "check_interrupted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect_ranges(graph, ["large"], frames_with_outliers(), METHODS)


def test_activations_that_are_not_numbers_are_refused(graph: onnx.ModelProto) -> None:
    graph.graph.initializer[0].float_data[:] = [float("nan")]
    with pytest.raises(DeblurError, match=r"finite activations.*nan at large"):
        collect_ranges(graph, ["large"], frames_with_outliers(), METHODS)
