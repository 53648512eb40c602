"""Real builds, by TensorRT for RTX on the processor."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.console import Interrupted, signals_interrupt
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt import builder
from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan, build_plan
from deblurgan.runtime.tensorrt.device import Device
from deblurgan.runtime.tensorrt.device_memory import Room
from deblurgan.runtime.tensorrt.profiles import Profile, choose_profile

SMALL = (32, 24)
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120")

NO_OPS = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops")

pytestmark = pytest.mark.usefixtures("rtx")


@pytest.fixture
def small(tiny: Model) -> BuildOptions:
    return BuildOptions(choose_profile(tiny, SMALL), rtx=True)


@pytest.fixture
def plain(rtx: Bindings, monkeypatch: pytest.MonkeyPatch) -> Bindings:
    """TensorRT for RTX passed off as TensorRT: its timing cache is empty, but all calls work."""
    bindings = replace(rtx, name="tensorrt", version="10.16.1.11")
    monkeypatch.setattr(builder, "find_bindings", lambda rtx: bindings)
    return bindings


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("largest", [None, (1280, 720)], ids=["one size", "a range"])
def test_both_precisions_and_both_kinds_of_profile(
    precision: str, largest: tuple[int, int] | None, write_tiny: Any, tmp_path: Path
) -> None:
    model = open_model(write_tiny(tmp_path / "model.onnx", precision))
    profile = choose_profile(model, None if largest else SMALL, max=largest)
    built = build_plan(model, BuildOptions(profile, rtx=True))
    assert isinstance(built.plan, bytes)
    assert len(built.plan) > 10_000
    assert built.flavour == "tensorrt_rtx"
    assert built.layers > 8
    assert built.seconds > 0
    # At 720p the eight float planes alone are 29 MB.
    assert built.device_memory is not None
    assert (built.device_memory > 10e6) == (largest is not None)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target(target: str, tiny: Model, small: BuildOptions) -> None:
    built = build_plan(tiny, replace(small, targets=(target,), rtx=None))
    assert built.targets == (target,)
    assert built.plan


def test_several_targets_in_either_case(tiny: Model, small: BuildOptions) -> None:
    assert build_plan(tiny, replace(small, targets=("SM89", "sm120"))).targets == ("sm89", "sm120")


def test_settings_reach_the_builder(rtx: Bindings, tiny: Model, small: BuildOptions) -> None:
    given = replace(small, workspace=64 << 20, optimization_level=1, targets=("sm86", "sm89"))
    config = builder.Build(rtx, tiny, given, pytest.fail).configure(builder.open_builder(rtx))
    trt = rtx.trt
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.builder_optimization_level == 1
    assert config.num_compute_capabilities == 2
    assert config.get_compute_capability(1) == trt.ComputeCapability.SM89
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert config.num_optimization_profiles == 1


def test_settings_of_plain_tensorrt_reach_the_builder(
    plain: Bindings, tiny: Model, small: BuildOptions
) -> None:
    given = replace(small, version_compatible=True, hardware_compatible=True, rtx=False)
    builder.check_options(plain, given)
    config = builder.Build(plain, tiny, given, pytest.fail).configure(builder.open_builder(plain))
    assert config.get_flag(plain.trt.BuilderFlag.VERSION_COMPATIBLE)


def test_progress_grows_to_the_end_in_the_thread_that_asked(
    shipped: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "GLANCE", 0.005)
    told: list[tuple[int, int]] = []
    threads: set[threading.Thread] = set()

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        threads.add(threading.current_thread())

    options = BuildOptions(choose_profile(shipped, max=(640, 480)), rtx=True)
    build_plan(shipped, options, progress)
    assert len(told) >= 3
    assert [total for _, total in told] == [100] * len(told)
    dones = [done for done, _ in told]
    assert dones == sorted(set(dones))
    assert dones[-1] == 100
    assert any(0 < done < 100 for done in dones)
    assert threads == {threading.current_thread()}


def test_ctrl_c_cancels_the_build(rtx: Bindings, shipped: Model) -> None:
    options = BuildOptions(choose_profile(shipped, max=(1920, 1080)), rtx=True)

    def interrupt(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    warnings: list[str] = []
    with pytest.raises(Interrupted), signals_interrupt():
        build_plan(shipped, options, interrupt, warn=warnings.append)
    assert warnings[-1].startswith("stopping after this step")
    assert "Build canceled by user" in rtx.log.errors()[-1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("build")]
    with signals_interrupt():  # the next command
        assert build_plan(shipped, options).plan


def test_an_error_of_the_bar_cancels_the_build_and_is_passed_on(shipped: Model) -> None:
    def fail(done: int, total: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        build_plan(shipped, BuildOptions(choose_profile(shipped, max=(640, 480)), rtx=True), fail)


def test_a_cancelled_build_ends_at_its_next_step(
    rtx: Bindings, tiny: Model, small: BuildOptions
) -> None:
    build = builder.Build(rtx, tiny, small, pytest.fail)
    build.progress.cancel()
    with pytest.raises(DeblurError, match="Build canceled by user"):
        build.run()


def test_threads_that_build_at_once_wait_for_each_other(tiny: Model, small: BuildOptions) -> None:
    built: list[BuiltPlan] = []
    threads = [
        threading.Thread(target=lambda: built.append(build_plan(tiny, small))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(built) == 3
    assert all(plan.plan for plan in built)


def test_builds_do_not_pile_up(rtx: Bindings, shipped: Model) -> None:
    """One that stays takes 16 MB; in this thread, for others have their own malloc arena."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    build = builder.Build(
        rtx, shipped, BuildOptions(choose_profile(shipped, (64, 64)), rtx=True), pytest.fail
    )
    build.run()
    before = resident()
    for _ in range(4):
        build.run()
    assert resident() - before < 24 << 20


