"""What is ours in running plans, with a CUDA and a TensorRT that count; and, marked
``gpu``, the real ones.
"""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.tensorrt import runner
from deblurgan.runtime.tensorrt.bindings import Bindings, find_bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan, build_plan
from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.tensorrt.profiles import choose_profile
from deblurgan.runtime.tensorrt.runner import PlanRunner, import_pycuda, retain_context, verify
from deblurgan.runtime.tensorrt.sidecar import PlanCard, open_plan, sidecar_path, write_plan

TAKEN = ["runtime", "engine", "execution", "stream", "pinned", "memory", "pinned", "memory"]


class CudaError(Exception):
    pass


class CudaMemoryError(CudaError):
    pass


class Fakes:
    """CUDA and TensorRT as far as the runner touches them. The plan makes ``255 - x + off``;
    ``fails`` names the thing that cannot be had, and how many of its kind can before.
    """

    Error, MemoryError = CudaError, CudaMemoryError

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.freed: list[str] = []
        self.current: list[int] = []  # threads in which the context is current
        self.retained = 0
        self.fails: tuple[str, int] = ("", 0)
        self.off = 0
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.contexts: list[Any] = []
        self.runtimes: list[Any] = []
        self.shapes: list[tuple[int, ...]] = []

    def take(self, name: str, error: type[Exception] | None = None) -> bool:
        """Whether there is one; raises ``error`` where CUDA would."""
        assert threading.get_ident() in self.current, f"{name} without the context"
        if self.fails[0] == name and self.fails[1] == self.taken.count(name):
            if error is not None:
                raise error(f"no {name}")
            return False
        self.taken.append(name)
        return True

    def free(self, name: str) -> None:
        assert threading.get_ident() in self.current, f"{name} freed without the context"
        self.freed.append(name)

    # pycuda.driver

    def init(self) -> None:
        self.retained += 1

    def Device(self, number: int) -> Any:  # noqa: N802
        assert number == 0
        context = SimpleNamespace(
            push=lambda: self.current.append(threading.get_ident()),
            pop=lambda: self.current.remove(threading.get_ident()),
        )
        return SimpleNamespace(
            retain_primary_context=lambda: context, name=lambda: "NVIDIA GeForce RTX 4090"
        )

    def Stream(self) -> Any:  # noqa: N802
        self.take("stream", CudaError)
        stream = Freed(self, "stream")
        stream.handle, stream.synchronize = 7, lambda: None
        return stream

    def pagelocked_empty(self, size: int, kind: Any) -> Any:
        self.take("pinned", CudaMemoryError)
        assert kind == np.uint8
        return np.asarray(Pinned(self, size))

    def mem_alloc(self, size: int) -> Any:
        self.take("memory", CudaMemoryError)
        return Memory(self, size)

    def memcpy_htod_async(self, target: Any, source: Any, stream: Any) -> None:
        self.memory[int(target)][: source.size] = source

    def memcpy_dtoh_async(self, target: Any, source: Any, stream: Any) -> None:
        target[:] = self.memory[int(source)][: target.size]

    # tensorrt

    def Runtime(self, logger: object) -> Any:  # noqa: N802
        self.take("runtime")
        runtime = Freed(self, "runtime")
        runtime.deserialize_cuda_engine = self.deserialize
        self.runtimes.append(vars(runtime))
        return runtime

    def deserialize(self, plan: bytes) -> Any:
        if not self.take("engine"):
            return None
        engine = Freed(self, "engine")
        engine.create_execution_context = self.create_execution
        engine.create_runtime_config = SimpleNamespace
        return engine

    def create_execution(self, *config: Any) -> Any:
        self.contexts.append(config)
        if not self.take("execution"):
            return None
        execution, addresses = Freed(self, "execution"), {}

        def bind(name: str, address: int) -> bool:
            addresses[name] = address
            return self.fails[0] != "address"

        def execute(stream: int) -> bool:
            assert stream == 7
            count = int(np.prod(self.shapes[-1]))
            given = self.memory[addresses["frames"]][:count]
            self.memory[addresses["deblurred"]][:count] = 255 - given + self.off
            return self.fails[0] != "execute"

        def set_shape(name: str, shape: tuple[int, ...]) -> bool:
            assert name == "frames"
            self.shapes.append(shape)
            return self.fails[0] != "shape"

        execution.set_input_shape, execution.set_tensor_address = set_shape, bind
        execution.execute_async_v3 = execute
        return execution


class Freed(SimpleNamespace):
    """Freed with its last reference, as what TensorRT's bindings make."""

    def __init__(self, fakes: Fakes, name: str) -> None:
        super().__init__()
        self.__dict__["_said"] = lambda: fakes.free(name)

    def __del__(self) -> None:
        self._said()


class Pinned:
    def __init__(self, fakes: Fakes, size: int) -> None:
        self.content = np.zeros(size, np.uint8)
        self.__array_interface__ = self.content.__array_interface__
        self.free = lambda: fakes.free("pinned")


class Memory:
    def __init__(self, fakes: Fakes, size: int) -> None:
        fakes.memory[id(self)] = np.zeros(size, np.uint8)
        self.free = lambda: fakes.free("memory")

    def __int__(self) -> int:
        return id(self)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes()
    log = SimpleNamespace(logger=None, clear=lambda: None, errors=lambda: ["said by TensorRT"])
    bindings = SimpleNamespace(trt=fakes, log=log, title="TensorRT 10.3.0")
    monkeypatch.setattr(runner, "import_pycuda", lambda card: fakes)
    monkeypatch.setattr(runner, "find_bindings", lambda rtx: bindings)
    monkeypatch.setattr(runner, "why_not_here", lambda card: [])
    return fakes


