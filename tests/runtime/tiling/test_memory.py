from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime import DeblurError
from deblurgan.runtime.tiling.memory import (
    default_limit,
    format_memory,
    free_memory,
    parse_memory,
    peak_memory,
    used_memory,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4 * GIB),
        ("4GiB", 4 * GIB),
        ("4 gib", 4 * GIB),
        ("512M", GIB // 2),
        ("1.5G", 3 * GIB // 2),
        ("4GB", 4_000_000_000),
        ("900k", 900 * 1024),
    ],
)
def test_memory_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "4", "much", "-4G", "0G", "G", "4Gi", "4 G B", "4,5G", "1e3G", "9" * 400 + "G"]
)
def test_anything_else_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(DeblurError, match="--memory-limit 4G"):
        parse_memory(text)


@given(st.text(max_size=8))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(DeblurError):
        assert parse_memory(text) > 0


def test_sizes_are_said_in_units_of_1024() -> None:
    assert format_memory(512 << 20) == "512 MiB"
    assert format_memory(16 * GIB) == "16 GiB"


def write_proc(root: Path, available: int, cgroup: str = "") -> Path:
    """A /proc with these bytes available, in a process of 100 MiB."""
    proc = root / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {available // 1024} kB\n")
    (proc / "self/status").write_text("VmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n")
    (proc / "self/cgroup").write_text(cgroup)
    return proc


def test_without_control_groups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    proc = write_proc(tmp_path, 8 * GIB)
    assert free_memory(proc, tmp_path / "none") == 8 * GIB
    assert used_memory(proc) == 100 << 20
    assert peak_memory(proc) == 200 << 20
    assert default_limit(proc, tmp_path / "none") == (100 << 20) + round(0.8 * 8 * GIB)


def test_a_group_of_version_2_or_one_above_it_bounds_it(tmp_path: Path) -> None:
    proc = write_proc(tmp_path, 8 * GIB, "0::/pod/box\n")
    box = tmp_path / "cgroup/pod/box"
    box.mkdir(parents=True)
    (box / "memory.max").write_text("max\n")
    (box / "memory.current").write_text(f"{GIB}\n")
    assert free_memory(proc, tmp_path / "cgroup") == 8 * GIB
    (box.parent / "memory.max").write_text(f"{3 * GIB}\n")
    (box.parent / "memory.current").write_text(f"{2 * GIB}\n")
    (box.parent / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 2}\nactive_file 9\n")
    assert free_memory(proc, tmp_path / "cgroup") == GIB + GIB // 2


def test_a_group_of_version_1_bounds_it_also_where_its_path_is_the_hosts(tmp_path: Path) -> None:
    proc = write_proc(tmp_path, 8 * GIB, "5:cpu,cpuacct:/a\n4:memory:/docker/12ab\n0::/\n")
    memory = tmp_path / "cgroup/memory"
    memory.mkdir(parents=True)
    (memory / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (memory / "memory.usage_in_bytes").write_text(f"{3 * GIB // 2}\n")
    (memory / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 4096\n")
    assert free_memory(proc, tmp_path / "cgroup") == GIB // 2 + 4096
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert free_memory(proc, tmp_path / "cgroup") == 8 * GIB


def test_a_system_that_does_not_tell_has_no_limit(tmp_path: Path) -> None:
    assert free_memory(tmp_path, tmp_path) is None
    assert default_limit(tmp_path, tmp_path) is None
    assert used_memory(tmp_path) == peak_memory(tmp_path) == 0


def test_this_process_is_seen_growing() -> None:
    before = used_memory()
    if before == 0:
        pytest.skip("this system does not tell")
    block = np.ones(64 << 20, np.uint8)
    assert used_memory() - before > 32 << 20
    assert peak_memory() >= before + block.nbytes // 2