def test_listeners_hear_tensorrt_only_while_it_builds(
    rtx: Bindings, tiny: Model, small: BuildOptions
) -> None:
    heard: list[str] = []
    build_plan(tiny, small, listen=heard.append)
    assert any(line.startswith("verbose: ") for line in heard)
    count = len(heard)
    build_plan(tiny, small)
    assert len(heard) == count


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimization_level": 6}, r"--optimization-level: expected 0 .* to 5 .* found 6"),
        ({"optimization_level": -1}, r"--optimization-level: .* found -1"),
        ({"workspace": 0}, r"--workspace: .* found 0"),
        (
            {"targets": ("sm90", "sm89", "volta")},
            r"--target: expected some of sm75, sm80, .*sm120.*, found sm90, volta; leave it out",
        ),
        (
            {"targets": ("sm89",), "rtx": False},
            r"--target: expected TensorRT for RTX, .* found plain TensorRT",
        ),
        ({"version_compatible": True}, r"--version-compatible: .*RTX .* --target sm86,sm89"),
        ({"hardware_compatible": True}, r"--hardware-compatible: expected plain TensorRT"),
    ],
)
def test_options_that_cannot_work_are_refused_before_building(
    changes: dict[str, Any], said: str, tiny: Model, small: BuildOptions
) -> None:
    progress: list[int] = []
    with pytest.raises(DeblurError, match=said):
        build_plan(tiny, replace(small, **changes), lambda done, total: progress.append(done))
    assert progress == []


