from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deblurgan.runtime.tensorrt import machine
from deblurgan.runtime.tensorrt.bindings import how_to_install_pycuda
from deblurgan.runtime.tensorrt.device import Device
from deblurgan.runtime.tensorrt.machine import Machine, read_cuda_majors, this_machine
from deblurgan.runtime.tensorrt.sidecar import PlanCard, why_not_here

MakeCard = Callable[..., PlanCard]
RTX_CARD: dict[str, Any] = {
    "flavour": "tensorrt_rtx",
    "tensorrt": "1.7.1.116",
    "targets": ("sm89", "sm120"),
    "gpu": None,
    "compute_capability": None,
}


@pytest.fixture
def here(device: Device) -> Machine:
    """A machine on which the plan of the fixtures runs."""
    return Machine(
        device=device,
        tensorrt={"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1.116"},
        cuda={"tensorrt": 12, "tensorrt_rtx": 12},
        platform=f"{platform.system()} {platform.machine()}",
    )


def test_where_it_was_built_it_runs(make_card: MakeCard, here: Machine) -> None:
    assert why_not_here(make_card(), here) == []
    assert why_not_here(make_card(**RTX_CARD), here) == []


def one(reasons: list[str]) -> str:
    assert len(reasons) == 1, reasons
    return reasons[0]


def test_no_tensorrt(make_card: MakeCard, here: Machine) -> None:
    missing = {"tensorrt": "tensorrt: not installed"}
    said = one(why_not_here(make_card(), replace(here, tensorrt={}, missing=missing)))
    assert "needs TensorRT 10.3.0" in said
    assert "tensorrt: not installed" in said
    assert 'pip install ".[trt]"' in said
    assert "JetPack" in said


def test_one_flavours_plan_where_there_is_the_other(make_card: MakeCard, here: Machine) -> None:
    plain = replace(here, tensorrt={"tensorrt": "10.3.0"})
    said = one(why_not_here(make_card(**RTX_CARD), plain))
    assert "needs TensorRT for RTX 1.7.1.116" in said
    assert "only TensorRT 10.3.0, which does not load it" in said
    assert 'pip install ".[rtx]"' in said
    assert "JetPack" not in said
    rtx = replace(here, tensorrt={"tensorrt_rtx": "1.7.1.116"})
    assert "only TensorRT for RTX 1.7.1.116" in one(why_not_here(make_card(), rtx))


@pytest.mark.parametrize(
    ("built_with", "here_is", "version_compatible", "runs"),
    [
        ("10.3.0", "10.3.0", False, True),
        ("10.3.0", "10.3.1", False, False),
        ("10.3.0", "10.16.1", False, False),
        ("10.3.0", "10.16.1", True, True),
        ("10.16.1", "10.3.0", True, False),
        ("10.3.0", "11.4.0", True, True),
        ("10.3.0", "11.4.0", False, False),
        ("11.4.0", "10.16.1", True, False),
    ],
)
def test_versions(
    built_with: str,
    here_is: str,
    version_compatible: bool,
    runs: bool,
    make_card: MakeCard,
    here: Machine,
) -> None:
    card = make_card(tensorrt=built_with, version_compatible=version_compatible)
    reasons = why_not_here(card, replace(here, tensorrt={"tensorrt": here_is}))
    if runs:
        assert reasons == []
    else:
        assert f"built with TensorRT {built_with}, and here is {here_is}" in one(reasons)
        assert "deblur-export trt negative.onnx -o edge.plan" in reasons[0]


def test_an_rtx_plan_wants_the_very_same_version(make_card: MakeCard, here: Machine) -> None:
    card = make_card(**RTX_CARD, version_compatible=True)
    later = replace(here, tensorrt={"tensorrt_rtx": "1.8.0.1"})
    assert "and here is 1.8.0.1" in one(why_not_here(card, later))


@pytest.mark.parametrize(
    ("name", "capability", "compatible", "runs"),
    [
        ("NVIDIA GeForce RTX 3090", "8.6", False, False),
        ("NVIDIA GeForce RTX 4080", "8.9", False, False),
        ("NVIDIA GeForce RTX 3090", "8.6", True, True),
        ("NVIDIA GeForce RTX 5090", "12.0", True, True),
        ("NVIDIA GeForce RTX 2080", "7.5", True, False),
    ],
)
def test_another_gpu(
    name: str,
    capability: str,
    compatible: bool,
    runs: bool,
    make_card: MakeCard,
    here: Machine,
    device: Device,
) -> None:
    gpu = replace(device, name=name, chip=name, compute_capability=capability)
    other = replace(here, device=gpu)
    reasons = why_not_here(make_card(hardware_compatible=compatible), other)
    if runs:
        assert reasons == []
    else:
        said = one(reasons)
        assert "built on NVIDIA GeForce RTX 4090 (compute capability 8.9, 128 multi" in said
        assert f"here is {name} (compute capability {capability}, 128 multiprocessors)" in said
        assert "build it here: deblur-export trt" in said


