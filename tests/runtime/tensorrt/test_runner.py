"""What is ours in running plans, with a CUDA and a TensorRT that count; and, marked
``gpu``, the real ones.
"""

from __future__ import annotations

import platform
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.tensorrt import runner
from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan, build_plan
from deblurgan.runtime.tensorrt.kernel_cache import kernels_path
from deblurgan.runtime.tensorrt.profiles import choose_profile
from deblurgan.runtime.tensorrt.pycuda_driver import import_pycuda, retain_context
from deblurgan.runtime.tensorrt.runner import PlanRunner, verify
from deblurgan.runtime.tensorrt.sidecar import open_plan, sidecar_path, write_plan

LOADED = ["runtime", "engine", "execution", *["stream"] * 3]
SLOT = ["pinned", "memory", "pinned", "memory", *["event"] * 3]
TAKEN = LOADED + SLOT


def test_frames_go_in_and_come_out(plan: Path, fakes: Any) -> None:
    random = np.random.RandomState(1)
    with PlanRunner(plan) as run:
        assert run.description == "TensorRT 10.3.0, NVIDIA GeForce RTX 4090"
        shapes = [(1, 64, 96, 3), (2, 128, 192, 3), (1, 32, 48, 3), (1, 32, 48, 3)]
        made = []
        for shape in shapes:
            frames = random.randint(0, 256, shape).astype(np.uint8)
            made.append((frames, run.run(frames)))
        wide = random.randint(0, 256, (1, 64, 192, 3)).astype(np.uint8)[:, :, ::2]
        made.append((wide, run.run(wide)))
    for frames, result in made:  # after all of them: results outlive the next frame
        assert np.array_equal(result, 255 - frames)
    assert fakes.shapes == [*shapes[:3], (1, 64, 96, 3)], "told once, not with every frame"


def test_all_is_taken_once_and_freed_in_reverse(plan: Path, fakes: Any) -> None:
    run = PlanRunner(plan)
    for _ in range(3):
        run.run(np.zeros((1, 64, 96, 3), np.uint8))
    assert fakes.taken == TAKEN
    assert fakes.freed == []
    assert fakes.current == [], "the thread is left as it was"
    run.close()
    assert fakes.freed == TAKEN[::-1]
    run.close()
    assert fakes.freed == TAKEN[::-1]
    assert fakes.current == []


def test_the_context_is_retained_once_for_all_runners(plan: Path, fakes: Any) -> None:
    for _ in range(3):
        PlanRunner(plan).close()
    assert fakes.retained == 1
    retain_context.cache_clear()


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (("engine", 0), r"it does not load \(said by TensorRT\); build it again here: deblur"),
        (("execution", 0), r"it finds no place on the GPU \(said by TensorRT\)"),
        (("stream", 0), r"a GPU that works, found no stream; nvidia-smi"),
        (("pinned", 0), r"enough memory on the GPU, found no pinned.*nvidia-smi.*--max WIDTHx"),
        (("memory", 0), r"enough memory on the GPU, found no memory"),
        (("pinned", 1), r"enough memory on the GPU, found no pinned"),
        (("memory", 1), r"enough memory on the GPU, found no memory"),
        (("stream", 2), r"a GPU that works, found no stream; nvidia-smi"),
        (("event", 0), r"a GPU that works, found no event"),
        (("pinned", 3), r"enough memory on the GPU, found no pinned"),
        (("event", 5), r"a GPU that works, found no event"),
        (("address", 0), r"it has no frames"),
    ],
)
def test_a_failure_on_the_way_frees_what_was_taken_in_reverse(
    fails: tuple[str, int], said: str, plan: Path, fakes: Any
) -> None:
    fakes.fails = fails
    with pytest.raises(DeblurError, match=said):
        PlanRunner(plan, in_flight=2)
    assert fakes.freed == fakes.taken[::-1]
    assert fakes.taken == (LOADED + 2 * SLOT)[: len(fakes.taken)]
    assert fakes.current == []


@pytest.mark.parametrize(
    ("fails", "said"), [("shape", "takes no such frame"), ("execute", "does not run")]
)
def test_a_failure_while_running_is_told(fails: str, said: str, plan: Path, fakes: Any) -> None:
    with PlanRunner(plan) as run:
        fakes.fails = (fails, 0)
        with pytest.raises(DeblurError, match=rf"it {said} \(said by TensorRT\)"):
            run.run(np.zeros((1, 64, 96, 3), np.uint8))
        fakes.fails = ("", 0)
        assert (run.run(np.zeros((1, 64, 96, 3), np.uint8)) == 255).all()
    assert fakes.current == []


