from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.contract import INPUT, OUTPUT, Model
from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.builder import open_builder
from deblurgan.runtime.tensorrt.device import Device
from deblurgan.runtime.tensorrt.device_memory import (
    MEGABYTE,
    Need,
    Room,
    check_room,
    estimate_need,
    measure_room,
    read_meminfo,
)
from deblurgan.runtime.tensorrt.profiles import choose_profile


def need(weights: int, activations: int, is_fixed: bool = True) -> Need:
    return Need(weights * MEGABYTE, activations * MEGABYTE, is_fixed)


def room(total: int, free: int, is_shared: bool = False) -> Room:
    return Room(total * MEGABYTE, free * MEGABYTE, is_shared)


def test_a_range_of_sizes_takes_more_than_one_size() -> None:
    assert need(10, 100).least == 110 * MEGABYTE
    assert need(10, 100).likely == (500 + 3 * 10 + 150) * MEGABYTE
    assert need(10, 100, is_fixed=False).likely == (500 + 3 * 10 + 500) * MEGABYTE


def test_enough_room_says_nothing() -> None:
    assert check_room(need(10, 100), room(8000, 680)) is None


def test_little_room_warns_with_what_helps() -> None:
    warning = check_room(need(10, 100), room(8000, 679))
    assert warning is not None
    assert "may take 680 MB, and 679 MB of 8,000 MB of memory on the GPU are free" in warning
    for way in ("--max", "--batch 1", "--workspace", "fp16"):
        assert way in warning
    assert "--size" not in warning
    assert "swap" not in warning
    assert "--size" in str(check_room(need(10, 100, is_fixed=False), room(8000, 679)))


def test_on_a_jetson_closing_programs_helps() -> None:
    warning = check_room(need(45, 1091, is_fixed=False), room(7620, 5000, is_shared=True))
    assert warning is not None
    assert "which processor and GPU share" in warning
    assert "closing other programs" in warning
    assert "swap" in warning


def test_what_can_never_fit_is_refused() -> None:
    assert check_room(need(45, 7000), room(7620, 100)) is not None
    with pytest.raises(DeblurError, match=r"into 7,620 MB .* found 7,621 MB .* smaller --max"):
        check_room(need(45, 7576), room(7620, 7620))


def test_tensors_are_counted_while_they_live(
    rtx: Bindings, write_graph: Any, tmp_path: Path
) -> None:
    """A chain of two over a first that is needed again: three floats a value at the most."""
    onnx = pytest.importorskip("onnx")
    node, kind = onnx.helper.make_node, onnx.TensorProto
    nodes = [
        node("Cast", [INPUT], ["x"], to=kind.FLOAT),
        node("Relu", ["x"], ["a"]),
        node("Tanh", ["a"], ["b"]),  # x, a and b are alive
        node("Exp", ["b"], ["c"]),  # x, b and c: a is dead
        node("Cast", ["c"], ["d"], to=kind.FLOAT16),  # x, c and half of d
        node("Cast", ["d"], ["e"], to=kind.FLOAT),
        node("Add", ["x", "e"], ["y"]),
        node("Cast", ["y"], [OUTPUT], to=kind.UINT8),
    ]
    path = write_graph(tmp_path / "chain.onnx", nodes)
    model = Model(path, None, None)  # type: ignore[arg-type]
    builder = open_builder(rtx)
    for batch, width, height in ((1, 64, 48), (4, 160, 96)):
        profile = choose_profile_of(model, width, height, batch)
        estimate = estimate_need(rtx, builder, path, profile)
        assert estimate is not None
        assert estimate.activations == 3 * 4 * batch * width * height * 3
        assert estimate.weights == path.stat().st_size


def choose_profile_of(model: Model, width: int, height: int, batch: int) -> Any:
    from deblurgan.runtime.tensorrt.profiles import Profile, Shape

    return Profile(Shape(1, 16, 16), *[Shape(batch, height, width)] * 2)


def test_the_estimate_of_the_shipped_model(rtx: Bindings, shipped: Model) -> None:
    """TensorRT for RTX itself asks for 149 MB at 1080p, and 566 MB for any size up to it."""
    builder = open_builder(rtx)
    fixed = estimate_need(rtx, builder, shipped.path, choose_profile(shipped, (1920, 1080)))
    ranged = estimate_need(rtx, builder, shipped.path, choose_profile(shipped, max=(1920, 1080)))
    assert fixed is not None
    assert ranged is not None
    assert 80e6 < fixed.activations == ranged.activations < 149.2e6
    assert 149.2e6 < fixed.likely < ranged.likely


def test_a_jetson_shares_its_memory(tmp_path: Path, orin: Device) -> None:
    """In a container too, where only CUDA tells that it is one."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(
        "MemTotal:        7802128 kB\nMemFree:   1 kB\nMemAvailable:    5120000 kB\n"
    )
    assert read_meminfo(meminfo) == Room(7802128 << 10, 5120000 << 10, is_shared=True)
    hidden = replace(orin, name="Orin")
    assert measure_room(hidden, meminfo=meminfo) == read_meminfo(meminfo)
    meminfo.write_text("nothing of the kind\n")
    assert measure_room(hidden, meminfo=meminfo) is None


def test_without_a_gpu_there_is_no_room_to_measure() -> None:
    assert measure_room(None) is None


DRIVER = """
#include <stddef.h>
static int pushed, retained;
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
    retained++; *context = &pushed; return device == 7 ? RETAIN : 101;
}
int cuCtxPushCurrent_v2(void *context) { pushed += context == &pushed; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    *free = (size_t)9 << 30; *total = (size_t)24 << 30; return pushed == 1 ? 0 : 201;
}
int cuCtxPopCurrent_v2(void **context) { pushed--; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return 0; }
int left_over(void) { return pushed + retained; }
"""


@pytest.mark.parametrize(("retain", "free"), [(0, 9 << 30), (2, 24 << 30)])
def test_the_driver_says_what_is_free(
    retain: int, free: int, tmp_path: Path, device: Device
) -> None:
    """Asked for real, through a ``libcuda`` compiled here."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    code, library = tmp_path / "cuda.c", tmp_path / "libcuda.so"
    code.write_text(DRIVER)
    command = [compiler, "-shared", "-fPIC", f"-DRETAIN={retain}", "-o", str(library), str(code)]
    subprocess.run(command, check=True)
    for _ in range(2):  # the second time too: what was taken was given back
        assert measure_room(device, str(library)) == Room(24 << 30, free)


def test_a_driver_that_does_not_answer_counts_as_all_free(tmp_path: Path, device: Device) -> None:
    assert measure_room(device, str(tmp_path / "nowhere.so")) == Room(24 << 30, 24 << 30)
