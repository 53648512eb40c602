"""The loop trains, validates, keeps the best, resumes, and stops when it is told to."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import devices, keeper, loop
from deblurgan.train.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from deblurgan.train.layouts import find_source
from deblurgan.train.loop import (
    Run,
    schedule_factor,
    stop_on_signal,
    train,
    usual_workers,
)
from deblurgan.train.networks import EdgeGenerator, EdgeSettings, UNetGenerator, UNetSettings
from deblurgan.train.recipe import Recipe, ScheduleSettings, load_recipe
from deblurgan.train.state import NAME
from deblurgan.train.step import train_step

ROOT = Path(__file__).resolve().parents[2]

EDGE = (
    "generator.channels=8", "generator.blocks=2", "generator.deep_blocks=1", "schedule.steps=6",
    "training.batch=2", "training.validate_every=3", "training.save_every=0", "data.crop=32",
    "training.precision=fp32",
)  # fmt: skip
PAPER = (
    "generator.channels=4", "generator.blocks=1", "generator.dropout=0", "discriminator.channels=4",
    "discriminator.layers=1", "loss.critic_steps=2", "schedule.epochs=0", "schedule.steps=4",
    "training.validate_every=4", "training.save_every=0", "data.crop=32", "data.scale=1",
)  # fmt: skip


def tiny(name: str = "edge", *changes: str) -> Recipe:
    return load_recipe(name, [*(EDGE if name == "edge" else PAPER), *changes])


def rows(folder: Path, column: str) -> list[tuple[int, float]]:
    """Step and value of the rows of log.csv that have the column."""
    with (folder / "log.csv").open(newline="") as log:
        return [(int(r["step"]), float(r[column])) for r in csv.DictReader(log) if r[column]]


def weights(folder: Path) -> str:
    return weights_sha256(load_checkpoint(folder / "last.safetensors").generator)


@pytest.fixture
def train_tiny(pairs: Path, tmp_path: Path) -> Callable[..., Path]:
    def run(recipe: Recipe | None = None, folder: str = "run", **changes: Any) -> Path:
        output = tmp_path / folder
        train(recipe or tiny(), Run(**{"data": [str(pairs)], "output": output, **changes}))
        return output

    return run


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A checkpoint of another network than the recipe's, which changes pictures."""
    torch.manual_seed(3)
    generator = EdgeGenerator(EdgeSettings(channels=4, blocks=2, deep_blocks=1))
    torch.nn.init.normal_(generator.tail[0].weight, std=0.05)
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, generator, {})
    return path


def test_a_run_leaves_weights_state_table_board_and_sheets(
    train_tiny: Callable[..., Path],
) -> None:
    folder = train_tiny()
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors", "last.safetensors", NAME, "log.csv", "tensorboard", "sheets",
    }  # fmt: skip
    assert [step for step, _ in rows(folder, "generator")] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in rows(folder, "gain_db")] == [3, 6]
    assert rows(folder, "samples")[-1] == (6, 12)
    sheets = sorted(path.name for path in (folder / "sheets").iterdir())
    assert sheets == ["00000003.png", "00000006.png"]
    assert cv2.imread(str(folder / "sheets" / sheets[0])) is not None
    assert any((folder / "tensorboard").iterdir())
    last = load_checkpoint(folder / "last.safetensors")
    assert (last.training["steps"], last.training["samples"]) == (6, 12)
    assert last.training["recipe"]["training"]["batch"] == 2
    best = load_checkpoint(folder / "best.safetensors")
    assert best.training["gain_db"] == pytest.approx(
        max(gain for _, gain in rows(folder, "gain_db")), abs=1e-3
    )


def test_the_same_seed_gives_the_same_weights_and_another_others(
    train_tiny: Callable[..., Path],
) -> None:
    first, again = train_tiny(folder="first"), train_tiny(folder="again")
    other = train_tiny(tiny("edge", "training.seed=2"), "other")
    assert weights(first) == weights(again) != weights(other)


def test_workers_change_nothing(train_tiny: Callable[..., Path], photos: Path) -> None:
    changes = {"data": [str(photos)]}
    inline = train_tiny(folder="inline", **changes)
    assert weights(inline) == weights(train_tiny(folder="workers", workers=2, **changes))