def test_any_thread_may_run_and_close(plan: Path, fakes: Any) -> None:
    run = PlanRunner(plan)
    with ThreadPoolExecutor(3) as threads:
        frames = [np.full((1, 64, 96, 3), level, np.uint8) for level in range(60)]
        made = list(threads.map(run.run, frames))
        assert all(
            (255 - after == before).all() for before, after in zip(frames, made, strict=True)
        )
        threads.submit(run.close).result()
    assert fakes.freed == TAKEN[::-1]


@given(seed=st.integers(0, 2**32 - 1), in_flight=st.integers(1, 4))
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_frames_do_not_mix_whichever_stream_is_ahead(
    seed: int, in_flight: int, plan: Path, fakes: Any
) -> None:
    fakes.turns.seed(seed)
    random = np.random.RandomState(seed)
    sizes = [(1, 64, 96, 3), (2, 32, 48, 3), (1, 128, 192, 3)]
    frames = [random.randint(0, 256, sizes[random.randint(3)]).astype(np.uint8) for _ in range(24)]
    with PlanRunner(plan, in_flight) as run, ThreadPoolExecutor(in_flight + 1) as threads:
        made = list(threads.map(run.run, frames))
    for before, after in zip(frames, made, strict=True):
        assert np.array_equal(after, 255 - before)


def test_all_frames_in_flight_are_on_their_way_before_the_first_is_done(
    plan: Path, fakes: Any
) -> None:
    with PlanRunner(plan, 3) as run, ThreadPoolExecutor(3) as threads:
        # Nobody waits for a frame before three of them are told to the streams.
        fakes.gate = threading.Barrier(3, timeout=10).wait
        made = list(threads.map(run.run, np.zeros((6, 1, 64, 96, 3), np.uint8)))
    assert (np.array(made) == 255).all()


def test_a_failure_in_one_thread_leaves_the_others_their_frames(plan: Path, fakes: Any) -> None:
    failing = threading.local()

    def gate() -> None:
        if getattr(failing, "now", False):
            raise fakes.Error("an illegal address")

    def use(level: int) -> np.ndarray[Any, Any] | str:
        failing.now = level % 3 == 0
        try:
            return run.run(np.full((1, 64, 96, 3), level, np.uint8))
        except DeblurError as error:
            return error.found

    fakes.gate = gate
    with PlanRunner(plan, 2) as run, ThreadPoolExecutor(3) as threads:
        made = list(threads.map(use, range(30)))
    for level, result in enumerate(made):
        if level % 3 == 0:
            assert result == "an illegal address"
        else:
            assert (result == 255 - level).all()
    assert fakes.freed == (LOADED + 2 * SLOT)[::-1]
    assert fakes.current == []


def test_closing_waits_for_the_frames_in_flight_and_ends_the_rest(plan: Path, fakes: Any) -> None:
    run = PlanRunner(plan, 2)
    arrived, go_on = threading.Semaphore(0), threading.Event()

    def gate() -> None:
        arrived.release()
        assert go_on.wait(10)

    fakes.gate = gate
    with ThreadPoolExecutor(4) as threads:
        begun = [threads.submit(run.run, np.zeros((1, 64, 96, 3), np.uint8)) for _ in range(2)]
        for _ in begun:
            assert arrived.acquire(timeout=10)
        late = threads.submit(run.run, np.zeros((1, 64, 96, 3), np.uint8))
        closing = threads.submit(run.close)
        with pytest.raises(RuntimeError, match="after it was closed"):
            late.result(10)
        assert fakes.freed == []
        go_on.set()
        assert all((future.result() == 255).all() for future in begun)
        closing.result(10)
    assert fakes.freed == (LOADED + 2 * SLOT)[::-1]
    with pytest.raises(RuntimeError, match="after it was closed"):
        run.run(np.zeros((1, 64, 96, 3), np.uint8))