@pytest.mark.parametrize(
    ("name", "capability", "is_integrated", "refused"),
    [
        ("Orin", "8.7", True, r"found Orin \(compute capability 8\.7, 128 multiprocessors\)"),
        ("Tesla T4", "7.5", False, r"found Tesla T4 \(compute capability 7\.5"),
        ("RTX 3090", "8.6", False, None),
        ("RTX 5090", "12.0", False, None),
    ],
)
def test_hardware_compatibility_wants_ampere_in_a_slot(
    name: str,
    capability: str,
    is_integrated: bool,
    refused: str | None,
    device: Device,
    plain: Bindings,
    small: BuildOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = replace(device, name=name, compute_capability=capability, is_integrated=is_integrated)
    monkeypatch.setattr(builder, "find_device", lambda: gpu)
    given = replace(small, hardware_compatible=True)
    if refused is None:
        builder.check_options(plain, given)
        return
    with pytest.raises(DeblurError, match=refused):
        builder.check_options(plain, given)


@pytest.mark.parametrize(
    ("name", "side", "said"),
    [("edge-fp16", 64, "within workspace limit"), ("edge-fp32", 256, "OutOfMemory")],
)
def test_too_little_workspace_says_what_helps(
    rtx: Bindings, name: str, side: int, said: str
) -> None:
    model = find_model(name)
    options = BuildOptions(choose_profile(model, (side, side)), workspace=1, rtx=rtx.is_rtx)
    with pytest.raises(DeblurError, match=rf"{said}.*allow more with --workspace"):
        build_plan(model, options)


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 812 bytes.)", "a smaller --max, --batch 1"),
        ("Requested amount of GPU memory (9663676416 bytes) could not be allocated", "--batch 1"),
        ("Could not find any implementation for node conv due to insufficient workspace", "space$"),
        ("Error Code 10: Internal Error (Could not find any implementation for node {a})", "--max"),
        ("CUDA driver version is insufficient for CUDA runtime version", "update the NVIDIA"),
        ("write failed: No space left on device", r"\$TMPDIR"),
        ("something that nobody has seen", "another --optimization-level"),
        (None, "no plan, and no reason given"),
    ],
)
def test_a_failure_says_what_helps(
    said: str | None, helps: str, rtx: Bindings, tiny: Model, small: BuildOptions
) -> None:
    rtx.log.clear()
    if said is not None:
        rtx.log.note("ERROR", said)
    error = builder.Build(rtx, tiny, small, pytest.fail).explain()
    assert re.search(helps, str(error))
    assert said is None or said.split("(")[-1].rstrip(")") in str(error)


