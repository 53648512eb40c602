"""PyTorch as one runs it, and what this machine can do at most, also by way of PyTorch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deblurgan.benchmarks.workload import CUDA, PAPER, Subject, Workload, make_frames
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.processor import find_instructions
from deblurgan.train.networks import Generator, ResNetGenerator

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
# Without one of these a product of int8 takes minutes, and is the peak of nothing.
INT8_INSTRUCTIONS = {"VNNI", "AMX", "dot products", "i8mm"}
COPIED = 256 << 20  # bytes, far more than a cache holds
COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Way:
    """To run a generator in PyTorch."""

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    compiled: bool = False
    is_graph: bool = False


# Half precision is what each device has instructions for.
WAYS = {
    "eager": Way(),
    "channels-last": Way(channels_last=True),
    "compiled": Way(compiled=True),
    "bf16": Way(torch.bfloat16, channels_last=True),
    "fp16": Way(torch.float16, channels_last=True),
    "compiled-fp16": Way(torch.float16, channels_last=True, compiled=True),
    "cuda-graph": Way(torch.float16, channels_last=True, is_graph=True),
}
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def open_peer(workload: Workload) -> Subject:
    """Raises :class:`DeblurError` where this way does not work here."""
    way = WAYS[workload.engine]
    reason = why_not(way, workload.device)
    if reason is not None:
        raise DeblurError(
            f"PyTorch {workload.engine}",
            expected="what it takes on this machine",
            found=reason,
            remedy=f"leave out --peer {workload.engine}",
        )
    set_up(workload)
    generator = load_generator(workload.model)
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    generator.eval().requires_grad_(False)
    generator.to(workload.device, way.dtype)
    generator.to(memory_format=layout)  # type: ignore[call-overload]
    module: Any = torch.compile(generator) if way.compiled else generator
    frames = make_frames(workload.batch, workload.height, workload.width)
    given = prepare(frames, workload.device, way.dtype, layout)
    if way.is_graph:
        module = recorded(module, given)
    wait = waiting(workload.device)

    @torch.inference_mode()
    def call() -> Frames:
        made = module(prepare(frames, workload.device, way.dtype, layout)).float()
        levels = ((made + 1) * 127.5).round().clamp(0, 255)
        sharp: Frames = levels.permute(0, 2, 3, 1).to(torch.uint8).contiguous().cpu().numpy()
        return sharp

    @torch.inference_mode()
    def engine_call() -> None:
        module(given)
        wait()

    version = torch.__version__.partition("+")[0]
    place = "CPU" if workload.device != CUDA else torch.cuda.get_device_name()
    return Subject(
        call,
        lambda: engine_call if workload.batch == 1 else None,
        workload.model if workload.model == PAPER else Path(workload.model).stem,
        f"pytorch {workload.engine}",
        f"PyTorch {version} {workload.engine}, {place}, {workload.threads} threads",
        PRECISIONS[way.dtype],
        workload.device,
        1,
        device_memory,
    )


@torch.inference_mode()
def recorded(module: Any, given: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The module as one CUDA graph, for inputs like ``given``: launched at once."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # cuDNN tries its algorithms, which no graph may hold
            module(given)
    torch.cuda.current_stream().wait_stream(stream)
    held, graph = given.clone(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made: torch.Tensor = module(held)

    def replay(frames: torch.Tensor) -> torch.Tensor:
        held.copy_(frames)
        graph.replay()
        return made

    return replay


def prepare(
    frames: Frames, device: str, dtype: torch.dtype, layout: torch.memory_format
) -> torch.Tensor:
    """The contract's way in: uint8 ``[N, H, W, 3]`` to ``[N, 3, H, W]`` in [-1, 1]."""
    blurred = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return blurred.to(dtype).contiguous(memory_format=layout)


def load_generator(name: str) -> Generator:
    """The paper's is untrained: what it has learnt changes no time."""
    if name == PAPER:
        return ResNetGenerator()
    from deblurgan.train.checkpoint import load_checkpoint

    return load_checkpoint(Path(name)).generator


def why_not(way: Way, device: str) -> str | None:
    """Why it does not run here, or would mean nothing; None where it does."""
    if device == CUDA and not torch.cuda.is_available():
        return "a PyTorch that was built without CUDA, or no GPU that it sees"
    if way.is_graph and device != CUDA:
        return "a processor, which has no CUDA graphs"
    if way.dtype == torch.float16 and device != CUDA:
        return "a processor, which has no instructions to multiply in half precision"
    if way.dtype == torch.bfloat16 and device != CUDA and "bf16" not in find_instructions():
        return "a processor without instructions for bf16"
    if way.dtype == torch.bfloat16 and device == CUDA and not torch.cuda.is_bf16_supported(False):
        return "a GPU that does not compute in bf16"
    if way.compiled and device != CUDA and not any(map(shutil.which, COMPILERS)):
        return f"no C++ compiler ({', '.join(COMPILERS)}) for torch.compile"
    return None


def set_up(workload: Workload) -> None:
    """As many threads as the engines have, and no silent TF32."""
    torch.set_num_threads(workload.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def waiting(device: str) -> Callable[[], object]:
    """For what the device has been told to do."""
    synchronise: Callable[[], object] = torch.cuda.synchronize
    return synchronise if device == CUDA else lambda: None


def device_memory() -> int | None:
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None


def open_product(workload: Workload) -> Subject:
    """A square matrix product in the precision that ``workload.engine`` names. Raises
    :class:`DeblurError` for int8 on a processor without instructions for it.
    """
    set_up(workload)
    side, device, precision = SIDE[workload.device], workload.device, workload.engine
    known = set(find_instructions())
    if precision == "int8" and device != CUDA and known and not known & INT8_INSTRUCTIONS:
        raise DeblurError(
            "a product of int8",
            expected="a processor with instructions for it",
            found=f"one with {', '.join(sorted(known))} alone",
            remedy="read the times: int8 rows have no share of peak",
        )
    wait = waiting(device)
    product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.mm
    if precision == "int8":
        # Private, and the one product of int8 with sums in int32 on either device.
        product = torch._int_mm
        left, right = (
            torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device)
            for _ in range(2)
        )
    else:
        dtype = {name: dtype for dtype, name in PRECISIONS.items()}[precision]
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    @torch.inference_mode()
    def call() -> None:
        product(left, right)
        wait()

    return peak_subject(workload, call, precision, 2.0 * side**3)


def open_copy(workload: Workload) -> Subject:
    """Memory to memory, on the device."""
    set_up(workload)
    source = torch.ones(COPIED, dtype=torch.uint8, device=workload.device)
    target = torch.zeros_like(source)
    wait = waiting(workload.device)

    def call() -> None:
        target.copy_(source)
        wait()

    return peak_subject(workload, call, "bytes", 2.0 * COPIED)


def peak_subject(
    workload: Workload, call: Callable[[], object], precision: str, operations: float
) -> Subject:
    version = torch.__version__.partition("+")[0]
    return Subject(
        call,
        lambda: None,
        "",
        workload.kind,
        f"PyTorch {version}",
        precision,
        workload.device,
        1,
        device_memory,
        operations,
    )
