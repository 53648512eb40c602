from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from deblurgan.runtime.tensorrt.memory_bound import memory_bound


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """Of a machine that has 100 MB left."""
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:   8000000 kB\nMemAvailable:   102400 kB\n")
    return path


def test_what_does_not_fit_fails_and_the_process_lives_on(meminfo: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_bound(meminfo):
        assert np.ones(30 << 20, np.uint8)[-1] == 1
        with pytest.raises(MemoryError):
            np.ones(120 << 20, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert np.ones(120 << 20, np.uint8)[-1] == 1


def test_the_bound_goes_with_an_error_too(meminfo: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(KeyError), memory_bound(meminfo):
        raise KeyError
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_narrower_bound_stays(meminfo: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    meminfo.write_text("MemTotal:   8000000 kB\nMemAvailable:   80000000 kB\n")
    narrow = 16 << 30
    resource.setrlimit(resource.RLIMIT_DATA, (narrow, before[1]))
    try:
        with memory_bound(meminfo):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == narrow
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == narrow
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_system_that_does_not_tell_is_not_bound(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_bound(tmp_path / "nowhere"):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
