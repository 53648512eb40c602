"""Peaks, and what a row's share of them is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from deblurgan.benchmarks.peak import (
    Peak,
    choose_peaks,
    drop_slow_int8,
    find_product,
    share_of_peak,
)
from deblurgan.benchmarks.workload import Workload, open_workload
from deblurgan.runtime.errors import DeblurError

FP32 = Peak("product", "fp32", "cpu", 2, 100e9, 15, "PyTorch")
INT8 = Peak("product", "int8", "cpu", 2, 400e9, 15, "PyTorch")
COPY = Peak("copy", "bytes", "cpu", 2, 20e9, 15, "PyTorch")


def test_products_and_a_copy_are_chosen_for_every_number_of_threads() -> None:
    chosen = choose_peaks(["cpu"], [1, 2, 2])
    assert [(w.kind, w.engine, w.threads) for w in chosen] == [
        (kind, engine, threads)
        for threads in (1, 2)
        for kind, engine in (("product", "fp32"), ("product", "int8"), ("copy", ""))
    ]
    assert {w.threads for w in choose_peaks(["cuda"], [1, 2])} == {1}


def test_a_row_is_held_against_its_own_precision_and_threads() -> None:
    peaks = [COPY, FP32, INT8]
    assert find_product(peaks, "fp32", "cpu", 2) is FP32
    assert find_product(peaks, "fp16", "cpu", 2) is FP32  # a processor computes it in fp32
    assert find_product(peaks, "int8", "cpu", 2) is INT8
    assert find_product(peaks, "fp32", "cpu", 1) is None
    assert find_product(peaks, "bf16", "cpu", 2) is None
    assert find_product(peaks, "fp32", "cuda", 2) is None


def test_the_share_is_of_operations_by_time() -> None:
    assert share_of_peak(50e9, 1.0, FP32) == 0.5


def test_an_int8_product_without_instructions_is_the_peak_of_nothing() -> None:
    slow = Peak("product", "int8", "cpu", 2, 90e9, 15, "PyTorch")
    kept, dropped = drop_slow_int8([FP32, slow, COPY])
    assert kept == [FP32, COPY]
    assert "no faster than fp32" in dropped[0]
    assert drop_slow_int8([FP32, INT8]) == ([FP32, INT8], [])


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """What is trained later in this process rounds as its threads do."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize("kind", ["fp32", "int8", "copy"])
def test_a_peak_tells_what_a_call_of_it_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = pytest.importorskip("deblurgan.benchmarks.pytorch_peers")
    monkeypatch.setattr(peers, "SIDE", {"cpu": 64})
    monkeypatch.setattr(peers, "COPIED", 1 << 16)
    monkeypatch.setattr(peers, "find_instructions", lambda: ("AVX2", "VNNI"))
    with ExitStack() as undo:
        workload = Workload("copy") if kind == "copy" else Workload("product", engine=kind)
        subject = open_workload(workload, undo)
        subject.call()
    assert subject.operations == (2 << 16 if kind == "copy" else 2 * 64**3)


@pytest.mark.usefixtures("threads_as_before")
def test_a_product_of_int8_that_would_take_minutes_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers = pytest.importorskip("deblurgan.benchmarks.pytorch_peers")
    monkeypatch.setattr(peers, "find_instructions", lambda: ("AVX2", "AVX-512"))
    monkeypatch.setattr(peers, "SIDE", {"cpu": 64})
    with pytest.raises(DeblurError, match="instructions for it, found one with AVX-512, AVX2"):
        peers.open_product(Workload("product", engine="int8"))
    monkeypatch.setattr(peers, "find_instructions", lambda: ())  # who knows
    assert peers.open_product(Workload("product", engine="int8")).operations == 2 * 64**3


def test_ways_that_mean_nothing_on_a_processor_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers = pytest.importorskip("deblurgan.benchmarks.pytorch_peers")
    assert "half precision" in peers.why_not(peers.WAYS["fp16"], "cpu")
    assert "half precision" in peers.why_not(peers.WAYS["compiled-fp16"], "cpu")
    assert "no CUDA graphs" in peers.why_not(peers.WAYS["cuda-graph"], "cpu")
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    assert "no C++ compiler" in peers.why_not(peers.WAYS["compiled"], "cpu")
    monkeypatch.setattr(peers, "find_instructions", lambda: ("AVX2",))
    assert "instructions for bf16" in peers.why_not(peers.WAYS["bf16"], "cpu")
    monkeypatch.setattr(peers, "find_instructions", lambda: ("AVX-512", "bf16"))
    assert peers.why_not(peers.WAYS["bf16"], "cpu") is None
    assert peers.why_not(peers.WAYS["eager"], "cpu") is None


@pytest.mark.gpu
def test_a_cuda_graph_makes_the_picture_of_its_module() -> None:
    torch = pytest.importorskip("torch")
    peers = pytest.importorskip("deblurgan.benchmarks.pytorch_peers")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    module = torch.nn.Conv2d(3, 3, 3, padding=1).cuda().requires_grad_(False)
    first, second = (torch.randn(1, 3, 32, 48, device="cuda") for _ in range(2))
    replay = peers.recorded(module, first)
    for given in (second, first):
        torch.testing.assert_close(replay(given), module(given))


def test_peers_make_the_same_picture_as_the_reference() -> None:
    torch = pytest.importorskip("torch")
    peers = pytest.importorskip("deblurgan.benchmarks.pytorch_peers")
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    given = peers.prepare(frames, "cpu", torch.float32, torch.channels_last)
    assert given.shape == (2, 3, 24, 40)
    assert (float(given.min()), float(given.max())) == (-1, 1)
    assert np.array_equal(((given + 1) * 127.5).round().permute(0, 2, 3, 1).numpy(), frames)
