"""The driver is asked for real, through a ``libcuda`` compiled here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

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
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, "NVIDIA GeForce RTX 4090", length); return device == 7 ? 0 : 101;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = (size_t)25393 << 20; return device == 7 ? 0 : 101;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device != 7) return 101;
    *value = attribute == 75 ? 8 : attribute == 76 ? 9 : -1;
    return 0;
}
"""


@pytest.fixture
def compile_driver(tmp_path: Path) -> Callable[..., str]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def compile_(source: str = DRIVER, **values: int) -> str:
        code, library = tmp_path / "cuda.c", tmp_path / "libcuda.so"
        code.write_text(source)
        defines = [f"-D{name}={value}" for name, value in {"INIT": 0, "GET": 0, **values}.items()]
        subprocess.run(
            [str(compiler), "-shared", "-fPIC", *defines, "-o", str(library), str(code)], check=True
        )
        return str(library)

    return compile_


def test_the_driver_says_what_is_there(compile_driver: Callable[..., str]) -> None:
    device = find_device(compile_driver())
    assert device is not None
    assert device == Device("NVIDIA GeForce RTX 4090", "8.9", 25393 << 20, device.driver, "12.8")
    assert device.architecture == "sm89"
    assert Device("", "12.0", 1, None, "13.0").architecture == "sm120"


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
