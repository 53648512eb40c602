from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.tensorrt import plan_cache
from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan
from deblurgan.runtime.tensorrt.device import Device
from deblurgan.runtime.tensorrt.kernel_cache import kernels_path
from deblurgan.runtime.tensorrt.machine import Machine
from deblurgan.runtime.tensorrt.plan_cache import (
    cached_plan,
    clear_plans,
    entry_path,
    is_cached,
    list_plans,
    plans_folder,
)
from deblurgan.runtime.tensorrt.sidecar import open_plan, sidecar_path

MakeCache = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "deblurgan" / "plans"


@pytest.fixture
def model(negative: Path) -> Model:
    return open_model(negative)


@pytest.fixture
def rtx_options(options: BuildOptions) -> BuildOptions:
    pytest.importorskip("tensorrt_rtx")
    return replace(options, targets=("sm89",))


@pytest.fixture
def builds(
    built: BuiltPlan, device: Device, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Any, ...]]:
    """Plans out of nothing, on a machine with TensorRT 10.3 and a GPU; lists what was built."""
    asked: list[tuple[Any, ...]] = []

    def build(*arguments: Any, **_: Any) -> BuiltPlan:
        asked.append(arguments)
        return built

    monkeypatch.setattr(plan_cache, "build_plan", build)
    monkeypatch.setattr(plan_cache, "find_device", lambda: device)
    monkeypatch.setattr("deblurgan.runtime.tensorrt.sidecar.find_device", lambda: device)
    bindings = Bindings(None, "tensorrt", "10.3.0")
    monkeypatch.setattr(plan_cache, "find_bindings", lambda rtx: bindings)
    here = replace(plan_cache.this_machine(), device=device, pycuda=True)
    monkeypatch.setattr(
        plan_cache, "this_machine", lambda: replace(here, tensorrt={"tensorrt": "10.3.0"}, cuda={})
    )
    return asked


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# With TensorRT for RTX.


def test_built_once_and_found_again(model: Model, rtx_options: BuildOptions, cache: Path) -> None:
    told: list[int] = []
    path = cached_plan(model, rtx_options, lambda done, total: told.append(done))
    assert path.parent == cache
    assert path.name.startswith("negative-")
    assert told[-1] == 100
    card = open_plan(path)
    assert card.targets == ("sm89",)
    assert card.verified is False
    again: list[int] = []
    assert cached_plan(model, rtx_options, lambda done, total: again.append(done)) == path
    assert again == []
    assert names(cache) == [path.name, f"{path.name}.json"]


BUILD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from deblurgan.runtime.contract import open_model
from deblurgan.runtime.tensorrt.builder import BuildOptions
from deblurgan.runtime.tensorrt.plan_cache import cached_plan
from deblurgan.runtime.tensorrt.profiles import Profile, Shape

model, go = open_model(Path(sys.argv[1])), Path(sys.argv[2])
profile = Profile(Shape(1, 32, 48), Shape(1, 64, 96), Shape(2, 128, 192))

def progress(done, total):
    print("building", flush=True)
    while not go.exists():
        time.sleep(0.02)