def test_a_jetsons_plan_goes_into_a_container_and_back(
    make_card: MakeCard, here: Machine, orin: Device
) -> None:
    hidden = replace(orin, name="Orin")
    reflashed = replace(
        orin, name="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    )
    for built_on in (orin, hidden):
        card = make_card(
            gpu=built_on.name,
            chip=built_on.chip,
            compute_capability=built_on.compute_capability,
            multiprocessors=built_on.multiprocessors,
        )
        for device in (orin, hidden, reflashed):
            assert why_not_here(card, replace(here, device=device)) == []
        agx = replace(orin, name="NVIDIA Jetson AGX Orin Developer Kit", multiprocessors=16)
        said = one(why_not_here(card, replace(here, device=agx)))
        assert f"built on {built_on.name} (compute capability 8.7, 8 multiprocessors)" in said
        assert "AGX Orin Developer Kit (compute capability 8.7, 16 multiprocessors)" in said


def test_an_rtx_plan_on_a_gpu_it_was_not_built_for(
    make_card: MakeCard, here: Machine, device: Device
) -> None:
    ampere = replace(here, device=replace(device, name="RTX 3090", compute_capability="8.6"))
    said = one(why_not_here(make_card(**RTX_CARD), ampere))
    assert "built for sm89, sm120, and here is RTX 3090" in said
    assert said.endswith("--target sm89,sm120,sm86")
    every = make_card(**{**RTX_CARD, "targets": ()})
    assert why_not_here(every, ampere) == []
    turing = replace(here, device=replace(device, compute_capability="7.5"))
    assert one(why_not_here(every, turing)).endswith("--target sm75")


def test_a_driver_too_old_for_the_tensorrt_that_is_here(make_card: MakeCard, here: Machine) -> None:
    said = one(why_not_here(make_card(), replace(here, cuda={"tensorrt": 13})))
    assert "the driver 570.86.15 serves CUDA 12.8" in said
    assert "made for CUDA 13: update the driver" in said


def test_no_gpu_and_no_pycuda(make_card: MakeCard, here: Machine) -> None:
    bare = replace(here, device=None, pycuda=False)
    pycuda, gpu = why_not_here(make_card(), bare)
    assert pycuda == f"no pycuda: {how_to_install_pycuda('tensorrt')}"
    assert "no NVIDIA GPU" in gpu
    assert "nvidia-smi" in gpu


def test_on_a_jetson_nothing_asks_for_a_tensorrt_of_another_kind(
    make_card: MakeCard, here: Machine
) -> None:
    jetson = replace(here, platform="Linux aarch64", tensorrt={}, pycuda=False)
    needs, pycuda = why_not_here(make_card(platform="Linux aarch64"), jetson)
    assert "not installed): on a Jetson TensorRT comes with JetPack: sudo apt install" in needs
    assert pycuda.startswith("no pycuda: PATH=/usr/local/cuda/bin:$PATH pip install")
    assert "[trt]" not in pycuda


def test_another_processor(make_card: MakeCard, here: Machine) -> None:
    jetson = replace(here, platform="Linux aarch64")
    assert "and this is Linux aarch64: build it here" in one(why_not_here(make_card(), jetson))
    assert why_not_here(make_card(**RTX_CARD), jetson) == [], "RTX plans move"


def test_this_machine_says_what_it_has(
    make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "find_device", lambda: None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = this_machine()
    assert found.platform == f"{platform.system()} {platform.machine()}"
    assert "tensorrt" in found.missing
    assert set(found.tensorrt) | set(found.missing) == {"tensorrt", "tensorrt_rtx"}
    reasons = " ".join(why_not_here(make_card()))
    assert "needs TensorRT 10.3.0" in reasons
    assert "no NVIDIA GPU" in reasons


def test_the_cuda_that_an_installed_tensorrt_is_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt-cu12-bindings", "tensorrt_rtx_cu13", "tensorrt_llm", "numpy_cu9"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert read_cuda_majors() == {"tensorrt": 12, "tensorrt_rtx": 13}
