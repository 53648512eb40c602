from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import onnx
import pytest

from deblurgan.export import search
from deblurgan.export.calibration import Calibration, read_calibration
from deblurgan.export.onnx_export import ExportReport
from deblurgan.export.quantisation import LayerRange, find_layers
from deblurgan.export.search import (
    Choice,
    QuantisationRequest,
    Search,
    check_request,
    choose_layers,
    read_pairs,
)
from deblurgan.export.trial import Quality, Trial
from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import Frames
from deblurgan.train.checkpoint import Checkpoint

Exported = tuple[Checkpoint, ExportReport]


@pytest.fixture(scope="module")
def calibrated(calibration_folder: Path) -> Calibration:
    return read_calibration(calibration_folder)


def choose(
    exported: Exported, request: QuantisationRequest, calibration: Calibration, **more: Any
) -> Choice:
    report = exported[1]
    pairs = None if request.pairs is None else read_pairs(request.pairs, 16)
    return choose_layers(onnx.load(report.path), report.card, request, calibration, pairs, **more)


def test_without_pairs_every_layer_is_int8_and_methods_are_compared_with_fp32(
    edge_fp32: Exported, calibrated: Calibration
) -> None:
    told: list[tuple[int, int, str]] = []
    request = QuantisationRequest(calibrated.source)
    choice = choose(edge_fp32, request, calibrated, progress=lambda *step: told.append(step))
    assert all(layer.int8 and layer.cost_db is None for layer in choice.layers)
    assert choice.names == tuple(x.name for x in find_layers(onnx.load(edge_fp32[1].path)))
    assert set(choice.methods) == {"min-max", "percentile", "entropy"}
    assert choice.methods[choice.method] == max(choice.methods.values()) > 30
    assert choice.drop is None
    assert {what for *_, what in told} == {"calibrating", "comparing calibrations"}
    assert all(0 < done <= total for done, total, _ in told)


def spoil(monkeypatch: pytest.MonkeyPatch, bad: Sequence[str]) -> None:
    """Calibrate the named layers' weights and inputs so coarsely that int8 ruins them."""
    assign = search.assign_ranges

    def assign_badly(*given: Any) -> dict[str, LayerRange]:
        return {
            name: replace(limits, input=limits.input * 60) if name in bad else limits
            for name, limits in assign(*given).items()
        }

    monkeypatch.setattr(search, "assign_ranges", assign_badly)


