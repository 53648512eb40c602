from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import ModelCard, open_model
from deblurgan.runtime.golden import Golden, golden_frame, make_golden
from deblurgan.runtime.tensorrt import sidecar
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan
from deblurgan.runtime.tensorrt.device import Device
from deblurgan.runtime.tensorrt.memory_bound import memory_bound
from deblurgan.runtime.tensorrt.profiles import Profile, Shape
from deblurgan.runtime.tensorrt.sidecar import (
    PlanCard,
    finish_golden,
    mark_verified,
    open_plan,
    sidecar_path,
    write_plan,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_plan_and_what_it_is(
    plan: Path, built: BuiltPlan, negative: Path, card: ModelCard, device: Device
) -> None:
    assert plan.read_bytes() == built.plan, "trtexec reads it"
    found = open_plan(plan)
    assert found.path == plan
    assert found.card == card
    assert found.onnx == "negative.onnx"
    assert found.onnx_sha256 == hashlib.sha256(negative.read_bytes()).hexdigest()
    assert found.plan_sha256 == hashlib.sha256(built.plan).hexdigest()
    assert found.plan_size == len(built.plan)
    assert (found.flavour, found.tensorrt, found.title) == ("tensorrt", "10.3.0", "TensorRT 10.3.0")
    assert (found.gpu, found.chip) == (device.name, device.chip)
    assert (found.compute_capability, found.multiprocessors) == ("8.9", 128)
    assert (found.driver, found.cuda) == ("570.86.15", "12.8")
    assert found.profile == Profile(Shape(1, 32, 48), Shape(1, 64, 96), Shape(2, 128, 192))
    assert (found.seconds, found.layers, found.device_memory) == (12.35, 17, 1 << 20)
    assert found.verified is False
    assert found.written.endswith("+00:00")
    assert sorted(path.name for path in plan.parent.iterdir()) == ["edge.plan", "edge.plan.json"]


def test_the_sidecar_has_no_path_of_the_machine_that_wrote_it(plan: Path, negative: Path) -> None:
    text = sidecar_path(plan).read_text()
    assert str(plan.parent) not in text
    assert str(negative.parent) not in text


def test_what_is_written_is_what_is_read(
    tmp_path: Path, negative: Path, built: BuiltPlan, options: BuildOptions
) -> None:
    options = replace(options, workspace=1 << 30, optimization_level=4, version_compatible=True)
    rtx = replace(built, flavour="tensorrt_rtx", tensorrt="1.7.1.116", targets=("sm89", "sm120"))
    written = write_plan(tmp_path / "a.plan", rtx, open_model(negative), options)
    found = open_plan(tmp_path / "a.plan")
    assert replace(found, golden=None) == replace(written, golden=None)
    assert (found.workspace, found.optimization_level) == (1 << 30, 4)
    assert (found.version_compatible, found.hardware_compatible) == (True, False)
    assert found.is_rtx
    assert found.targets == ("sm89", "sm120")
    assert found.to_json() == written.to_json()


def test_built_ahead_of_time_it_names_no_gpu(
    tmp_path: Path,
    negative: Path,
    built: BuiltPlan,
    options: BuildOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sidecar, "find_device", lambda: None)
    found = write_plan(tmp_path / "a.plan", built, open_model(negative), options)
    assert (found.gpu, found.chip, found.compute_capability) == (None,) * 3
    assert (found.multiprocessors, found.driver, found.cuda) == (None,) * 3
    assert open_plan(tmp_path / "a.plan").gpu is None


def test_the_models_own_golden_pair_where_the_plan_takes_it(
    write_negative: Callable[..., Path],
    card: ModelCard,
    tmp_path: Path,
    built: BuiltPlan,
    options: BuildOptions,
) -> None:
    output = golden_frame(50, 40)[:, :20, :30]
    pair = Golden(50, 40, 3, 1, 2, np.ascontiguousarray(output), "made by hand")
    metadata = replace(card, golden=pair.to_json()).to_metadata()
    model = open_model(write_negative(tmp_path / "golden.onnx", metadata=metadata))
    write_plan(tmp_path / "a.plan", built, model, options)
    found = open_plan(tmp_path / "a.plan")
    assert found.golden is not None
    assert found.golden.to_json() == pair.to_json()
    assert found.card == card, "it is in one place only"


@pytest.mark.parametrize("damaged", [True, False])
def test_another_golden_pair_where_the_plan_does_not_take_the_models(
    damaged: bool,
    write_negative: Callable[..., Path],
    card: ModelCard,
    negative: Path,
    tmp_path: Path,
    built: BuiltPlan,
    options: BuildOptions,
) -> None:
    pytest.importorskip("onnxruntime")
    values = make_golden(open_model(negative), 300, 200).to_json()
    if damaged:
        values |= {"png": "no picture"}
    metadata = replace(card, golden=values).to_metadata()
    model = open_model(write_negative(tmp_path / "golden.onnx", metadata=metadata))
    golden = write_plan(tmp_path / "a.plan", built, model, options).golden
    assert golden is not None
    assert (golden.width, golden.height) == (48, 32), "the smallest of the profile"
    assert np.array_equal(golden.output, 255 - golden_frame(48, 32))


def test_without_a_cpu_engine_it_says_why_there_is_no_golden_pair(
    negative: Path,
    tmp_path: Path,
    built: BuiltPlan,
    options: BuildOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for engine in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, engine, None)
        monkeypatch.delitem(sys.modules, f"deblurgan.runtime.backends.{engine}", raising=False)
    write_plan(tmp_path / "a.plan", built, open_model(negative), options)
    found = open_plan(tmp_path / "a.plan")
    assert found.golden is None
    assert "not installed" in found.golden_missing
    assert "[cpu]" in found.golden_missing


def test_a_plan_outlives_a_kill_while_its_golden_pair_is_made(
    tmp_path: Path,
    negative: Path,
    built: BuiltPlan,
    options: BuildOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, model = tmp_path / "a.plan", open_model(negative)

    def killed(*_: object) -> Golden:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(sidecar, "make_golden", killed)
        with pytest.raises(Killed):
            write_plan(path, built, model, options)
    left = open_plan(path)
    assert path.read_bytes() == built.plan
    assert left.golden is None
    assert "stopped before its end" in left.golden_missing
    pytest.importorskip("onnxruntime")
    finished = finish_golden(left, model)
    assert finished.golden is not None
    assert open_plan(path).to_json() == finished.to_json()
    monkeypatch.setattr(sidecar, "make_golden", killed)
    assert finish_golden(finished, model) == finished, "it is made once"


def test_too_little_memory_for_a_golden_pair_costs_no_plan(
    tmp_path: Path,
    negative: Path,
    built: BuiltPlan,
    options: BuildOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For real: there is none even for the frame itself."""
    pytest.importorskip("onnxruntime")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:   8000000 kB\nMemAvailable:   512000 kB\n")
    monkeypatch.setattr(sidecar, "memory_bound", lambda: memory_bound(meminfo))
    huge = replace(options, profile=Profile(*[Shape(1, 10000, 10000)] * 3))
    write_plan(tmp_path / "a.plan", built, open_model(negative), huge)
    found = open_plan(tmp_path / "a.plan")
    assert found.golden is None
    assert found.golden_missing == (
        "too little memory for a frame of 10000x10000; "
        "close other programs, or ask for smaller frames"
    )


def test_a_golden_pair_that_cannot_be_written_costs_no_plan(
    tmp_path: Path,
    negative: Path,
    built: BuiltPlan,
    options: BuildOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_space(monkeypatch, after=2)
    card = write_plan(tmp_path / "a.plan", built, open_model(negative), options)
    assert "no space left" in card.golden_missing
    assert open_plan(tmp_path / "a.plan").golden is None
    assert sorted(path.name for path in tmp_path.iterdir() if path != negative) == [
        "a.plan",
        "a.plan.json",
    ]


def test_verified_is_noted_and_the_plan_stays(plan: Path, built: BuiltPlan) -> None:
    mark_verified(open_plan(plan), "NVIDIA GeForce RTX 4090")
    found = open_plan(plan)
    assert found.verified is True
    assert found.verified_on == "NVIDIA GeForce RTX 4090"
    assert found.verified_at >= found.written
    assert plan.read_bytes() == built.plan


# What is wrong with either file, and what the error says.


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changes}))


def profile_of(height: Any) -> dict[str, dict[str, Any]]:
    return {name: {"batch": 1, "height": height, "width": 96} for name in ("min", "opt", "max")}


def reseal(path: Path, **changes: Any) -> None:
    """Edited by somebody who knows the checksum."""
    values = {**json.loads(path.read_text()), **changes}
    values.pop("checksum")
    path.write_text(json.dumps({**values, "checksum": sidecar.checksum(values)}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda plan, side: side.unlink(), r"none beside the plan; copy it from where"),
        (lambda plan, side: edit(side, verified=True), "changed after it was written"),
        (lambda plan, side: edit(side, gpu="NVIDIA H100"), "changed after it was written"),
        (lambda plan, side: edit(side, version=2), r"version 2, of a later release.*update this"),
        (lambda plan, side: reseal(side, flavour="cuda"), "something else, or a part of one"),
        (lambda plan, side: reseal(side, plan_size="1"), "something else, or a part of one"),
        (lambda plan, side: reseal(side, card={"stride": 4}), "something else, or a part"),
        (lambda plan, side: reseal(side, profile={"min": 1}), "something else, or a part"),
        (lambda plan, side: reseal(side, plan_size=5), "not written together"),
        (lambda plan, side: reseal(side, plan_size=1 << 60), "the first 5,124 of its 1,152,9"),
        (lambda plan, side: reseal(side, plan_size=-1), "not written together"),
        (lambda plan, side: reseal(side, onnx="../../etc/passwd"), "something else, or a part"),
        (lambda plan, side: reseal(side, onnx=["a"]), "something else, or a part of one"),
        (lambda plan, side: reseal(side, targets=[1]), "something else, or a part of one"),
        (lambda plan, side: reseal(side, targets="sm89"), "something else, or a part of one"),
        (lambda plan, side: reseal(side, tensorrt=None), "something else, or a part of one"),
        (lambda plan, side: reseal(side, profile=profile_of(1 << 40)), "something else, or a"),
        (lambda plan, side: reseal(side, profile=profile_of(0)), "something else, or a part"),
        (lambda plan, side: reseal(side, profile=profile_of("9")), "something else, or a part"),
        (lambda plan, side: reseal(side, golden={"width": 1 << 40}), "something else, or a"),
        (lambda plan, side: os.truncate(side, 1 << 33), "something else, or a part of one"),
        (lambda plan, side: side.write_text("[]"), "something else, or a part of one"),
        (lambda plan, side: side.write_text("[" * 100_000), "something else, or a part of one"),
        (lambda plan, side: side.write_bytes(b"\xff\xfe"), "something else, or a part of one"),
        (lambda plan, side: os.truncate(side, 300), "something else, or a part of one"),
        (lambda plan, side: (side.unlink(), side.mkdir()), "cannot be read .is a directory"),
        (lambda plan, side: os.truncate(plan, 1000), r"the first 1,000 of its 5,124 bytes"),
        (lambda plan, side: os.truncate(plan, 0), "an empty file"),
        (lambda plan, side: plan.unlink(), "no such file"),
        (lambda plan, side: (plan.unlink(), plan.mkdir()), "cannot be read .is a directory"),
        (lambda plan, side: plan.write_bytes(b"ptrt" + bytes(6000)), "not written together"),
        (lambda plan, side: plan.write_bytes(b"ptrt" + bytes(5120)), "not written together"),
        (
            lambda plan, side: (plan.write_bytes(b"\x89PNG"), side.unlink()),
            r"none, and edge\.plan is no plan",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    damage: Callable[[Path, Path], Any], said: str, plan: Path
) -> None:
    open_plan(plan)
    damage(plan, sidecar_path(plan))
    with pytest.raises(DeblurError, match=said) as error:
        open_plan(plan)
    assert "deblur-export trt" in error.value.remedy


def test_a_changed_plan_comes_with_the_very_command_that_builds_it_again(plan: Path) -> None:
    plan.write_bytes(b"ptrt" + bytes(5120))
    with pytest.raises(DeblurError) as error:
        open_plan(plan)
    assert error.value.remedy.endswith(
        "deblur-export trt negative.onnx -o edge.plan --overwrite "
        "--min 48x32 --opt 96x64 --max 192x128 --batch 2"
    )


def test_a_command_to_copy_runs_nothing_but_itself(plan: Path) -> None:
    reseal(sidecar_path(plan), onnx="a b; touch sprung", targets=["sm89 $(touch sprung)"])
    command = open_plan(plan).rebuild_command()
    assert shlex.split(command)[:3] == ["deblur-export", "trt", "a b; touch sprung"]
    assert shlex.split(command)[-2:] == ["--target", "sm89 $(touch sprung)"]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_damage_makes_a_traceback_or_passes(plan: Path, data: st.DataObject) -> None:
    damaged = plan.with_name("damaged.plan")
    for source, target in ((plan, damaged), (sidecar_path(plan), sidecar_path(damaged))):
        target.write_bytes(source.read_bytes())
    victim = data.draw(st.sampled_from([damaged, sidecar_path(damaged)]))
    content = bytearray(victim.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    same = json_or_none(bytes(content)) == json_or_none(victim.read_bytes()) is not None
    same = same or bytes(content) == victim.read_bytes()
    victim.write_bytes(content)
    with contextlib.suppress(DeblurError):
        open_plan(damaged)
        assert same, "a damaged pair was taken"


def json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


# Both files, or what was there before.


def no_space(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The device is full once ``after`` files were synced to it."""
    done, sync = [0], os.fsync

    def full(descriptor: int) -> None:
        done[0] += 1
        if done[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("older", [True, False])
def test_no_space_leaves_what_was_there(
    after: int,
    older: bool,
    plan: Path,
    built: BuiltPlan,
    options: BuildOptions,
    negative: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = plan if older else plan.with_name("new.plan")
    before = contents(plan.parent)
    no_space(monkeypatch, after)
    with pytest.raises(DeblurError, match=r"room and permission.*no space left.*free some space"):
        write_plan(target, replace(built, plan=b"ptrt new"), open_model(negative), options)
    assert contents(plan.parent) == before
    assert open_plan(plan).plan_size == len(built.plan)


def test_a_folder_under_the_sidecars_name_is_said_before_the_plan_is_replaced(
    tmp_path: Path, built: BuiltPlan, options: BuildOptions, negative: Path
) -> None:
    (tmp_path / "a.plan").write_bytes(b"an older one")
    (tmp_path / "a.plan.json").mkdir()
    with pytest.raises(DeblurError, match=r"a folder of the name a\.plan\.json"):
        write_plan(tmp_path / "a.plan", built, open_model(negative), options)
    assert (tmp_path / "a.plan").read_bytes() == b"an older one"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_folder_is_said(
    tmp_path: Path, built: BuiltPlan, options: BuildOptions, negative: Path
) -> None:
    with pytest.raises(DeblurError, match="no such file or directory"):
        write_plan(tmp_path / "no" / "a.plan", built, open_model(negative), options)


class Killed(BaseException):
    pass


def test_killed_between_the_two_the_next_one_says_what_is_wrong(
    plan: Path,
    built: BuiltPlan,
    options: BuildOptions,
    negative: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, replace_file = [0], os.replace

    def killed(source: Path, target: Path) -> None:
        done[0] += 1
        if done[0] == 2:
            raise Killed
        replace_file(source, target)

    newer = replace(built, plan=b"ptrt" + bytes(9000))
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Killed):
        write_plan(plan, newer, open_model(negative), options)
    monkeypatch.setattr(os, "replace", replace_file)
    with pytest.raises(DeblurError, match=r"not written together.*build them again"):
        open_plan(plan)
    write_plan(plan, built, open_model(negative), options)
    assert open_plan(plan).plan_size == len(built.plan)


def test_a_fixed_size_is_built_again_at_that_size(make_card: Callable[..., PlanCard]) -> None:
    shape = Shape(1, 720, 1280)
    card = make_card(profile=Profile(shape, shape, shape), hardware_compatible=True)
    command = "deblur-export trt negative.onnx -o edge.plan --overwrite"
    assert card.rebuild_command() == f"{command} --size 1280x720 --hardware-compatible"
    rtx = replace(card, targets=("sm89",), hardware_compatible=False, version_compatible=True)
    assert rtx.rebuild_command() == f"{command} --size 1280x720 --version-compatible --target sm89"
    assert "--target sm75" in rtx.rebuild_command(("sm75",))
    assert "--max 9x9" in rtx.rebuild_command(sizes="--max 9x9")
