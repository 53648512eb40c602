"""What the ladder is made of: turns, runners, folders, scores and plans, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from deblurgan.export.ladder import pick_compared, plans, runs
from deblurgan.export.ladder import timing as ladder_timing
from deblurgan.export.ladder.folders import PairFolder, open_folders, to_frame, write_blurred
from deblurgan.export.ladder.machine import describe_machine
from deblurgan.export.ladder.plans import build_plans
from deblurgan.export.ladder.runs import Eager, Runner, find_runners
from deblurgan.export.ladder.scores import AMPLIFIED, CROP_SIDE, score
from deblurgan.export.ladder.timing import (
    PAPER,
    PYTORCH,
    latency,
    measure_speed,
    take_turns,
    times_as_fast,
)
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime import DeblurError
from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.contract import Frames, open_model
from deblurgan.runtime.processor import find_instructions, read_lines
from deblurgan.runtime.tensorrt.profiles import Profile
from deblurgan.train.checkpoint import Checkpoint
from deblurgan.train.evaluation import EVAL_V1, restore
from deblurgan.train.networks import ResNetGenerator

Exported = tuple[Checkpoint, ExportReport]


class Same:
    """A backend that gives back what ``change`` makes of its frames."""

    in_flight = 1

    def __init__(self, change: Callable[[Frames], Frames] = lambda frames: frames) -> None:
        self.change, self.description, self.closed = change, "same", False

    def run(self, frames: Frames) -> Frames:
        return self.change(frames)

    def close(self) -> None:
        self.closed = True


def test_all_take_turns_and_each_gets_its_time() -> None:
    now, calls = [0.0], list[str]()

    def takes(name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            calls.append(name)
            now[0] += seconds

        return call

    work = {"quick": takes("quick", 1.0), "slow": takes("slow", 5.0)}
    taken = take_turns(work, seconds=6.0, rounds=2, clock=lambda: now[0])
    assert taken == {"quick": [[1.0] * 3] * 2, "slow": [[5.0]] * 2}
    warm, first, second = calls[:2], calls[2:6], calls[6:]
    assert warm == ["quick", "slow"]
    assert first == ["quick"] * 3 + ["slow"]
    assert second == ["slow"] + ["quick"] * 3  # the other way round


def test_percentiles_are_over_all_rounds() -> None:
    found = latency([[0.01 * n for n in range(1, 51)], [0.01 * n for n in range(51, 102)]])
    assert found.frames == 101
    assert (found.p50, found.p90, found.p99) == pytest.approx((0.51, 0.91, 1.0))


def test_a_ratio_is_that_of_a_round_and_not_of_all_times() -> None:
    """The machine was ten times as slow in the second round, for both."""
    mine, other = [[1.0, 1.0], [10.0], [1.0]], [[4.0], [40.0], [5.0]]
    assert times_as_fast(mine, other) == 4.0


def test_runners_that_are_not_timed_are_not_run(
    edge: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_width: int, _height: int) -> Any:
        raise AssertionError("was loaded")

    backend = Same()
    runners = [Runner("fp32", "a", lambda *_: backend), Runner("fp16", "b", refuse, "for GPUs")]
    frame = np.zeros((1, 32, 48, 3), np.uint8)
    timing, (speed, none) = measure_speed(runners, edge.generator, frame, 0.01, 1)
    assert (timing.width, timing.height, timing.is_paper) == (48, 32, False)
    assert none is None
    assert backend.closed
    assert speed is not None
    assert min(speed.times_pytorch, speed.times_paper) > 1
    took = {0: 1.0, PYTORCH: 2.0, PAPER: 6.0}
    monkeypatch.setattr(
        ladder_timing, "take_turns", lambda work, *_: {name: [[took[name]]] for name in work}
    )
    _, (speed, none) = measure_speed(runners, edge.generator, frame, 0.01, 1)
    assert (speed and (speed.times_pytorch, speed.times_paper), none) == ((2.0, 6.0), None)
    monkeypatch.undo()
    own, _ = measure_speed(runners[:1], ResNetGenerator(), frame, 0.01, 1)
    assert own.is_paper
    assert own.paper == own.pytorch


def test_gpu_precisions_are_stood_in_for(edge_fp32: Exported, instance_fp16: Exported) -> None:
    models = [open_model(edge_fp32[1].path), open_model(instance_fp16[1].path)]
    runners, missing = find_runners(models)
    timed = {(runner.precision, runner.engine) for runner in runners if not runner.untimed}
    on_cpu = {pair for pair in timed if "cuda" not in pair[1]}
    assert on_cpu <= {("fp32", "openvino"), ("fp32", "onnxruntime")}
    assert on_cpu
    if not any("cuda" in engine for _, engine in timed):
        assert any("cuda" in reason for reason in missing)
        last = runners[-1]
        assert last.precision == "fp16"
        assert "not timed" in last.untimed
        backend = last.load(48, 32)
        assert backend.run(np.zeros((1, 32, 48, 3), np.uint8)).shape == (1, 32, 48, 3)
        backend.close()


def test_without_an_engine_the_extras_are_named(
    edge_fp32: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **words: object) -> Any:
        raise DeblurError("backend", expected="it", found=f"no {words['name']}", remedy="none")

    monkeypatch.setattr(runs, "open_backend", refuse)
    with pytest.raises(DeblurError, match=r"no openvino; no onnxruntime.*\[cpu\]"):
        find_runners([open_model(edge_fp32[1].path)])


def test_int8_is_compared_with_fp32_or_the_last_rung() -> None:
    def runners(*names: str) -> list[Runner]:
        return [Runner(name, "engine", lambda *_: Same()) for name in names]

    assert pick_compared(runners("fp32", "fp32", "fp16", "int8", "int8", "int8-fp16")) == (0, 3)
    assert pick_compared(runners("fp32", "fp32", "fp16")) == (0, 2)
    assert pick_compared(runners("fp32", "fp32")) == (0, 0)


def test_pytorch_makes_the_trainers_picture(edge: Checkpoint, photo: Frames) -> None:
    eager = Eager(edge.generator)
    picture = torch.from_numpy(photo).permute(2, 0, 1)
    made = eager.run(photo[None])
    assert np.array_equal(made, to_frame(restore(edge.generator, picture)))
    assert "eager fp32" in eager.description


def test_folders_of_one_name_are_told_apart(pairs: Path, tmp_path: Path) -> None:
    copies = []
    for place in ("first", "second"):
        for part in ("blur", "sharp"):
            folder = tmp_path / place / "same" / part
            folder.mkdir(parents=True)
            (folder / "0.png").write_bytes((pairs / part / "0.png").read_bytes())
        copies.append(tmp_path / place / "same")
    opened = open_folders([*copies, copies[1], pairs], 16, 4)
    assert [f.name for f in opened] == ["same", "second/same", "same (2)", "pairs"]
    assert [(f.pictures, f.of) for f in opened][-1] == (4, 10)
    assert opened[-1].sizes() == {(64, 64)}


def test_pictures_too_small_are_named(pairs: Path) -> None:
    with pytest.raises(DeblurError, match=r"0\.png.*at least 129x129"):
        open_folders([pairs], 129, None)


def test_blurred_photographs_are_written_as_eval_v1_has_them(photo: Frames, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "photos" / f"{index}.png"), photo[:, index:])
    folder = open_folders([tmp_path / "photos"], 16, None)[0]
    assert folder.blur == EVAL_V1.name
    written = sorted(write_blurred(folder, tmp_path / "blurred", 2).iterdir())
    assert len(written) == 2
    decoded = cv2.imread(str(written[0]))
    assert decoded is not None
    first = to_frame(next(folder.read()).blurred)[0]
    assert np.array_equal(decoded[:, :, ::-1], first)


@pytest.fixture
def large(tmp_path: Path) -> PairFolder:
    """Two pairs of 200x160 and 160x200 pixels."""
    random = np.random.default_rng(0)
    for part in ("blur", "sharp"):
        (tmp_path / "large" / part).mkdir(parents=True)
        for index, shape in enumerate(((160, 200, 3), (200, 160, 3))):
            noise = random.integers(0, 200, shape, np.uint8)
            cv2.imwrite(str(tmp_path / "large" / part / f"{index}.png"), noise)
    return open_folders([tmp_path / "large"], 16, None)[0]


def test_the_worst_place_is_found_and_shown(large: PairFolder, edge: Checkpoint) -> None:
    def spoil(frames: Frames) -> Frames:
        spoilt = frames.copy()
        if frames.shape[1] == 160:
            spoilt[0, 60:150, 90:180] += 3
        return spoilt

    opened: list[tuple[int, int]] = []

    def load(width: int, height: int) -> Same:
        opened.append((width, height))
        return Same()

    runners = [Runner("fp32", "a", load), Runner("int8", "b", lambda *_: Same(spoil))]
    scores = score(
        [large], runners, Eager(edge.generator), compared=(0, 1), with_pytorch=1,
        shown={large.name}, crops=1, tell=lambda _: None,
    )  # fmt: skip
    assert opened == [(200, 160), (160, 200)]
    (shown,) = scores.crops
    crop = shown.crop
    assert (crop.picture, crop.width, crop.height) == ("0.png", CROP_SIDE, CROP_SIDE)
    assert crop.left <= 90 <= 180 <= crop.left + CROP_SIDE
    assert crop.top <= 60 <= 150 <= crop.top + CROP_SIDE
    assert crop.mean == pytest.approx(3 * 90 * 90 / CROP_SIDE**2)
    assert set(np.unique(shown.difference)) == {0, 3 * AMPLIFIED}
    first = next(large.read())
    assert np.array_equal(
        shown.sharp,
        to_frame(first.sharp)[0, crop.top : crop.top + 128, crop.left : crop.left + 128],
    )
    same, spoilt = scores.tallies
    assert same.quality("large", same).psnr_drop == 0
    assert scores.folders[0].psnr == pytest.approx(same.quality("large", same).psnr)
    assert spoilt.quality("large", same).psnr_drop == pytest.approx(
        same.quality("large", same).psnr - spoilt.quality("large", same).psnr
    )
    assert scores.folders[0].compared == 1
    hidden = score(
        [large], runners, Eager(edge.generator), compared=(0, 1), with_pytorch=1,
        shown=(), crops=1, tell=lambda _: None,
    )  # fmt: skip
    assert (hidden.crops, hidden.shown) == ([], None)


def test_equal_pictures_have_no_drop(pairs: Path, edge: Checkpoint) -> None:
    """Of sharp pictures that stay as they are PSNR is infinite."""
    folder = open_folders([pairs], 16, 1)[0]
    sharp = to_frame(next(folder.read()).sharp)
    runners = [Runner("fp32", "a", lambda *_: Same(lambda _: sharp))] * 2
    scores = score(
        [folder], runners, Eager(edge.generator), compared=(0, 0), with_pytorch=1,
        shown=(), crops=1, tell=lambda _: None,
    )  # fmt: skip
    quality = scores.tallies[1].quality("pairs", scores.tallies[0])
    assert (quality.psnr, quality.psnr_drop, quality.ssim_drop) == (np.inf, 0.0, 0.0)


def test_without_a_gpu_it_is_said_that_no_plans_were_built(
    edge_fp32: Exported, large: PairFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "find_device", lambda: None)
    made, why = build_plans([open_model(edge_fp32[1].path)], [large], (64, 48), lambda _: None)
    assert made == []
    assert "no NVIDIA GPU" in why[0]


def test_a_plan_takes_every_size_and_a_failed_one_is_explained(
    edge_fp32: Exported, large: PairFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(edge_fp32[1].path)
    asked: list[Profile] = []

    def build(of: Any, profile: Profile) -> Runner:
        asked.append(profile)
        if of.card.precision == "fp16":
            raise DeblurError("plan", expected="a GPU", found="too little memory", remedy="sell it")
        return Runner(of.card.precision, "tensorrt", lambda *_: Same())

    monkeypatch.setattr(plans, "find_device", lambda: object())
    monkeypatch.setattr(plans, "build_runner", build)
    half = replace(model, card=replace(model.card, precision="fp16"))
    made, why = build_plans([model, half], [large], (256, 96), lambda _: None)
    assert [runner.precision for runner in made] == ["fp32"]
    assert why == ["TensorRT, fp16: plan: expected a GPU, found too little memory; sell it"]
    low, best, high = asked[0].min, asked[0].opt, asked[0].max
    assert (low.width, low.height) == (160, 96)
    assert (best.width, best.height) == (256, 96)
    assert (high.width, high.height) == (256, 200)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu_bindings")
def test_a_gpu_builds_verifies_and_times_plans(edge_fp32: Exported, large: PairFolder) -> None:
    model = open_model(edge_fp32[1].path)
    (runner,), why = build_plans([model], [large], (200, 160), lambda _: None)
    assert why == []
    assert runner.plan is not None
    frame = to_frame(next(large.read()).blurred)
    plan, reference = runner.load(200, 160), open_backend(model, 200, 160, name="onnxruntime")
    assert np.abs(plan.run(frame).astype(int) - reference.run(frame)).max() <= 1


def test_the_machine_is_described_without_its_owner() -> None:
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.memory > 2**28
    assert machine.processor
    assert "torch" in machine.packages
    assert machine.instructions == find_instructions()
    if Path("/proc/cpuinfo").is_file():
        assert read_lines("processor")