print(cached_plan(model, BuildOptions(profile, targets=("sm89",)), progress), flush=True)
"""


@pytest.fixture
def start_building(negative: Path, tmp_path: Path) -> Any:
    """A process that is in the middle of a build until ``go`` is there."""
    pytest.importorskip("tensorrt_rtx")
    go = tmp_path / "go"
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(negative), str(go)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    yield process, go
    process.kill()
    process.communicate()


def test_kill_during_a_build_leaves_nothing_harmful(
    start_building: Any, model: Model, rtx_options: BuildOptions, cache: Path
) -> None:
    process, _ = start_building
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(cache) == []
    assert list_plans() == []
    started = time.monotonic()
    open_plan(cached_plan(model, rtx_options))
    assert time.monotonic() - started < 60, "the lock went with the process"


def test_of_two_processes_one_builds_and_both_use_it(
    start_building: Any, model: Model, rtx_options: BuildOptions, cache: Path
) -> None:
    process, go = start_building
    waits, told, found = threading.Event(), [], []

    def want() -> None:
        found.append(
            cached_plan(
                model,
                rtx_options,
                lambda done, total: told.append(done),
                warn=lambda text: waits.set() if "another process" in text else None,
            )
        )

    second = threading.Thread(target=want)
    second.start()
    assert waits.wait(30)
    assert found == []
    go.touch()
    second.join(60)
    printed, _ = process.communicate(timeout=60)
    assert printed.splitlines()[-1] == str(found[0])
    assert told == [], "the second one did not build"
    assert names(cache) == [found[0].name, f"{found[0].name}.json"]


# Without it: how entries are kept.


def test_the_same_model_under_another_path_is_the_same_entry(
    builds: list[Any], model: Model, options: BuildOptions, tmp_path: Path
) -> None:
    path = cached_plan(model, options)
    copy = tmp_path / "negative.onnx"
    copy.write_bytes(model.path.read_bytes())
    assert cached_plan(open_model(copy), options) == path
    assert len(builds) == 1


def test_all_that_matters_makes_another_entry(
    model: Model,
    options: BuildOptions,
    device: Device,
    write_negative: Callable[..., Path],
    tmp_path: Path,
) -> None:
    def path(
        model: Model = model,
        options: BuildOptions = options,
        version: str = "10.3.0",
        name: str = "tensorrt",
        device: Device | None = device,
    ) -> Path:
        return entry_path(model, options, Bindings(None, name, version), device)

    other = open_model(write_negative(tmp_path / "negative.onnx", size=(64, 48)))
    fixed = replace(options.profile, min=options.profile.max)
    paths = [
        path(),
        path(model=other),
        path(version="10.3.1"),
        path(name="tensorrt_rtx"),
        path(device=None),
        path(device=replace(device, chip="NVIDIA GeForce RTX 4080")),
        path(device=replace(device, multiprocessors=64)),
        path(device=replace(device, compute_capability="8.6")),
        path(device=replace(device, driver="580.10")),
        path(options=replace(options, profile=fixed)),
        path(options=replace(options, workspace=1 << 30)),
        path(options=replace(options, optimization_level=5)),
        path(options=replace(options, hardware_compatible=True)),
        path(options=replace(options, version_compatible=True)),
        path(options=replace(options, targets=("sm89",))),
    ]
    assert len(set(paths)) == len(paths)
    assert path(device=replace(device, driver="570.99")) == path(), "a newer driver of the series"
    assert path(device=replace(device, memory=1)) == path()
    assert path(device=replace(device, name="as a container calls it")) == path()
    assert path(options=replace(options, timing_cache=tmp_path)) == path()
    targets = [replace(options, targets=names) for names in (("sm89", "SM86"), ("sm86", "sm89"))]
    assert path(options=targets[0]) == path(options=targets[1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 100),
        lambda path: path.write_bytes(b"ptrt" + bytes(5120)),
        lambda path: sidecar_path(path).unlink(),
        lambda path: sidecar_path(path).write_text("{}"),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_entry_is_said_and_built_anew(
    damage: Callable[[Path], object], builds: list[Any], model: Model, options: BuildOptions
) -> None:
    path = cached_plan(model, options)
    damage(path)
    warnings: list[str] = []
    assert cached_plan(model, options, warn=warnings.append) == path
    assert len(builds) == 2
    assert len(warnings) == 1
    assert str(path) in warnings[0]
    assert warnings[0].endswith("it is built anew")
    open_plan(path)
    assert cached_plan(model, options, warn=pytest.fail) == path


def test_what_a_killed_process_left_goes_with_the_next_build(
    builds: list[Any], model: Model, options: BuildOptions, cache: Path
) -> None:
    path = cached_plan(model, options)
    left = [path.with_name(f".{path.name}{end}.4711.part") for end in ("", ".json")]
    other = path.with_name(".another.plan.4711.part")
    for part in (*left, other):
        part.touch()
    path.unlink()
    cached_plan(model, options)
    assert names(cache) == sorted([other.name, path.name, f"{path.name}.json"])


def test_a_stop_while_the_golden_pair_is_made_costs_no_second_build(
    builds: list[Any], model: Model, options: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("deblurgan.runtime.tensorrt.sidecar.make_golden", stop)
        with pytest.raises(KeyboardInterrupt):
            cached_plan(model, options)
    path = cached_plan(model, options)
    assert len(builds) == 1
    assert open_plan(path).golden is not None


def test_targets_are_for_rtx_alone(builds: list[Any], model: Model, options: BuildOptions) -> None:
    with pytest.raises(DeblurError, match="--target: expected TensorRT for RTX"):
        cached_plan(model, replace(options, targets=("sm89",), rtx=False))
    assert builds == []


def test_a_build_that_fails_leaves_nothing(
    builds: list[Any],
    model: Model,
    options: BuildOptions,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> BuiltPlan:
        raise DeblurError("model", expected="a plan", found="none", remedy="try")

    with monkeypatch.context() as patch:
        patch.setattr(plan_cache, "build_plan", fail)
        with pytest.raises(DeblurError, match="expected a plan"):
            cached_plan(model, options)
    assert names(cache) == []
    cached_plan(model, options)


def test_what_is_in_the_cache(
    builds: list[Any], model: Model, options: BuildOptions, device: Device
) -> None:
    assert list_plans() == []
    older = cached_plan(model, options)
    os.utime(older, (time.time() - 3600,) * 2)
    newer = cached_plan(model, replace(options, workspace=1 << 20))
    first, second = list_plans()
    assert (first.path, second.path) == (newer, older)
    assert 0 <= first.age < 60
    assert 3590 < second.age < 3700
    assert first.size == newer.stat().st_size + sidecar_path(newer).stat().st_size
    assert first.reasons == ()
    assert first.card is not None
    assert (first.card.onnx, first.card.card.precision) == ("negative.onnx", "fp32")
    assert (first.card.gpu, first.card.tensorrt) == (device.name, "10.3.0")
    assert first.card.profile == options.profile


def test_the_list_says_what_does_not_run_here_and_what_is_damaged(
    builds: list[Any], model: Model, options: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cached_plan(model, options)
    here: Machine = plan_cache.this_machine()
    later = replace(here, tensorrt={"tensorrt": "10.16.1"})
    monkeypatch.setattr(plan_cache, "this_machine", lambda: later)
    (plan,) = list_plans()
    assert len(plan.reasons) == 1
    assert "built with TensorRT 10.3.0, and here is 10.16.1" in plan.reasons[0]
    os.truncate(path, 50)
    (plan,) = list_plans()
    assert plan.card is None
    assert plan.reasons == ("damaged: the first 50 of its 5,124 bytes",)


def test_clearing_all_or_what_no_longer_fits(
    builds: list[Any], model: Model, options: BuildOptions, cache: Path
) -> None:
    fits = cached_plan(model, options)
    damaged = cached_plan(model, replace(options, workspace=1 << 20))
    os.truncate(damaged, 50)
    assert [plan.path for plan in clear_plans(unusable_only=True)] == [damaged]
    assert names(cache) == [fits.name, f"{fits.name}.json"]
    assert clear_plans(unusable_only=True) == []
    assert [plan.path for plan in clear_plans()] == [fits]
    assert list(cache.iterdir()) == [], "not even a lock"
    assert clear_plans() == []


def test_clearing_leaves_what_is_being_built(
    builds: list[Any], model: Model, options: BuildOptions
) -> None:
    path = cached_plan(model, options)
    with plan_cache.locked(path, None):
        assert clear_plans() == []
    assert path.exists()
    assert [plan.path for plan in clear_plans()] == [path]


# Where it cannot be.


def test_what_is_cached_is_known_without_building(
    builds: list[Any], model: Model, options: BuildOptions
) -> None:
    assert not is_cached(model, options)
    cached_plan(model, options)
    assert is_cached(model, options)
    assert not is_cached(model, replace(options, workspace=1 << 30))
    assert len(builds) == 1


def test_kernels_belong_to_their_entry(
    builds: list[Any], model: Model, options: BuildOptions, cache: Path
) -> None:
    path = cached_plan(model, options)
    size = list_plans()[0].size
    kernels_path(path).write_bytes(b"12345")
    assert list_plans()[0].size == size + 5
    clear_plans()
    assert names(cache) == []


def test_the_cache_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert plans_folder() == tmp_path / "cache" / "deblurgan" / "plans"
    for unset in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert plans_folder() == Path("/home/someone/.cache/deblurgan/plans")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert plans_folder() == Path("/home/someone/.cache/deblurgan/plans")


def test_no_home_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DeblurError, match=r"a home folder.*export XDG_CACHE_HOME=FOLDER"):
        plans_folder()


def test_a_folder_that_cannot_be_made_or_written_is_said_before_the_build(
    builds: list[Any], model: Model, options: BuildOptions, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DeblurError, match=r"cache of plans.*export XDG_CACHE_HOME=FOLDER"):
        cached_plan(model, options)
    assert builds == []


def test_a_folder_without_permission(
    builds: list[Any],
    model: Model,
    options: BuildOptions,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache.mkdir(parents=True)
    open_file = Path.open

    def refuse(path: Path, *arguments: Any, **settings: Any) -> Any:
        if path.name.endswith(".lock"):  # root may write anywhere
            raise PermissionError(13, "Permission denied")
        return open_file(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DeblurError, match=r"permission denied; chmod or chown it, or keep plans"):
        cached_plan(model, options)
    assert builds == []


def test_no_space_says_how_to_make_some(
    builds: list[Any],
    model: Model,
    options: BuildOptions,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeblurError, match=r"no space left.*plans clear, or keep plans elsewhere"):
        cached_plan(model, options)
    assert names(cache) == []
