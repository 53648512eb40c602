from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime.tensorrt.kernel_cache import (
    KernelKey,
    kernels_path,
    read_kernels,
    write_kernels,
)

KEY = KernelKey("ab" * 32, "1.7.1", "NVIDIA GeForce RTX 4090")
KERNELS = b"\0kernels\nof\nRTX" * 9


def read(path: Path, key: KernelKey = KEY) -> tuple[bytes, list[str]]:
    warnings: list[str] = []
    return read_kernels(path, key, warnings.append), warnings


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = kernels_path(tmp_path / "mine.plan")
    assert path.name == "mine.plan.cache"
    assert read(path) == (b"", [])
    write_kernels(path, KEY, KERNELS)
    assert read(path) == (KERNELS, [])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("field", ["plan_sha256", "tensorrt", "gpu"])
def test_those_of_something_else_are_left_alone_in_silence(field: str, tmp_path: Path) -> None:
    write_kernels(tmp_path / "a", KEY, KERNELS)
    assert read(tmp_path / "a", replace(KEY, **{field: "another"})) == (b"", [])


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255), cut=st.booleans())
def test_a_changed_byte_or_end_is_never_handed_on(
    place: int, flip: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("kernels") / "a"
    write_kernels(path, KEY, KERNELS)
    content = bytearray(path.read_bytes())
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] ^= flip
    path.write_bytes(content)
    kernels, warnings = read(path)
    # A byte of the key itself makes them those of something else.
    assert kernels == b""
    assert all("compiled anew" in line for line in warnings)


@pytest.mark.parametrize("content", [b"", b"[]\n", b"{}\nx", b"\xff\n", b"[" * 99_999 + b"\n"])
def test_what_is_no_such_file_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    kernels, warnings = read(tmp_path / "a")
    assert (kernels, len(warnings)) == (b"", 1)
    assert "damaged" in warnings[0]


def test_a_place_that_cannot_be_read_or_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_kernels(tmp_path / "a", KEY, KERNELS)
    kernels, warnings = read(tmp_path / "a")
    assert (kernels, len(warnings)) == (b"", 1)
    write_kernels(tmp_path / "missing" / "a", KEY, KERNELS)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