def test_with_pairs_the_harmful_layer_is_put_back_and_no_more(
    edge_fp32: Exported,
    calibrated: Calibration,
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = [layer.name for layer in find_layers(onnx.load(edge_fp32[1].path))]
    # Its input is no other layer's, so that the coarse scale is its alone.
    spoil(monkeypatch, ["tail.0"])
    request = QuantisationRequest(calibrated.source, pairs, "min-max", max_drop=0.05)
    told: list[str] = []
    choice = choose(edge_fp32, request, calibrated, progress=lambda *step: told.append(step[2]))
    by_name = {layer.name: layer for layer in choice.layers}
    assert not by_name["tail.0"].int8
    assert "put back" in by_name["tail.0"].reason
    costs = {name: layer.cost_db or 0.0 for name, layer in by_name.items()}
    assert max(costs, key=costs.__getitem__) == "tail.0"
    assert choice.names == tuple(name for name in layers if name != "tail.0")
    assert choice.drop is not None
    assert choice.drop.psnr <= 0.05
    assert choice.drop.ssim <= 0.002
    assert choice.pairs == 10
    assert "measuring layers" in told
    assert "putting layers back" in told
    stored = json.loads(json.dumps(choice.to_json()))
    assert [layer["int8"] for layer in stored["layers"]] == [x.int8 for x in choice.layers]
    assert stored["drop"]["psnr"] == round(choice.drop.psnr, 4)


NAMES = tuple(f"layer{index}" for index in range(16))


class MadeUpTrial(Trial):
    """30 dB and an SSIM of 0.9, less what each layer in int8 costs; models are layers' names."""

    def __init__(self, costs: dict[str, float], ssim: dict[str, float] | None = None) -> None:
        self.costs, self.ssim, self.tried = costs, ssim or dict.fromkeys(costs, 0.0), 0

    def measure(self, model: Any) -> Quality:
        self.tried += 1
        lost = [sum(costs[name] for name in model) for costs in (self.costs, self.ssim)]
        return Quality(30 - lost[0], 0.9 - lost[1])


class MadeUpSearch(Search):
    def with_int8(self, names: Any) -> Any:
        return tuple(names)


@pytest.fixture
def made_up(edge_fp32: Exported) -> MadeUpSearch:
    request, nothing = QuantisationRequest(Path("frames")), cast(onnx.ModelProto, ())
    return MadeUpSearch(nothing, edge_fp32[1].card, {}, NAMES, request, None)


@pytest.mark.parametrize("harmful", [0, 1, 4, 9, 15])
def test_halving_finds_the_fewest_layers(harmful: int, made_up: MadeUpSearch) -> None:
    costs = {name: 0.2 if index < harmful else 0.001 for index, name in enumerate(NAMES)}
    trial = MadeUpTrial(costs)
    put_back, drop = made_up.put_back(trial, costs)
    assert set(put_back) == set(NAMES[:harmful])
    assert drop.psnr == pytest.approx(0.001 * (16 - harmful))
    assert trial.tried <= 7


def test_a_layer_that_harms_ssim_alone_is_put_back(made_up: MadeUpSearch) -> None:
    costs = {name: 0.002 if name == NAMES[3] else 0.001 for name in NAMES}
    trial = MadeUpTrial(costs, {name: 0.01 if name == NAMES[3] else 0.0 for name in NAMES})
    put_back, drop = made_up.put_back(trial, costs)
    assert put_back == (NAMES[3],)
    assert drop.ssim == pytest.approx(0)


def test_methods_are_held_against_fp32_and_layers_against_sharp_pictures(
    edge_fp32: Exported,
    calibrated: Calibration,
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials: list[Trial] = []

    class Watched(Trial):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            trials.append(self)

    monkeypatch.setattr(search, "Trial", Watched)
    read = read_pairs(pairs, 16)
    choose(edge_fp32, QuantisationRequest(calibrated.source, pairs, "min-max"), calibrated)
    fp32, methods, layers, whole = trials
    made = fp32.run(onnx.load(edge_fp32[1].path))
    assert all(np.array_equal(a, b) for a, b in zip(methods.wanted, made, strict=True))
    for trial in (fp32, methods, layers):
        assert np.array_equal(trial.pictures[1], read.blurred[2])
    assert np.array_equal(layers.wanted[1], read.sharp[2])
    assert all(np.array_equal(a, b) for a, b in zip(whole.wanted, read.sharp, strict=True))


def test_limits_that_no_layer_meets_are_refused(made_up: MadeUpSearch) -> None:
    costs = dict.fromkeys(NAMES, 0.2)
    with pytest.raises(DeblurError, match=r"--max-drop.*--precision fp32"):
        made_up.put_back(MadeUpTrial(costs), costs)


def test_a_layer_that_sees_only_zeros_stays_as_it_is(
    edge_fp32: Exported, calibrated: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    assign = search.assign_ranges

    def without_range(*given: Any) -> dict[str, LayerRange]:
        return assign(*given) | {"deep.0": LayerRange(0.0, None)}

    monkeypatch.setattr(search, "assign_ranges", without_range)
    choice = choose(edge_fp32, QuantisationRequest(Path("."), method="min-max"), calibrated)
    (left,) = [layer for layer in choice.layers if not layer.int8]
    assert left.name == "deep.0"
    assert "zeros" in left.reason


def test_bad_limits_and_small_pairs_are_refused(pairs: Path) -> None:
    for wrong in ({"max_drop": -0.1}, {"max_ssim_drop": float("nan")}):
        with pytest.raises(DeblurError, match=r"--max-drop 0.1"):
            check_request(QuantisationRequest(pairs, **wrong))
    with pytest.raises(DeblurError, match="at least 65x65 pixels, found 64x64"):
        read_pairs(pairs, 65)


def test_pairs_are_hashed_by_their_pixels(pairs: Path, tmp_path: Path) -> None:
    read = read_pairs(pairs, 16)
    assert len(read.blurred) == len(read.sharp) == 10
    sharp = cv2.imread(str(pairs / "sharp" / "0.png"))[..., ::-1]
    assert np.array_equal(read.sharp[0], sharp)
    for part in ("blur", "sharp"):
        (tmp_path / part).mkdir()
        for path in (pairs / part).iterdir():
            cv2.imwrite(str(tmp_path / part / path.name), cv2.imread(str(path)))
    assert read_pairs(tmp_path, 16).sha256 == read.sha256
    (tmp_path / "blur" / "0.png").unlink()
    (tmp_path / "sharp" / "0.png").unlink()
    assert read_pairs(tmp_path, 16).sha256 != read.sha256


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_trials_run_pictures_of_several_sizes_in_their_order(
    engine: str,
    edge_fp32: Exported,
    make_frames: Callable[..., Frames],
    run_file: Callable[[Path, Frames], Frames],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(engine)
    monkeypatch.setattr("deblurgan.export.trial.ENGINES", (engine,))
    path = edge_fp32[1].path
    frames = [make_frames(height, width)[0] for height, width in ((40, 50), (33, 64), (40, 50))]
    frames[2] = 255 - frames[2]
    made = Trial(edge_fp32[1].card, frames).run(onnx.load(path))
    for picture, frame in zip(made, frames, strict=True):
        assert np.abs(picture.astype(int) - run_file(path, frame[None])[0]).max() <= 1


@pytest.mark.parametrize("stage", ["measuring layers", "putting layers back"])
def test_a_search_stops_for_ctrl_c(
    stage: str,
    edge_fp32: Exported,
    calibrated: Calibration,
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def interrupted() -> None:
        if stage in told:
            raise KeyboardInterrupt

    module = "search" if stage == "measuring layers" else "trial"
    monkeypatch.setattr(f"deblurgan.export.{module}.check_interrupted", interrupted)
    request = QuantisationRequest(calibrated.source, pairs, "min-max", max_drop=-1.0)
    with pytest.raises(KeyboardInterrupt):
        choose(edge_fp32, request, calibrated, progress=lambda *step: told.append(step[2]))
    assert told.count(stage) == 1


def test_a_full_temporary_folder_names_what_to_set(
    edge_fp32: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save_model", fill)
    with pytest.raises(DeblurError, match="TMPDIR=FOLDER"):
        Trial(edge_fp32[1].card, []).run(onnx.ModelProto())
