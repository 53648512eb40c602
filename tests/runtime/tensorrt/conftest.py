"""Models for real builds (a tiny network, and graphs as a test wants them), two
devices, a plan as far as its sidecar is concerned: bytes that begin like one; and a CUDA
and a TensorRT that run it.
"""

from __future__ import annotations

import random
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deblurgan.runtime.contract import INPUT, OUTPUT, Model, ModelCard, open_model
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.tensorrt import runner, sidecar
from deblurgan.runtime.tensorrt.bindings import Bindings, find_bindings
from deblurgan.runtime.tensorrt.builder import BuildOptions, BuiltPlan
from deblurgan.runtime.tensorrt.device import Device
from deblurgan.runtime.tensorrt.profiles import Profile, Shape
from deblurgan.runtime.tensorrt.sidecar import PlanCard, write_plan


@pytest.fixture(scope="session")
def rtx() -> Bindings:
    """TensorRT for RTX, which builds on a processor."""
    pytest.importorskip("tensorrt_rtx")
    return find_bindings(rtx=True)


@pytest.fixture(scope="session")
def shipped() -> Model:
    return find_model()


@pytest.fixture(scope="session")
def write_graph(card: ModelCard) -> Callable[..., Path]:
    """Writes nodes between ``frames`` and ``deblurred`` as a contract file, unchecked."""
    onnx = pytest.importorskip("onnx")

    def write(
        path: Path,
        nodes: Sequence[Any],
        constants: Sequence[Any] = (),
        *,
        domains: Sequence[str] = (),
        opset: int = 20,
        precision: str = "fp32",
        size: tuple[int, int] | None = None,
        batch: int | None = None,
    ) -> Path:
        width, height = size or ("width", "height")
        shape = [batch or "batch", height, width, 3]
        value, uint8 = onnx.helper.make_tensor_value_info, onnx.TensorProto.UINT8
        graph = onnx.helper.make_graph(
            list(nodes),
            "test",
            [value(INPUT, uint8, shape)],
            [value(OUTPUT, uint8, shape)],
            list(constants),
        )
        opsets = [onnx.helper.make_opsetid("", opset)]
        opsets += [onnx.helper.make_opsetid(domain, 1) for domain in domains]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.helper.set_model_props(model, replace(card, precision=precision).to_metadata())
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def write_tiny(write_graph: Callable[..., Path]) -> Callable[..., Path]:
    """Writes two convolutions and an instance norm, as export writes such: ``precision``
    is fp32 or fp16.
    """
    onnx = pytest.importorskip("onnx")
    node, kind = onnx.helper.make_node, onnx.TensorProto

    def write(path: Path, precision: str = "fp32", **settings: Any) -> Path:
        dtype = np.float16 if precision == "fp16" else np.float32
        number = kind.FLOAT16 if precision == "fp16" else kind.FLOAT
        random = np.random.RandomState(1)

        def constant(name: str, values: Any, of: Any = dtype) -> Any:
            return onnx.numpy_helper.from_array(np.asarray(values, of), name)

        nodes = [
            node("Cast", [INPUT], ["x"], to=number),
            node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
            node("Mul", ["planes", "scale"], ["scaled"]),
            node("Conv", ["scaled", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            node("Cast", ["c1"], ["float"], to=kind.FLOAT),
            node("InstanceNormalization", ["float", "gain", "shift"], ["normed"]),
            node("Cast", ["normed"], ["back"], to=number),
            node("Relu", ["back"], ["r1"]),
            node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
            node("Add", ["c2", "scaled"], ["sum"]),
            node("Mul", ["sum", "white"], ["y"]),
            node("Clip", ["y", "low", "white"], ["clipped"]),
            node("Transpose", ["clipped"], ["rows"], perm=[0, 2, 3, 1]),
            node("Cast", ["rows"], [OUTPUT], to=kind.UINT8),
        ]
        constants = [
            constant("scale", 1 / 255),
            constant("white", 255),
            constant("low", 0),
            constant("w1", random.randn(8, 3, 3, 3) / 5),
            constant("b1", random.randn(8) / 5),
            constant("gain", np.ones(8), np.float32),
            constant("shift", np.zeros(8), np.float32),
            constant("w2", random.randn(3, 8, 3, 3) / 50),
        ]
        return write_graph(path, nodes, constants, precision=precision, **settings)

    return write


@pytest.fixture(scope="session")
def tiny(write_tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.onnx"))


@pytest.fixture
def device() -> Device:
    return Device(
        name="NVIDIA GeForce RTX 4090",
        chip="NVIDIA GeForce RTX 4090",
        compute_capability="8.9",
        multiprocessors=128,
        is_integrated=False,
        memory=24 << 30,
        driver="570.86.15",
        cuda="12.8",
    )


@pytest.fixture
def orin() -> Device:
    return Device(
        name="NVIDIA Jetson Orin Nano Developer Kit",
        chip="Orin",
        compute_capability="8.7",
        multiprocessors=8,
        is_integrated=True,
        memory=7620 << 20,
        driver="540.4.0",
        cuda="12.6",
    )


@pytest.fixture
def options() -> BuildOptions:
    return BuildOptions(Profile(Shape(1, 32, 48), Shape(1, 64, 96), Shape(2, 128, 192)))


@pytest.fixture
def built() -> BuiltPlan:
    content = b"ptrt" + bytes(range(256)) * 20
    return BuiltPlan(
        plan=content,
        seconds=12.345,
        tensorrt="10.3.0",
        flavour="tensorrt",
        targets=(),
        layers=17,
        device_memory=1 << 20,
    )


@pytest.fixture
def plan(
    tmp_path: Path,
    negative: Path,
    built: BuiltPlan,
    options: BuildOptions,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """``edge.plan`` and its sidecar, of the negative, as if built on an RTX 4090."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sidecar, "find_device", lambda: device)
    path = tmp_path / "edge.plan"
    write_plan(path, built, open_model(negative), options)
    return path


@pytest.fixture
def make_card(plan: Path) -> Callable[..., PlanCard]:
    """That plan's card with other values."""
    return lambda **values: replace(sidecar.open_plan(plan), **values)


class CudaError(Exception):
    pass


class CudaMemoryError(CudaError):
    pass


class Fakes:
    """CUDA and TensorRT as far as the runner touches them. The plan makes ``255 - x + off``;
    ``fails`` names the thing that cannot be had, and how many of its kind can before.

    Nothing that a stream is told happens before somebody waits, and then the streams take
    turns at random: only events keep an order. ``gate`` is passed before each wait.
    """

    Error, MemoryError = CudaError, CudaMemoryError
    event_flags = SimpleNamespace(DISABLE_TIMING=2, BLOCKING_SYNC=1)

    def __init__(self, seed: int = 0) -> None:
        self.taken: list[str] = []
        self.freed: list[str] = []
        self.current: list[int] = []  # threads in which the context is current
        self.retained = 0
        self.fails: tuple[str, int] = ("", 0)
        self.off = 0
        self.is_over = False  # what a test left open is collected at any time
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.contexts: list[Any] = []
        self.runtimes: list[Any] = []
        self.shapes: list[tuple[int, ...]] = []
        self.caches: list[int] = []
        self.kernels: list[bytes] = []  # that were handed to TensorRT for RTX
        self.gate: Callable[[], object] = lambda: None
        self.turns = random.Random(seed)
        self.streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self.lock = threading.Lock()
        self.enqueueing = threading.Lock()

    def take(self, name: str, error: type[Exception] | None = None) -> bool:
        """Whether there is one; raises ``error`` where CUDA would."""
        self.check_context(name)
        if self.fails[0] == name and self.fails[1] == self.taken.count(name):
            if error is not None:
                raise error(f"no {name}")
            return False
        self.taken.append(name)
        return True

    def free(self, name: str) -> None:
        self.check_context(f"{name} freed")
        self.freed.append(name)

    def check_context(self, what: str) -> None:
        is_current = self.is_over or threading.get_ident() in self.current
        assert is_current, f"{what} without the context"

    def work(self, done: Callable[[], bool]) -> None:
        """Let the streams go on, each at its own pace, until what is waited for is done."""
        with self.lock:
            while not done():
                ready = [stream for stream in self.streams.values() if stream.is_ready()]
                assert ready, "waits for what never comes"
                self.turns.choice(ready).todo.popleft()[1]()

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
        return Stream(self)

    def Event(self, flags: int) -> Any:  # noqa: N802
        assert flags == 3
        self.take("event", CudaError)
        return Event(self)

    def pagelocked_empty(self, size: int, kind: Any) -> Any:
        self.take("pinned", CudaMemoryError)
        assert kind == np.uint8
        return np.asarray(Pinned(self, size))

    def mem_alloc(self, size: int) -> Any:
        self.take("memory", CudaMemoryError)
        return Memory(self, size)

    def memcpy_htod_async(self, target: Any, source: Any, stream: Any) -> None:
        def copy(memory: Any = self.memory[int(target)]) -> None:
            memory[: source.size] = source

        stream.tell(copy)

    def memcpy_dtoh_async(self, target: Any, source: Any, stream: Any) -> None:
        def copy(memory: Any = self.memory[int(source)]) -> None:
            target[:] = memory[: target.size]

        stream.tell(copy)

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
        engine.device_memory_size_v2 = 5000
        engine.create_execution_context = self.create_execution
        engine.create_runtime_config = self.create_config
        return engine

    def create_config(self) -> Any:
        self.take("config")
        config = Freed(self, "config")

        def create_cache() -> Any:
            self.take("kernels")
            cache = Freed(self, "kernels")
            cache.deserialize = lambda content: not self.kernels.append(content)
            cache.serialize = lambda: b"compiled"
            return cache

        config.create_runtime_cache = create_cache
        config.set_runtime_cache = lambda cache: not self.caches.append(id(cache))
        return config

    def create_execution(self, *config: Any) -> Any:
        self.contexts.append([{**vars(given)} for given in config])
        if not self.take("execution"):
            return None
        execution, addresses = Freed(self, "execution"), {}

        def alone(call: Callable[..., bool]) -> Callable[..., bool]:
            def checked(*arguments: Any) -> bool:
                assert self.enqueueing.acquire(blocking=False), "two threads in one context"
                try:
                    return call(*arguments)
                finally:
                    self.enqueueing.release()

            return checked

        def bind(name: str, address: int) -> bool:
            addresses[name] = address
            return self.fails[0] != "address"

        def execute(handle: int) -> bool:
            given, made = self.memory[addresses["frames"]], self.memory[addresses["deblurred"]]
            count = int(np.prod(self.shapes[-1]))

            def compute() -> None:
                made[:count] = 255 - given[:count] + self.off

            if self.fails[0] == "execute":
                return False
            self.streams[handle].tell(compute)
            return True

        def set_shape(name: str, shape: tuple[int, ...]) -> bool:
            assert name == "frames"
            self.shapes.append(shape)
            return self.fails[0] != "shape"

        execution.set_input_shape, execution.set_tensor_address = alone(set_shape), alone(bind)
        execution.execute_async_v3 = alone(execute)
        return execution


class Stream:
    def __init__(self, fakes: Fakes) -> None:
        self.fakes, self.handle = fakes, id(self)
        # When it may be done, and what.
        self.todo: deque[tuple[Callable[[], bool], Callable[[], None]]] = deque()
        fakes.streams[self.handle] = self

    def tell(self, what: Callable[[], None], when: Callable[[], bool] = lambda: True) -> None:
        self.fakes.check_context("a stream")
        with self.fakes.lock:
            self.todo.append((when, what))

    def is_ready(self) -> bool:
        return bool(self.todo) and self.todo[0][0]()

    def wait_for_event(self, event: Event) -> None:
        self.tell(lambda: None, lambda told=event.told: event.reached >= told)  # type: ignore[misc]

    def synchronize(self) -> None:
        self.fakes.work(lambda: not self.todo)

    def __del__(self) -> None:
        self.fakes.free("stream" if not self.todo else "a busy stream")


class Event:
    def __init__(self, fakes: Fakes) -> None:
        self.fakes = fakes
        self.told = self.reached = 0  # how many times

    def record(self, stream: Stream) -> None:
        self.told += 1

        def reach(told: int = self.told) -> None:
            self.reached = told

        stream.tell(reach)

    def synchronize(self) -> None:
        self.fakes.check_context("an event")
        self.fakes.gate()
        self.fakes.work(lambda: self.reached >= self.told)

    def __del__(self) -> None:
        self.fakes.free("event")


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
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    fakes = Fakes()
    log = SimpleNamespace(logger=None, clear=lambda: None, errors=lambda: ["said by TensorRT"])
    bindings = SimpleNamespace(trt=fakes, log=log, title="TensorRT 10.3.0", version="10.3.0")
    monkeypatch.setattr(runner, "import_pycuda", lambda flavour: fakes)
    monkeypatch.setattr(runner, "find_bindings", lambda rtx: bindings)
    monkeypatch.setattr(runner, "why_not_here", lambda card: [])
    yield fakes
    fakes.is_over = True