@pytest.mark.parametrize(
    ("name", "optimiser", "precision"),
    [
        ("edge", "adamw", "fp32"),
        ("edge", "adamw", "bf16"),
        ("edge", "muon", "fp32"),
        ("paper", "adam", "fp32"),
    ],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    name: str,
    optimiser: str,
    precision: str,
    train_tiny: Callable[..., Path],
    vgg: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, optimisers, average, critic, order and dropout, bit for bit."""
    # Dropout too: its random numbers must be those of the step.
    dropout = ["generator.dropout=0.5"] if name == "paper" else []
    changes = (f"optimiser.name={optimiser}", f"training.precision={precision}")
    recipe = tiny(name, *changes, *dropout)
    whole = train_tiny(recipe, "whole", vgg=vgg)
    steps = recipe.schedule.steps
    made, step = [], loop.train_step

    def interrupted(*arguments: Any) -> dict[str, Tensor]:
        if len(made) == steps // 2:
            made.append(0)
            raise KeyboardInterrupt  # as sudden as a kill: nothing is saved on the way out
        made.append(0)
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(recipe, "halves", vgg=vgg)
    halves = train_tiny(recipe, "halves", vgg=vgg)
    assert len(made) == steps + 1
    assert weights(halves) == weights(whole)
    one, other = (torch.load(f / NAME, weights_only=True) for f in (whole, halves))
    for part in ("generator", "average", "optimiser", *(["critic"] if name == "paper" else [])):
        assert_same(one[part], other[part])
    assert rows(halves, "generator") == rows(whole, "generator")


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def command(data: Path, output: Path, recipe: str, changes: tuple[str, ...]) -> list[str]:
    sets = [word for change in changes for word in ("--set", change)]
    return [str(ROOT / "train"), "run", str(data), "-o", str(output), "--recipe", recipe, *sets]


def test_kill_9_and_the_same_command_again(
    pairs: Path, tmp_path: Path, train_tiny: Callable[..., Path]
) -> None:
    changes = ("schedule.steps=40", "training.validate_every=7")
    whole = train_tiny(tiny("edge", *changes), "whole")
    folder = tmp_path / "killed"
    words = [sys.executable, *command(pairs, folder, "edge", (*EDGE, *changes))]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    while not (folder / NAME).exists() or len(rows(folder, "generator")) < 9:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert torch.load(folder / NAME, weights_only=True)["progress"]["step"] < 40
    subprocess.run(words, check=True, capture_output=True)
    assert weights(folder) == weights(whole)
    assert rows(folder, "generator") == rows(whole, "generator")
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("whom", ["the program", "its group"])
def test_sigterm_saves_and_says_how_to_go_on(whom: str, photos: Path, tmp_path: Path) -> None:
    """Job schedulers send it to the workers as well."""
    folder = tmp_path / "run"
    changes = (*EDGE, "schedule.steps=100000", "training.save_every=1e9", "blur.length=[1,8]")
    words = command(photos, folder, "edge", (*changes, "training.validate_every=1000000"))
    process = subprocess.Popen(
        [sys.executable, *words, "--workers", "2"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not (folder / "log.csv").exists() or len(rows(folder, "generator")) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    (os.killpg if whom == "its group" else os.kill)(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on with it" in said
    step = torch.load(folder / NAME, weights_only=True)["progress"]["step"]
    assert step == rows(folder, "generator")[-1][0] >= 2
    assert load_checkpoint(folder / "last.safetensors").training["steps"] == step


def test_two_processes_compute_what_one_does_with_twice_the_batch(
    pairs: Path, tmp_path: Path, vgg: Path, train_tiny: Callable[..., Path]
) -> None:
    """Losses of generator and critic and the penalty, within rounding."""
    # Adam divides a gradient by its own size: where it is nothing but rounding, as before
    # every instance norm, the step would be too. A large epsilon lets such ones be.
    changes = ("optimiser.epsilon=1e-2", "optimiser.learning_rate=2e-3")
    one = train_tiny(tiny("paper", "training.batch=2", *changes), "one", vgg=vgg)
    two = tmp_path / "two"
    words = [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *command(pairs, two, "paper", (*PAPER, "training.batch=1", *changes)),
        *("--vgg", str(vgg), "--device", "cpu"),
    ]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for loss in ("generator", "content", "adversarial", "critic", "penalty"):
        ours, theirs = rows(one, loss), rows(two, loss)
        assert len(ours) == 4
        for (step, a), (_, b) in zip(ours, theirs, strict=True):
            # From the third step on a ReLU may fall to the other side of 0.
            tight = {"rel": 1e-4, "abs": 1e-6}
            loose = {"rel": 0.1, "abs": 0.01}
            assert a == pytest.approx(b, **(tight if step < 3 else loose)), (loss, step)
    (_, gain_one), (_, gain_two) = rows(one, "gain_db")[-1], rows(two, "gain_db")[-1]
    assert gain_one == pytest.approx(gain_two, abs=0.02)


def test_two_processes_are_taught_the_same_views(
    pairs: Path, tmp_path: Path, teacher: Path, train_tiny: Callable[..., Path]
) -> None:
    changes = ("schedule.steps=2", "optimiser.epsilon=1e-2")
    one = train_tiny(tiny("edge", *changes), "one", teacher=teacher)
    two = tmp_path / "two"
    words = [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *command(pairs, two, "edge", (*EDGE, *changes, "training.batch=1")),
        *("--teacher", str(teacher), "--device", "cpu"),
    ]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, theirs = rows(one, "pixel"), rows(two, "pixel")
    assert len(ours) == 2
    for (step, a), (_, b) in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6), step


def test_a_bad_picture_stops_all_processes(pairs: Path, tmp_path: Path) -> None:
    """The one that finds it must not leave the others waiting."""
    data = tmp_path / "data"
    for name in ("blur", "sharp"):
        (data / name).mkdir(parents=True)
        for file in (pairs / name).iterdir():
            (data / name / file.name).write_bytes(file.read_bytes())
    (data / "blur" / "1.png").write_bytes(b"not a picture")
    words = command(data, tmp_path / "run", "edge", EDGE)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, *launch, *words, "--device", "cpu"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("1.png: expected") == 1


def test_another_run_in_the_same_folder_is_refused(
    train_tiny: Callable[..., Path], photos: Path
) -> None:
    train_tiny()
    with pytest.raises(DeblurError, match=r"data\.flips is .* --start-from"):
        train_tiny(tiny("edge", "data.flips=none"))
    with pytest.raises(DeblurError, match=r"data is .* --start-from"):
        train_tiny(data=[str(photos)])


def test_a_second_process_in_the_same_folder_is_refused(
    train_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    folder = train_tiny()
    holder = "import sys; from pathlib import Path; from deblurgan.train.state import alone_in\n"
    holder += "with alone_in(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    before = (folder / "state.pt").read_bytes()
    with pytest.raises(DeblurError, match="run: expected a folder that no other process trains in"):
        train_tiny()
    assert (folder / "state.pt").read_bytes() == before
    other.kill()
    other.wait()
    train_tiny()


def test_other_pictures_of_the_same_names_are_noticed(
    train_tiny: Callable[..., Path], pairs: Path, tmp_path: Path
) -> None:
    """Every set that ``deblur-train blur`` makes has the same names."""
    data = shutil.copytree(pairs, tmp_path / "data")
    train_tiny(data=[str(data)])
    moved = data.rename(tmp_path / "moved")
    train_tiny(data=[str(moved)])
    held_out = sorted((moved / "sharp").iterdir())[0]
    picture = cv2.imread(str(held_out))
    cv2.imwrite(str(held_out), picture // 2)
    with pytest.raises(DeblurError, match=r"other files under the same names.* --start-from"):
        train_tiny(data=[str(moved)])


def test_what_is_not_read_is_said(
    train_tiny: Callable[..., Path], pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(pairs, tmp_path / "data")
    train_tiny(data=[str(data)])
    assert "left out" not in capsys.readouterr().err
    shutil.copy(next((data / "sharp").iterdir()), data / "photo.png")
    (data / "IMG_0001.HEIC").write_bytes(b"from a phone")
    train_tiny(data=[str(data)])
    said = " ".join(capsys.readouterr().err.split())
    assert "left out beside the pairs: 1 files" in said
    assert "left out, as they are not read: 1 files (.heic)" in said


def test_a_finished_run_stays_finished(train_tiny: Callable[..., Path]) -> None:
    before = weights(train_tiny())
    folder = train_tiny()
    assert weights(folder) == before
    assert len(rows(folder, "generator")) == 6


def test_weights_to_start_from_must_be_the_recipes(
    train_tiny: Callable[..., Path], tmp_path: Path, tiny_edge: EdgeGenerator
) -> None:
    path = tmp_path / "wide.safetensors"
    save_checkpoint(path, EdgeGenerator(), {})
    with pytest.raises(DeblurError, match=r"wide\.safetensors: expected the recipe's generator"):
        train_tiny(start_from=path)
    save_checkpoint(path, tiny_edge, {})
    folder = train_tiny(start_from=path, folder="second")
    assert rows(folder, "gain_db")[0] == (0, pytest.approx(0, abs=1e-3))  # begins as the identity


def test_a_run_with_a_teacher_resumes_as_if_it_had_not_ended(
    train_tiny: Callable[..., Path], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_tiny(folder="whole", teacher=teacher)
    assert weights(whole) != weights(train_tiny(folder="alone"))
    training = load_checkpoint(whole / "last.safetensors").training
    generator = load_checkpoint(teacher).generator
    assert training["teacher"] == weights_sha256(generator)[:12]

    steps = 0

    def killed(*arguments: Any) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return train_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(folder="halves", teacher=teacher)
    with pytest.raises(DeblurError, match="teacher is None, was"):
        train_tiny(folder="halves")
    renamed = teacher.rename(teacher.with_stem("renamed"))
    save_checkpoint(teacher, EdgeGenerator(generator.settings), {})
    with pytest.raises(DeblurError, match=r"teacher is .*, was"):
        train_tiny(folder="halves", teacher=teacher)
    assert weights(train_tiny(folder="halves", teacher=renamed)) == weights(whole)


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(
    train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("edge", "training.precision=auto", "schedule.steps=2")
    monkeypatch.setattr(devices, "find_instructions", lambda: ("AVX-512", "bf16"))
    run = train_tiny(recipe)
    assert (
        load_checkpoint(run / "last.safetensors").training["recipe"]["training"]["precision"]
        == "bf16"
    )
    monkeypatch.setattr(devices, "find_instructions", lambda: ("AVX2",))
    with pytest.raises(DeblurError, match=r"training\.precision is .*fp32.*, was .*bf16"):
        train_tiny(recipe)
    train_tiny(tiny("edge", "training.precision=bf16", "schedule.steps=2"))


def test_a_teacher_is_not_in_the_way_of_the_first_weights(
    train_tiny: Callable[..., Path], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train_step", killed)
    first = []
    for changes in ({}, {"teacher": teacher}):
        with pytest.raises(KeyboardInterrupt):
            train_tiny(folder=f"run{len(first)}", **changes)
        state = torch.load(teacher.parent / f"run{len(first)}" / NAME, weights_only=True)
        first.append(state["generator"])
    assert all(torch.equal(first[1][name], values) for name, values in first[0].items())


def test_a_teacher_must_have_something_to_teach(
    train_tiny: Callable[..., Path], teacher: Path, vgg: Path
) -> None:
    with pytest.raises(
        DeblurError, match=r"--teacher: expected .*loss\.pixel.* --set loss\.pixel=1"
    ):
        train_tiny(tiny("paper"), vgg=vgg, teacher=teacher)
    with pytest.raises(DeblurError, match=r"none\.safetensors: expected"):
        train_tiny(teacher=teacher.with_stem("none"))
    save_checkpoint(teacher, UNetGenerator(UNetSettings(channels=2)), {})
    with pytest.raises(DeblurError, match=r"data\.crop of at least 129.*--set data\.crop=129"):
        train_tiny(teacher=teacher)
    assert not (teacher.parent / "run" / NAME).exists()


def test_a_start_that_is_killed_at_once_can_be_repeated(
    train_tiny: Callable[..., Path],
    tmp_path: Path,
    tiny_edge: EdgeGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also without the weights that it began with, which are in its state."""
    path = tmp_path / "first.safetensors"
    save_checkpoint(path, tiny_edge, {})
    recipe = tiny("edge", "training.save_every=1e9")
    whole = train_tiny(recipe, "whole", start_from=path)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(recipe, start_from=path)
    path.unlink()
    assert weights(train_tiny(recipe, start_from=path)) == weights(whole)


def test_channels_that_never_fire_begin_anew_once(
    train_tiny: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny("edge", "training.begin_anew=true", "schedule.steps=3")
    torch.manual_seed(5)
    generator = EdgeGenerator(recipe.generator.settings)
    torch.nn.init.normal_(generator.tail[0].weight, std=0.02)
    block = generator.entry[0]
    with torch.no_grad():
        block.first.bias[:3] = -50
    path = tmp_path / "first.safetensors"
    save_checkpoint(path, generator, {})
    folder = train_tiny(recipe, start_from=path)
    assert "3 of 32 hidden channels never fire: they begin anew" in capfd.readouterr().err
    alone = train_tiny(tiny("edge", "schedule.steps=3"), "alone", start_from=path)
    assert rows(folder, "gain_db")[0] == rows(alone, "gain_db")[0]
    assert weights(folder) != weights(alone)
    before = weights(folder)
    assert weights(train_tiny(recipe, start_from=path)) == before
    assert "begin anew" not in capfd.readouterr().err
    with pytest.raises(DeblurError, match=r"training\.begin_anew: .* no --start-from"):
        train_tiny(recipe, "other")


def test_weights_that_are_not_finite_are_never_the_best(train_tiny: Callable[..., Path]) -> None:
    def explode(*arguments: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            next(arguments[2].generator.parameters()).fill_(float("nan"))
        return {"generator": torch.tensor(1.0)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", explode)
        with pytest.raises(DeblurError, match=r"finite weights.*nothing is saved yet"):
            train_tiny(tiny("edge", "training.validate_every=1"))


def test_processes_that_know_of_different_runs_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fabric = devices.make_fabric(devices.Devices("cpu"), tiny().training)
    devices.check_alike(fabric, tmp_path, {"step": 3})
    monkeypatch.setattr(devices, "gathered", lambda fabric, facts: [facts, {"step": 0}])
    with pytest.raises(DeblurError, match="3 in the first, 0 in number 1; let all machines see"):
        devices.check_alike(fabric, tmp_path, {"step": 3})


def test_processes_that_would_compute_in_different_precisions_are_stopped(
    train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``auto`` does on machines of which one has bf16."""

    def gathered(_: object, value: Any) -> list[Any]:
        other = {**value, "training.precision": "bf16"} if isinstance(value, dict) else value
        return [value, other]

    monkeypatch.setattr(devices, "gathered", gathered)
    named = r"fp32 in the first, bf16 in number 1; .* --set training\.precision=fp32"
    with pytest.raises(DeblurError, match=named):
        train_tiny()


@pytest.mark.parametrize("text", ["step;loss\n1;2\n", "step,samples\none,2\n"])
def test_a_table_that_something_else_has_written_is_told(
    text: str, train_tiny: Callable[..., Path]
) -> None:
    log = train_tiny() / "log.csv"
    log.write_text(text)
    with pytest.raises(DeblurError, match=r"log\.csv: .* move it away: mv "):
        train_tiny()


def test_a_bare_checkout_starts_several_processes(
    pairs: Path, tmp_path: Path, train_tiny: Callable[..., Path]
) -> None:
    words = command(pairs, tmp_path / "run", "edge", EDGE)
    done = subprocess.run(
        [sys.executable, *words, "--devices", "2", "--device", "cpu"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best: ") == 1
    assert rows(tmp_path / "run", "samples")[-1] == (6, 24)


@pytest.mark.parametrize("writes", range(2, 17, 3))
def test_a_full_disk_leaves_the_state_before(
    writes: int, train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, flushed = os.fsync, []

    def full(file: int) -> None:
        flushed.append(file)
        if len(flushed) > writes:
            raise OSError(28, "No space left on device")
        flush(file)

    whole = train_tiny(folder="whole")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeblurError, match="no space left on device; free some space"):
        train_tiny()
    monkeypatch.undo()
    assert weights(train_tiny()) == weights(whole)
    assert rows(train_tiny(), "generator") == rows(whole, "generator")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_is_really_full(
    pairs: Path, tmp_path: Path, train_tiny: Callable[..., Path]
) -> None:
    """Whatever write it hits: an error, no hang, and going on once there is room."""
    changes = ("schedule.steps=30", "training.validate_every=15")
    whole = train_tiny(tiny("edge", *changes), "whole")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3000k", "tmpfs", str(disk)])
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        words = command(pairs, disk / "run", "edge", (*EDGE, *changes))
        for room in range(0, 2800, 300):
            (disk / "other").write_bytes(bytes(1024 * (2800 - room)))
            done = subprocess.run(
                [sys.executable, *words], capture_output=True, text=True, timeout=120
            )
            if done.returncode == 0:
                break
            assert done.returncode == 2, done.stderr
            assert "no space left on device" in done.stderr
        assert done.returncode == 0
        assert room > 0
        assert weights(disk / "run") == weights(whole)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_nan_stops_and_names_the_last_good_checkpoint(
    train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, done = loop.train_step, []

    def broken(*arguments: Any) -> dict[str, Tensor]:
        done.append(0)
        losses = step(*arguments)
        return losses if len(done) < 5 else {**losses, "generator": torch.tensor(float("nan"))}

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(DeblurError, match=r"step 5: .* generator nan; .*best\.safetensors"):
        train_tiny()


def test_collapse_stops_and_names_the_last_good_checkpoint(
    train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        keeper, "restore", lambda network, blurred, calls=[]: (calls.append(0), blurred)[1]
        if len(calls) < 2 else torch.zeros_like(blurred)
    )  # fmt: skip
    with pytest.raises(DeblurError, match=r"step 6: .*collapsed; .*best\.safetensors"):
        train_tiny()


def test_gopro_as_unpacked_with_blur_or_blur_gamma(
    train_tiny: Callable[..., Path], pairs: Path, tmp_path: Path
) -> None:
    for part in ("train", "test"):
        sequence = tmp_path / "GOPRO_Large" / part / "GOPR0001_11_00"
        shutil.copytree(pairs / "sharp", sequence / "sharp")
        shutil.copytree(pairs / "sharp", sequence / "blur")
        shutil.copytree(pairs / "blur", sequence / "blur_gamma")
    data = [str(tmp_path / "GOPRO_Large")]
    plain = train_tiny(data=data)
    gamma = train_tiny(tiny("edge", "data.gamma=true"), "gamma", data=data)
    assert rows(plain, "psnr_blurred")[-1][1] == 100 > rows(gamma, "psnr_blurred")[-1][1]


def test_pairs_that_are_sharp_already_stop_nothing(
    train_tiny: Callable[..., Path], pairs: Path, tmp_path: Path
) -> None:
    for name in ("blur", "sharp"):
        shutil.copytree(pairs / "sharp", tmp_path / "data" / name)
    folder = train_tiny(data=[str(tmp_path / "data")])
    assert rows(folder, "psnr_blurred")[-1] == (6, 100)
    assert load_checkpoint(folder / "best.safetensors").training["steps"] in (3, 6)


def test_a_run_without_an_end_is_refused(train_tiny: Callable[..., Path]) -> None:
    with pytest.raises(DeblurError, match="--time-limit 2h"):
        train_tiny(tiny("edge", "schedule.steps=0"))


def test_a_time_limit_ends_one_start_of_a_scheduled_run(train_tiny: Callable[..., Path]) -> None:
    recipe = tiny("edge", "schedule.steps=100000", "training.validate_every=100000")
    first = len(rows(train_tiny(recipe, time_limit=0.5), "generator"))
    assert first > 0
    assert len(rows(train_tiny(recipe, time_limit=0.5), "generator")) > first


def test_a_time_limit_is_the_length_of_a_run_without_schedule(
    train_tiny: Callable[..., Path],
) -> None:
    recipe = tiny("edge", "schedule.steps=0", "schedule.warm_up=0")
    folder = train_tiny(recipe, time_limit=1)
    rates = [rate for _, rate in rows(folder, "learning_rate")]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]
    steps = len(rates)
    assert len(rows(train_tiny(recipe, time_limit=1), "learning_rate")) == steps


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        (ScheduleSettings(steps=10, hold=0.5, decay="linear"), [1, 1, 1, 0.5, 0.1]),
        (ScheduleSettings(steps=10, decay="none", warm_up=4), [0.25, 1, 1, 1, 1]),
        (ScheduleSettings(steps=10, decay="cosine"), [1, 0.5 * 0.99 + 0.01]),
    ],
)
def test_the_learning_rate_follows_the_schedule(
    settings: ScheduleSettings, factors: list[float]
) -> None:
    shares = [0, 0.5] if settings.decay == "cosine" else [0, 0.4, 0.5, 0.75, 0.95]
    for share, factor in zip(shares, factors, strict=True):
        assert schedule_factor(settings, round(10 * share), share) == pytest.approx(factor)


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 1), (6, 4), (8, 6), (16, 12), (64, 12)])
def test_workers_for_a_gpu_share_the_lanes(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert usual_workers(torch.device("cuda")) == workers
    assert usual_workers(torch.device("cpu")) == 1


def test_signals_are_only_noted_and_then_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal() as stopped:
        assert not stopped()
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("fit", "width"), [("crop", 40), ("resize", 80)])
def test_held_out_pairs_have_the_scale_that_training_s_have(
    fit: str, width: int, tmp_path: Path
) -> None:
    for kind in ("blur", "sharp"):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "0.png"), np.zeros((60, 80, 3), np.uint8))
    recipe = load_recipe("paper", [f"data.fit={fit}", "data.scale=0.5"])
    (pair,) = loop.validation_pairs(find_source(str(tmp_path), "train"), recipe, 1)
    assert pair.sharp.shape[-1] == width
