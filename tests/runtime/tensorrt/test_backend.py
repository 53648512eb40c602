"""``backends/tensorrt.py``: a model or a plan in, verified frames out, with a CUDA and a
TensorRT that count; and, marked ``gpu``, the real ones.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deblurgan.runtime import DeblurError, Deblurrer, backends
from deblurgan.runtime.backends import NoEngine, Unavailable, open_backend, tensorrt
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.golden import WrongPicture
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan
from deblurgan.runtime.tensorrt.device import Device, find_device
from deblurgan.runtime.tensorrt.kernel_cache import kernels_path
from deblurgan.runtime.tensorrt.runner import PlanRunner
from deblurgan.runtime.tensorrt.sidecar import PlanCard, open_plan, sidecar_path, write_plan

FRAME = np.arange(64 * 96 * 3, dtype=np.int64).astype(np.uint8).reshape(1, 64, 96, 3)


@pytest.fixture
def machine(
    fakes: Any,
    device: Device,
    negative: Path,
    built: BuiltPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """A machine with a GPU and TensorRT; ``builds`` are the options of plans built on it."""
    made: list[BuildOptions] = []
    fakes.ComputeCapability = SimpleNamespace(SM75=0, SM89=1)
    machine = SimpleNamespace(fakes=fakes, builds=made, missing=None, device=device)

    def cached(model: Model, options: BuildOptions, progress: Any, *, warn: Any) -> Path:
        path = tmp_path / f"{len(made)}.plan"
        made.append(options)
        if progress is not None:
            progress(100, 100)
        write_plan(path, replace(built, flavour=flavour(options)), model, options)
        return path

    def flavour(options: BuildOptions) -> str:
        return "tensorrt_rtx" if options.rtx else "tensorrt"

    def find(rtx: bool) -> Any:
        if machine.missing is not None:
            raise machine.missing
        return SimpleNamespace(trt=fakes, title="TensorRT 10.3.0")

    def load(*arguments: Any) -> PlanRunner:
        loaded.append(PlanRunner(*arguments))  # else one that is left open goes at any time
        return loaded[-1]

    loaded: list[PlanRunner] = []
    monkeypatch.setattr(tensorrt, "PlanRunner", load)
    monkeypatch.setattr(backends, "find_device", lambda: machine.device)
    monkeypatch.setattr(tensorrt, "find_device", lambda: machine.device)
    monkeypatch.setattr(tensorrt, "find_bindings", find)
    monkeypatch.setattr(tensorrt, "import_pycuda", lambda name: fakes)
    monkeypatch.setattr(tensorrt, "cached_plan", cached)
    monkeypatch.setattr(tensorrt, "is_cached", lambda model, options: False)
    return machine


def test_auto_takes_tensorrt_where_there_is_a_gpu(machine: Any, negative: Path) -> None:
    told: list[tuple[int, int]] = []
    backend = open_backend(open_model(negative), 96, 64, progress=lambda *done: told.append(done))
    assert backend.description == "TensorRT 10.3.0, NVIDIA GeForce RTX 4090"
    assert np.array_equal(backend.run(FRAME), 255 - FRAME)
    assert told == [(100, 100)]
    (options,) = machine.builds
    assert options.profile.is_fixed
    assert (options.profile.max.batch, options.rtx, options.targets) == (1, False, ())
    # The golden pair, the first run, and the frame.
    assert machine.fakes.shapes == [(1, 64, 96, 3)]
    assert open_plan(Path(backend.runner.card.path)).verified  # type: ignore[attr-defined]
    memory = backend.memory
    assert memory is not None
    assert memory > 5000
    backend.close()
    assert machine.fakes.freed == machine.fakes.taken[::-1]


def test_several_frames_are_in_flight_with_overlap_alone(machine: Any, negative: Path) -> None:
    model = open_model(negative)
    assert open_backend(model, 96, 64, name="tensorrt").in_flight == 1
    backend = open_backend(model, 96, 64, name="tensorrt", overlap=True)
    assert backend.in_flight == 3
    with ThreadPoolExecutor(4) as threads:
        frames = [np.full((1, 64, 96, 3), level, np.uint8) for level in range(40)]
        made = list(threads.map(backend.run, frames))
    assert all((after == 255 - level).all() for level, after in enumerate(made))


def test_rtx_is_built_for_this_gpu_and_keeps_its_kernels(machine: Any, negative: Path) -> None:
    machine.fakes.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    backend = open_backend(open_model(negative), 96, 64, name="tensorrt-rtx")
    assert [(options.rtx, options.targets) for options in machine.builds] == [(True, ("sm89",))]
    assert kernels_path(backend.runner.card.path).exists()  # type: ignore[attr-defined]


def test_a_gpu_that_rtx_does_not_know_is_said(machine: Any, negative: Path) -> None:
    machine.device = replace(machine.device, compute_capability="9.0")
    with pytest.raises(DeblurError, match="it knows sm75, sm89, and here is NVIDIA GeForce"):
        open_backend(open_model(negative), 96, 64, name="tensorrt-rtx")
    assert machine.builds == []


def test_what_is_missing_is_said_with_how_to_install_it(machine: Any, negative: Path) -> None:
    machine.missing = DeblurError("TensorRT", expected="it", found="none", remedy="pip install x")
    model, warnings = open_model(negative), []
    with pytest.raises(DeblurError, match=r"found tensorrt: none; pip install x"):
        open_backend(model, 96, 64, name="tensorrt")
    pytest.importorskip("onnxruntime")
    backend = open_backend(model, 96, 64, warn=warnings.append)
    assert "TensorRT" not in backend.description
    (warning,) = warnings
    assert warning.startswith("NVIDIA GeForce RTX 4090 (compute capability 8.9, 128 multip")
    assert "is not used: tensorrt: none; tensorrt-rtx: none; onnxruntime-cuda:" in warning
    assert warning.endswith("; pip install x")


def test_without_a_gpu_nothing_of_it_is_imported(
    machine: Any, negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("this may take seconds")

    machine.device = None
    monkeypatch.setattr(tensorrt, "TensorRTEngine", fail)
    assert "TensorRT" not in open_backend(open_model(negative), 96, 64).description
    for name in backends.NEED_GPU:
        with pytest.raises(DeblurError, match=r"no NVIDIA GPU.*nvidia-smi"):
            open_backend(open_model(negative), 96, 64, name=name)


def test_a_wrong_picture_is_refused_and_auto_goes_on_with_a_warning(
    machine: Any, negative: Path
) -> None:
    machine.fakes.off = 2
    with pytest.raises(WrongPicture, match=r"deblur-export plans clear.*onnxruntime-cuda"):
        open_backend(open_model(negative), 96, 64, name="tensorrt")
    assert machine.fakes.freed == machine.fakes.taken[::-1]
    warnings: list[str] = []
    backend = open_backend(open_model(negative), 96, 64, warn=warnings.append)
    assert np.array_equal(backend.run(FRAME), 255 - FRAME)
    assert any("tensorrt: " in line and "next engine" in line for line in warnings)


def test_a_failure_after_loading_frees_everything(
    machine: Any, negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(tensorrt, "mark_verified", fail)
    with pytest.raises(MemoryError):
        open_backend(open_model(negative), 96, 64, name="tensorrt")
    assert machine.fakes.freed == machine.fakes.taken[::-1]


def test_without_leave_to_build_it_goes_on(
    machine: Any, negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(negative)
    with pytest.raises(DeblurError, match=r"no plan of 96x64 yet.*deblur-export trt"):
        open_backend(model, 96, 64, name="tensorrt", may_build=False)
    monkeypatch.setattr(tensorrt, "is_cached", lambda model, options: True)
    assert "TensorRT" in open_backend(model, 96, 64, may_build=False).description


def test_pictures_of_many_sizes_build_one_plan(machine: Any, negative: Path) -> None:
    with Deblurrer(negative) as deblur:
        for width in (96, 80, 64, 96):
            frame = FRAME[0, :, :width]
            assert np.array_equal(deblur(frame), 255 - frame)
    assert {options.profile.max.width for options in machine.builds} == {96}
    with Deblurrer(negative, backend="tensorrt") as deblur:
        deblur(FRAME[0, :, :80])
        deblur(FRAME[0, :, :64])
    assert [options.profile.max.width for options in machine.builds[-2:]] == [80, 64]


def test_pictures_of_many_sizes_are_built_where_nothing_else_is_here(
    machine: Any, negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "ENGINES", {"tensorrt": backends.ENGINES["tensorrt"]})
    with Deblurrer(negative) as deblur:
        for width in (96, 80):
            assert np.array_equal(deblur(FRAME[0, :, :width]), 255 - FRAME[0, :, :width])
    assert [options.profile.max.width for options in machine.builds] == [96, 80]


# A plan is a model.


def test_a_plan_runs_on_what_it_was_built_with(machine: Any, plan: Path) -> None:
    model = find_model(plan)
    assert (model.backend, model.size, model.card.precision) == ("tensorrt", None, "fp32")
    with Deblurrer(plan) as deblur:
        assert np.array_equal(deblur(FRAME), 255 - FRAME)
        small = FRAME[:, :48, :50]
        assert np.array_equal(deblur(small), 255 - small), "another size of its profile"
    assert machine.builds == []
    assert open_plan(plan).verified_on == "NVIDIA GeForce RTX 4090"


def test_another_backend_for_a_plan_is_refused(plan: Path) -> None:
    with pytest.raises(DeblurError, match=r"expected tensorrt, .*found openvino; leave it out"):
        open_backend(find_model(plan), 96, 64, name="openvino")


def test_a_frame_outside_the_profile_is_refused_with_its_sizes(plan: Path) -> None:
    model = find_model(plan)
    for width, height in ((193, 64), (96, 129), (40, 32)):
        with pytest.raises(DeblurError, match="frames of 48x32 to 192x128") as error:
            open_backend(model, width, height)
        assert f"trt negative.onnx -o edge.plan --overwrite --size {width}x" in error.value.remedy
    with pytest.raises(DeblurError, match="file that the plan was built of"):
        model.check_frame(8, 64)


def test_a_plan_of_one_size_says_so(
    plan: Path, built: BuiltPlan, options: BuildOptions, negative: Path
) -> None:
    shape = replace(options.profile.opt, batch=1)
    fixed = replace(options, profile=replace(options.profile, min=shape, opt=shape, max=shape))
    write_plan(plan, built, open_model(negative), fixed)
    model = find_model(plan)
    assert model.size == (96, 64)
    with pytest.raises(DeblurError, match="frames of 96x64, which the plan was built for"):
        model.check_frame(96, 65)


def test_a_plan_that_lacks_something_here_says_all_of_it(plan: Path) -> None:
    if find_device() is not None:
        pytest.skip("a machine with a GPU")
    with pytest.raises(DeblurError, match=r"runs on this machine.*no NVIDIA GPU.*deblur-export"):
        open_backend(find_model(plan), 96, 64)


def test_a_plan_is_verified_once_a_device(machine: Any, plan: Path) -> None:
    def pairs_run() -> int:
        before = len(machine.fakes.shapes)
        open_backend(find_model(plan), 96, 64).close()
        return len(machine.fakes.shapes) - before

    # The golden pair has the smallest size, the first run the frame's.
    assert pairs_run() == 2
    assert pairs_run() == 1
    values = open_plan(plan)
    tensorrt.mark_verified(values, "another GPU")
    assert pairs_run() == 2


def test_another_picture_of_a_plan_is_refused(machine: Any, plan: Path) -> None:
    machine.fakes.off = 2
    with pytest.raises(WrongPicture, match=r"build it again here: deblur-export trt negative"):
        open_backend(find_model(plan), 96, 64)
    assert machine.fakes.freed == machine.fakes.taken[::-1]


def test_a_plan_without_a_golden_pair_runs_with_a_warning(
    machine: Any, make_card: Callable[..., PlanCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_card(golden=None, golden_missing="no engine made one")
    monkeypatch.setattr("deblurgan.runtime.tensorrt.runner.open_plan", lambda path: card)
    warnings: list[str] = []
    backend = open_backend(find_model(card.path), 96, 64, warn=warnings.append)
    assert np.array_equal(backend.run(FRAME), 255 - FRAME)
    assert "not verified, for it has no golden pair (no engine made one)" in warnings[0]


def test_a_plan_in_a_folder_that_may_only_be_read_runs(
    machine: Any, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.fakes.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")

    def refuse(self: Path, *_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    before = stat.S_IMODE(plan.stat().st_mode)
    model = find_model(plan)
    monkeypatch.setattr("os.replace", refuse)
    assert np.array_equal(open_backend(model, 96, 64).run(FRAME), 255 - FRAME)
    assert stat.S_IMODE(plan.stat().st_mode) == before
    assert sorted(path.name for path in plan.parent.iterdir()) == [plan.name, plan.name + ".json"]


def test_a_plan_without_its_sidecar_is_refused(plan: Path) -> None:
    sidecar_path(plan).unlink()
    with pytest.raises(DeblurError, match="none beside the plan"):
        Deblurrer(plan)


def test_unavailable_names_a_remedy() -> None:
    assert "[cpu]" in Unavailable("not here").remedy


# On a device.


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda"])
def test_a_real_backend_makes_the_picture_of_the_cpu(
    name: str, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_device() is None:
        pytest.skip("no GPU")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    random = np.random.RandomState(3)
    frames = random.randint(0, 256, (12, 1, 96, 128, 3)).astype(np.uint8)
    try:
        backend = open_backend(tiny, 128, 96, name=name, overlap=True)
    except NoEngine as error:
        pytest.skip(error.found)
    with ThreadPoolExecutor(backend.in_flight) as threads:
        made = list(threads.map(backend.run, frames))
    assert backend.memory is None or backend.memory > 0
    backend.close()
    reference = open_backend(tiny, 128, 96, name="onnxruntime")
    for before, after in zip(frames, made, strict=True):
        assert np.abs(after.astype(int) - reference.run(before)).max() <= 1
