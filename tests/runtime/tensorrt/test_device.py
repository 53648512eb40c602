"""The driver is asked for real, through a ``libcuda`` compiled here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deblurgan.runtime.tensorrt import device
from deblurgan.runtime.tensorrt.device import (
    Device,
    find_device,
    name_board,
    read_driver_version,
)

DRIVER = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal == 0 ? GET : 101; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, "Orin", length); return device == 7 ? 0 : 101;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = (size_t)7620 << 20; return device == 7 ? 0 : 101;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device != 7) return 101;
    switch (attribute) {
        case 16: *value = 8; return 0;
        case 18: *value = INTEGRATED; return 0;
        case 75: *value = 8; return 0;
        case 76: *value = 7; return 0;
    }
    return 1;
}
"""
ANSWERS = {"INIT": 0, "GET": 0, "INTEGRATED": 1}


@pytest.fixture
def compile_driver(tmp_path: Path) -> Callable[..., str]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def compile_(source: str = DRIVER, **values: int) -> str:
        code, library = tmp_path / "cuda.c", tmp_path / "libcuda.so"
        code.write_text(source)
        defines = [f"-D{name}={value}" for name, value in {**ANSWERS, **values}.items()]
        subprocess.run(
            [str(compiler), "-shared", "-fPIC", *defines, "-o", str(library), str(code)], check=True
        )
        return str(library)

    return compile_


def test_the_driver_says_what_is_there(
    compile_driver: Callable[..., str], orin: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compile_driver()
    monkeypatch.setattr(device, "name_board", lambda: orin.name)
    monkeypatch.setattr(device, "read_driver_version", lambda: "540.4.0")
    found = find_device(library)
    assert found == orin
    assert found.architecture == "sm87"
    assert replace(orin, compute_capability="12.0").architecture == "sm120"


def test_in_a_container_only_the_name_for_people_is_another(
    compile_driver: Callable[..., str], orin: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compile_driver()
    monkeypatch.setattr(device, "name_board", lambda: None)
    monkeypatch.setattr(device, "read_driver_version", lambda: None)
    found = find_device(library)
    assert found == replace(orin, name="Orin", driver=None)
    assert found.identity == orin.identity


def test_a_gpu_with_memory_of_its_own(compile_driver: Callable[..., str]) -> None:
    found = find_device(compile_driver(INTEGRATED=0))
    assert found is not None
    assert not found.is_integrated


@pytest.mark.parametrize("answers", [{"INIT": 100}, {"INIT": 999}, {"GET": 101}])
def test_a_driver_without_a_gpu(
    answers: dict[str, int], compile_driver: Callable[..., str]
) -> None:
    assert find_device(compile_driver(**answers)) is None


def test_no_driver_and_another_library_under_its_name(compile_driver: Callable[..., str]) -> None:
    assert find_device("libcuda-that-is-nowhere.so.1") is None
    assert find_device(compile_driver("int nothing;")) is None


def test_a_board_is_named_as_it_is_sold(tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert name_board(model) is None
    model.write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    assert name_board(model) == "NVIDIA Jetson Orin Nano Developer Kit"
    model.write_bytes(b"Raspberry Pi 5\0")
    assert name_board(model) is None


def test_the_driver_version_in_either_place(tmp_path: Path) -> None:
    module, proc = tmp_path / "version", tmp_path / "proc"
    assert read_driver_version((module, proc)) is None
    proc.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n"
        "GCC version:  collect2: error: ld returned 1 exit status\n"
    )
    assert read_driver_version((module, proc)) == "540.4.0"
    module.write_text("570.86.15\n")
    assert read_driver_version((module, proc)) == "570.86.15"