def test_frames_go_in_and_come_out(plan: Path, fakes: Fakes) -> None:
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


def test_all_is_taken_once_and_freed_in_reverse(plan: Path, fakes: Fakes) -> None:
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


def test_the_context_is_retained_once_for_all_runners(plan: Path, fakes: Fakes) -> None:
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
        (("address", 0), r"it has no frames"),
    ],
)
def test_a_failure_on_the_way_frees_what_was_taken_in_reverse(
    fails: tuple[str, int], said: str, plan: Path, fakes: Fakes
) -> None:
    fakes.fails = fails
    with pytest.raises(DeblurError, match=said):
        PlanRunner(plan)
    assert fakes.freed == fakes.taken[::-1]
    assert fakes.taken == TAKEN[: len(fakes.taken)]
    assert fakes.current == []


@pytest.mark.parametrize(
    ("fails", "said"), [("shape", "takes no such frame"), ("execute", "does not run")]
)
def test_a_failure_while_running_is_told(fails: str, said: str, plan: Path, fakes: Fakes) -> None:
    with PlanRunner(plan) as run:
        fakes.fails = (fails, 0)
        with pytest.raises(DeblurError, match=rf"it {said} \(said by TensorRT\)"):
            run.run(np.zeros((1, 64, 96, 3), np.uint8))
        fakes.fails = ("", 0)
        assert (run.run(np.zeros((1, 64, 96, 3), np.uint8)) == 255).all()
    assert fakes.current == []


def test_any_thread_may_run_and_close(plan: Path, fakes: Fakes) -> None:
    run, results = PlanRunner(plan), []

    def use() -> None:
        for level in range(20):
            frames = np.full((1, 64, 96, 3), level, np.uint8)
            results.append((run.run(frames) == 255 - level).all())

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 60
    closing = threading.Thread(target=run.close)
    closing.start()
    closing.join()
    assert fakes.freed == TAKEN[::-1]


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
def test_other_frames_are_refused(frames: Any, found: str, plan: Path, fakes: Fakes) -> None:
    with PlanRunner(plan) as run, pytest.raises(DeblurError, match=found) as error:
        run.run(frames)
    assert "1x48x32 to 2x192x128 (batch x width x height)" in error.value.expected
    assert "--min WIDTHxHEIGHT --max WIDTHxHEIGHT" in error.value.remedy
    assert fakes.shapes == []


def test_only_a_version_compatible_plan_may_bring_code(
    plan: Path, fakes: Fakes, built: BuiltPlan, options: BuildOptions, negative: Path
) -> None:
    PlanRunner(plan).close()
    assert "engine_host_code_allowed" not in fakes.runtimes[-1]
    compatible = replace(options, version_compatible=True)
    write_plan(plan, built, open_model(negative), compatible)
    PlanRunner(plan).close()
    assert fakes.runtimes[-1]["engine_host_code_allowed"] is True


def test_rtx_specialises_kernels_before_the_first_frame(plan: Path, fakes: Fakes) -> None:
    PlanRunner(plan).close()
    assert fakes.contexts[-1] == ()
    fakes.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")  # type: ignore[attr-defined]
    PlanRunner(plan).close()
    (config,) = fakes.contexts[-1]
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"


# Whether it runs here at all.


def test_all_reasons_why_not_here_are_in_the_error(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "why_not_here", lambda card: ["no TensorRT", "no GPU"])
    with pytest.raises(DeblurError, match=r"on this machine, found no TensorRT; no GPU") as error:
        PlanRunner(plan)
    assert error.value.remedy == f"deblur-export info {plan} says what it was built for"


def test_no_pycuda_names_the_extra(
    make_card: Callable[..., PlanCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(DeblurError, match=r'pip install "\.\[trt\]"'):
        import_pycuda(make_card())
    with pytest.raises(DeblurError, match=r'pip install "\.\[rtx\]"'):
        import_pycuda(make_card(flavour="tensorrt_rtx"))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(DeblurError, match=r'cuda/bin:\$PATH pip install "\.\[jetson\]"'):
        import_pycuda(make_card())


def test_pycuda_without_a_driver_is_not_blamed_on_pycuda(
    make_card: Callable[..., PlanCard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        import_pycuda(make_card())
    assert "pip" not in error.value.remedy
    sys.modules.pop("pycuda", None)


# The golden pair.


def test_the_golden_pair_verifies_a_plan(plan: Path, fakes: Fakes) -> None:
    difference = verify(plan)
    assert (difference.largest, difference.mean) == (0, 0)
    card = open_plan(plan)
    assert card.verified is True
    assert card.verified_on == "NVIDIA GeForce RTX 4090"
    assert fakes.freed == TAKEN[::-1]


def test_another_picture_is_refused_with_the_numbers(plan: Path, fakes: Fakes) -> None:
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


@pytest.fixture(scope="session")
def gpu_bindings() -> Bindings:
    pytest.importorskip("pycuda")
    if find_device() is None:
        pytest.skip("no GPU")
    return find_bindings()


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