def test_its_memory_is_the_plan_the_activations_and_the_frames(plan: Path, fakes: Any) -> None:
    with PlanRunner(plan, 3) as run:
        assert run.memory == plan.stat().st_size + 5000 + 3 * 2 * (2 * 128 * 192 * 3)


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        (np.zeros((1, 64, 96, 3), np.float32), r"float32 \[1, 64, 96, 3\]"),
        (np.zeros((64, 96, 3), np.uint8), r"uint8 \[64, 96, 3\]"),
        (np.zeros((1, 64, 96, 4), np.uint8), r"\[1, 64, 96, 4\]"),
        (np.zeros((3, 64, 96, 3), np.uint8), r"\[3, 64, 96, 3\]"),
        (np.zeros((1, 31, 96, 3), np.uint8), r"\[1, 31, 96, 3\]"),
        (np.zeros((1, 64, 193, 3), np.uint8), r"\[1, 64, 193, 3\]"),
    ],
)
def test_other_frames_are_refused(frames: Any, found: str, plan: Path, fakes: Any) -> None:
    with PlanRunner(plan) as run, pytest.raises(DeblurError, match=found) as error:
        run.run(frames)
    assert "1x48x32 to 2x192x128 (batch x width x height)" in error.value.expected
    assert "--min WIDTHxHEIGHT --max WIDTHxHEIGHT" in error.value.remedy
    assert fakes.shapes == []


def test_only_a_version_compatible_plan_may_bring_code(
    plan: Path, fakes: Any, built: BuiltPlan, options: BuildOptions, negative: Path
) -> None:
    PlanRunner(plan).close()
    assert "engine_host_code_allowed" not in fakes.runtimes[-1]
    compatible = replace(options, version_compatible=True)
    write_plan(plan, built, open_model(negative), compatible)
    PlanRunner(plan).close()
    assert fakes.runtimes[-1]["engine_host_code_allowed"] is True


@pytest.fixture
def rtx_fakes(fakes: Any) -> Any:
    fakes.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    return fakes


def test_rtx_specialises_kernels_before_the_first_frame(plan: Path, rtx_fakes: Any) -> None:
    PlanRunner(plan).close()
    (config,) = rtx_fakes.contexts[-1]
    assert config["dynamic_shapes_kernel_specialization_strategy"] == "eager"
    assert len(rtx_fakes.caches) == 1
    taken = ["runtime", "engine", "config", "kernels", *TAKEN[2:]]
    assert (rtx_fakes.taken, rtx_fakes.freed) == (taken, taken[::-1])


def test_plain_tensorrt_keeps_no_kernels(plan: Path, fakes: Any) -> None:
    with PlanRunner(plan) as run:
        run.keep_kernels()
    assert fakes.contexts == [[]]
    assert not kernels_path(plan).exists()


def test_kernels_are_kept_beside_the_plan(plan: Path, rtx_fakes: Any) -> None:
    with PlanRunner(plan) as run:
        run.keep_kernels()
    assert rtx_fakes.kernels == []
    written = kernels_path(plan).stat().st_mtime_ns
    with PlanRunner(plan) as run:
        run.keep_kernels()
    assert rtx_fakes.kernels == [b"compiled"]
    assert kernels_path(plan).stat().st_mtime_ns == written, "only what is new is written"


def test_damaged_kernels_are_told_and_compiled_anew(plan: Path, rtx_fakes: Any) -> None:
    with PlanRunner(plan) as run:
        run.keep_kernels()
    content = kernels_path(plan).read_bytes()
    kernels_path(plan).write_bytes(content[:-1] + b"?")
    warnings: list[str] = []
    with PlanRunner(plan, warn=warnings.append) as run:
        run.keep_kernels()
    assert rtx_fakes.kernels == []
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert kernels_path(plan).read_bytes() == content


# Whether it runs here at all.


def test_all_reasons_why_not_here_are_in_the_error(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "why_not_here", lambda card: ["no TensorRT", "no GPU"])
    with pytest.raises(DeblurError, match=r"on this machine, found no TensorRT; no GPU") as error:
        PlanRunner(plan)
    assert error.value.remedy == f"deblur-export info {plan} says what it was built for"


def test_no_pycuda_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(DeblurError, match=r'pip install "\.\[trt\]"'):
        import_pycuda("tensorrt")
    with pytest.raises(DeblurError, match=r'pip install "\.\[rtx\]"'):
        import_pycuda("tensorrt_rtx")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(DeblurError, match=r'cuda/bin:\$PATH pip install "\.\[jetson\]"'):
        import_pycuda("tensorrt")


def test_pycuda_without_a_driver_is_not_blamed_on_pycuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    (tmp_path / "pycuda" / "driver.py").write_text(
        "raise ImportError('libcuda.so.1: cannot open shared object file: No such file')"
    )
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeblurError, match=r"libcuda\.so\.1.*install NVIDIA's driver") as error:
        import_pycuda("tensorrt")
    assert "pip" not in error.value.remedy
    sys.modules.pop("pycuda", None)


# The golden pair.