def test_a_quantised_constant_that_another_node_reads_is_to_be_exported_again(
    write_graph: Any, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    node, kind, constant = onnx.helper.make_node, onnx.TensorProto, onnx.numpy_helper.from_array
    nodes = [
        node("Cast", ["three"], ["bound"], to=kind.FLOAT),
        node("Cast", ["frames"], ["x"], to=kind.FLOAT),
        node("Min", ["x", "bound"], ["y"]),
        node("Cast", ["y"], ["deblurred"], to=kind.UINT8),
    ]
    three = constant(np.full(3, 3, np.int8), "three")
    model = open_model(write_graph(tmp_path / "bound.onnx", nodes, [three]))
    with pytest.raises(DeblurError, match=r"only allowed before DQ.*; export it again: deblur-ex"):
        build_plan(model, BuildOptions(choose_profile(model, SMALL), rtx=True))


def test_a_refusal_of_the_parser_comes_through(
    write_graph: Any, tmp_path: Path, small: BuildOptions
) -> None:
    onnx = pytest.importorskip("onnx")
    turn = onnx.helper.make_node("Transpose", ["frames"], ["deblurred"], perm=[0, 2, 1, 3])
    model = open_model(write_graph(tmp_path / "turn.onnx", [turn]))
    with pytest.raises(DeblurError, match=r"\(Transpose\): it works on uint8"):
        build_plan(model, small)


def test_plain_tensorrt_without_a_gpu_is_said(
    tiny: Model, small: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Log:
        logger = None
        listener = None

        def clear(self) -> None:
            pass

        def errors(self) -> list[str]:
            return ["CUDA initialization failure with error: 35"]

    def refuse(logger: object) -> None:  # as the bindings do with a null pointer
        raise TypeError("pybind11::init(): factory function returned nullptr")

    bindings = SimpleNamespace(
        trt=SimpleNamespace(Builder=refuse), log=Log(), title="TensorRT 10.3.0", is_rtx=False
    )
    monkeypatch.setattr(builder, "find_bindings", lambda rtx: bindings)
    with pytest.raises(DeblurError, match=r"an NVIDIA GPU .*failure with error: 35; .*\[rtx\]"):
        build_plan(tiny, replace(small, rtx=False))


def test_a_build_that_cannot_fit_is_refused_before_it_starts(
    shipped: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BuildOptions(choose_profile(shipped, (1920, 1080)), rtx=True)
    monkeypatch.setattr(builder, "measure_room", lambda device: Room(64 << 20, 64 << 20, True))
    with pytest.raises(DeblurError, match=r"fits into 64 MB .*share.* smaller --max"):
        build_plan(shipped, options)
    warnings: list[str] = []
    monkeypatch.setattr(builder, "measure_room", lambda device: Room(8 << 30, 64 << 20, True))
    assert build_plan(shipped, options, warn=warnings.append).plan
    assert "64 MB of 8,192 MB" in warnings[0]


def test_rtx_has_no_timing_cache_and_says_so(
    tiny: Model, small: BuildOptions, tmp_path: Path
) -> None:
    warnings: list[str] = []
    build_plan(tiny, replace(small, timing_cache=tmp_path / "t.cache"), warn=warnings.append)
    assert "--timing-cache: left out" in warnings[0]
    assert list(tmp_path.iterdir()) == []


@NO_OPS
def test_the_timing_cache_goes_in_and_comes_out(
    plain: Bindings, tiny: Model, small: BuildOptions, tmp_path: Path
) -> None:
    given = replace(small, timing_cache=tmp_path / "t.cache", rtx=False)
    for _ in range(2):
        build_plan(tiny, given, warn=pytest.fail)
    (cache,) = tmp_path.glob("t-*.cache")
    damaged = bytearray(cache.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    cache.write_bytes(damaged)
    warnings: list[str] = []
    assert build_plan(tiny, given, warn=warnings.append).plan
    assert "damaged" in warnings[0]
    assert build_plan(tiny, given, warn=pytest.fail).plan  # whole again


@NO_OPS
def test_a_timing_cache_that_cannot_be_kept_costs_no_plan(
    plain: Bindings,
    tiny: Model,
    small: BuildOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(self: object, *_: object) -> None:
        raise DeblurError("t.cache", expected="room", found="no space left", remedy="free some")

    monkeypatch.setattr(builder.TimingFile, "merge", full)
    warnings: list[str] = []
    given = replace(small, timing_cache=tmp_path / "t.cache", rtx=False)
    assert build_plan(tiny, given, warn=warnings.append).plan
    assert "no space left" in warnings[0]


PREFIX = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "onnxruntime", "openvino", "deblurgan.export"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refuse())
from pathlib import Path
from dataclasses import replace
from deblurgan.runtime.contract import open_model
from deblurgan.runtime.tensorrt import builder
from deblurgan.runtime.tensorrt.bindings import find_bindings
from deblurgan.runtime.tensorrt.profiles import choose_profile

model = open_model(Path(sys.argv[1]))
"""


def run_program(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREFIX + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_plan_is_built_without_torch_and_onnx(tiny: Model) -> None:
    program = """
options = builder.BuildOptions(choose_profile(model, (32, 24)), targets=("sm89",))
print(len(builder.build_plan(model, options).plan) > 10000)
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "onnx", "scipy"}))
"""
    printed, complained = run_program(program, tiny.path).communicate(timeout=120)
    assert printed.splitlines() == ["True", "[]"], complained


def test_processes_share_a_timing_cache(tiny: Model, tmp_path: Path) -> None:
    program = """
bindings = replace(find_bindings(True), name="tensorrt", version="10.16.1.11")
builder.find_bindings = lambda rtx: bindings
options = builder.BuildOptions(choose_profile(model, (32, 24)), timing_cache=Path(sys.argv[2]))
for _ in range(3):
    builder.build_plan(model, options, warn=sys.exit)
"""
    path = tmp_path / "t.cache"
    programs = [run_program(program, tiny.path, path) for _ in range(2)]
    results = [program.communicate(timeout=120) for program in programs]
    assert [program.returncode for program in programs] == [0, 0], results
    assert len(list(tmp_path.glob("t-*.cache"))) == 1
    assert not list(tmp_path.glob(".*.part"))


def test_a_profile_is_what_the_plan_was_built_for(tiny: Model) -> None:
    """The order that TensorRT itself refuses, past our own check."""
    small, large = choose_profile(tiny, (32, 24)).min, choose_profile(tiny, (64, 48)).max
    with pytest.raises(DeblurError, match="expected a plan from"):
        build_plan(tiny, BuildOptions(Profile(large, small, large), rtx=True))