def test_the_golden_pair_verifies_a_plan(plan: Path, fakes: Any) -> None:
    difference = verify(plan)
    assert (difference.largest, difference.mean) == (0, 0)
    card = open_plan(plan)
    assert card.verified is True
    assert card.verified_on == "NVIDIA GeForce RTX 4090"
    assert fakes.freed == TAKEN[::-1]


def test_another_picture_is_refused_with_the_numbers(plan: Path, fakes: Any) -> None:
    fakes.off = 2
    before = sidecar_path(plan).read_bytes()
    with pytest.raises(DeblurError) as error:
        verify(plan)
    assert "largest difference 1, mean 0.01 levels" in error.value.expected
    assert "on NVIDIA GeForce RTX 4090 with TensorRT 10.3.0: largest" in error.value.found
    assert "build it again here: deblur-export trt negative.onnx" in error.value.remedy
    assert "report it" in error.value.remedy
    assert sidecar_path(plan).read_bytes() == before
    assert open_plan(plan).verified is False


def test_a_plan_without_a_golden_pair_says_why(
    plan: Path,
    built: BuiltPlan,
    options: BuildOptions,
    negative: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deblurgan.runtime.golden.ENGINES", ())
    write_plan(plan, built, open_model(negative), options)
    with pytest.raises(DeblurError, match=r"found none: .*\[cpu\].*then build it again"):
        verify(plan)


# On a device.


@pytest.fixture
def real_plan(gpu_bindings: Bindings, tiny: Model, tmp_path: Path) -> Path:
    profile = choose_profile(tiny, min=(64, 48), opt=(128, 96), max=(320, 240), batch=4)
    options = BuildOptions(profile, rtx=gpu_bindings.is_rtx)
    path = tmp_path / "tiny.plan"
    write_plan(path, build_plan(tiny, options), tiny, options)
    return path


@pytest.mark.gpu
def test_a_real_plan_is_verified(real_plan: Path) -> None:
    assert verify(real_plan).largest <= 1
    assert open_plan(real_plan).verified is True


@pytest.mark.gpu
def test_a_real_plan_makes_the_picture_of_the_cpu(real_plan: Path, tiny: Model) -> None:
    from deblurgan.runtime.backends import open_backend
    from deblurgan.runtime.golden import golden_frame

    with PlanRunner(real_plan) as run:
        for width, height, batch in ((64, 48, 1), (320, 240, 4), (101, 77, 2), (64, 48, 1)):
            frames = np.concatenate([golden_frame(width, height, seed) for seed in range(batch)])
            made = run.run(frames)
            engine = open_backend(tiny, width, height, name="onnxruntime")
            expected = np.concatenate([engine.run(frame[None]) for frame in frames])
            assert np.abs(made.astype(int) - expected).max() <= 1
            assert np.array_equal(made, run.run(frames)), "the same frame, the same picture"


@pytest.mark.gpu
def test_a_real_plan_runs_in_any_thread_and_gives_its_memory_back(real_plan: Path) -> None:
    frames = np.zeros((1, 96, 128, 3), np.uint8)
    PlanRunner(real_plan).close()  # what CUDA loads once and keeps
    cuda = pytest.importorskip("pycuda.driver")
    context = retain_context(cuda)

    def free() -> int:
        context.push()
        try:
            return int(cuda.mem_get_info()[0])
        finally:
            context.pop()

    before = free()
    for _ in range(5):
        run = PlanRunner(real_plan)
        first, found = run.run(frames), []
        thread = threading.Thread(target=lambda run=run, found=found: found.append(run.run(frames)))
        thread.start()
        thread.join()
        assert np.array_equal(found[0], first)
        run.close()
    assert before - free() < 32 << 20


@pytest.mark.gpu
def test_two_thousand_frames_take_no_more_memory_and_repeat(real_plan: Path) -> None:
    """Three in flight, of two sizes."""
    cuda = pytest.importorskip("pycuda.driver")
    random = np.random.RandomState(5)
    sizes = ((1, 96, 128, 3), (1, 240, 320, 3))
    frames = [random.randint(0, 256, sizes[n % 2]).astype(np.uint8) for n in range(8)]
    with PlanRunner(real_plan, in_flight=3) as run, ThreadPoolExecutor(3) as threads:
        first = list(threads.map(run.run, frames))
        with run.device_current():
            before = cuda.mem_get_info()[0]
        for _ in range(250):
            made = list(threads.map(run.run, frames))
            assert all(map(np.array_equal, made, first))
        with run.device_current():
            assert before - cuda.mem_get_info()[0] < 1 << 20
