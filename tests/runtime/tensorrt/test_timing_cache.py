from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deblurgan.runtime import DeblurError
from deblurgan.runtime.tensorrt.timing_cache import TimingFile, TimingKey

KEY = TimingKey("NVIDIA GeForce RTX 4090 8.9", "10.16.1.11", None)


def never(warning: str) -> None:
    pytest.fail(f"warned: {warning}")


def adding(line: bytes) -> Callable[[bytes], bytes]:
    """Combines as TensorRT does: what was there and what is new, each once."""
    return lambda present: b"\n".join(sorted({*present.split(b"\n"), line} - {b""}))


@pytest.fixture
def file(tmp_path: Path) -> TimingFile:
    file = TimingFile.of(tmp_path / "caches" / "timing.cache", KEY)
    file.merge(adding(b"convolution 3x3: tactic 7"), never)
    return file


def test_what_was_written_is_read(file: TimingFile) -> None:
    assert file.read(never) == b"convolution 3x3: tactic 7"
    file.merge(adding(b"convolution 7x7: tactic 2"), never)
    assert file.read(never) == b"convolution 3x3: tactic 7\nconvolution 7x7: tactic 2"
    card = json.loads(file.sidecar.read_text())
    assert card["gpu"] == "NVIDIA GeForce RTX 4090 8.9"
    assert card["tensorrt"] == "10.16.1.11"


def test_a_cache_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert TimingFile.of(tmp_path / "timing", KEY).read(never) == b""


def test_no_flipped_byte_gets_to_tensorrt(file: TimingFile) -> None:
    whole = file.path.read_bytes()
    for at in range(len(whole)):
        file.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        warnings: list[str] = []
        assert file.read(warnings.append) == b""
        assert "damaged" in warnings[0]
        assert str(file.path) in warnings[0]


@pytest.mark.parametrize("cut", [0, 1, 10])
def test_a_cut_cache_is_not_used(cut: int, file: TimingFile) -> None:
    file.path.write_bytes(file.path.read_bytes()[:cut])
    warnings: list[str] = []
    assert file.read(warnings.append) == b""
    assert len(warnings) == 1


@pytest.mark.parametrize("sidecar", [None, "", "[]", "{", '{"sha256": "00"}', "\xff"])
def test_a_cache_without_its_checksum_is_not_used(sidecar: str | None, file: TimingFile) -> None:
    file.sidecar.unlink()
    if sidecar is not None:
        file.sidecar.write_text(sidecar, encoding="latin-1")
    warnings: list[str] = []
    assert file.read(warnings.append) == b""
    assert "starts anew" in warnings[0]
    file.merge(adding(b"new"), warnings.append)  # and then it works again
    assert file.read(never) == b"new"


def test_a_cache_of_another_key_under_the_same_name_is_not_used(file: TimingFile) -> None:
    other = TimingFile(file.path, TimingKey("Jetson Orin 8.7", "10.3.0", None))
    warnings: list[str] = []
    assert other.read(warnings.append) == b""
    assert warnings


def test_each_gpu_version_and_workspace_has_its_own(tmp_path: Path) -> None:
    keys = [
        KEY,
        TimingKey("NVIDIA GeForce RTX 4080 8.9", KEY.tensorrt, None),
        TimingKey(KEY.gpu, "11.4.0.106", None),
        TimingKey(KEY.gpu, KEY.tensorrt, 1 << 30),
    ]
    files = [TimingFile.of(tmp_path / "timing.cache", key) for key in keys]
    assert len({file.path for file in files}) == 4
    assert all(file.path.name.startswith("timing-") for file in files)
    assert all(file.path.suffix == ".cache" for file in files)


def test_a_place_that_cannot_be_written_is_said_before_the_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeblurError, match="found a folder"):
        TimingFile.of(tmp_path, KEY)
    with pytest.raises(DeblurError, match=r"a folder, or a place to make one"):
        TimingFile.of(tmp_path / "file" / "timing.cache", KEY)
    with pytest.raises(DeblurError, match="--timing-cache: expected a place to write"):
        TimingFile.of(tmp_path / ("long" * 100), KEY)


WRITER = """
import sys, time
from pathlib import Path
from deblurgan.runtime.tensorrt.timing_cache import TimingFile, TimingKey
file = TimingFile.of(Path(sys.argv[1]), TimingKey("gpu", "10.3.0", None))
def adding(line):
    def combine(present):
        time.sleep(0.002)  # where another one would slip in
        return b"\\n".join(sorted({*present.split(b"\\n"), line} - {b""}))
    return combine
for number in range(25):
    file.merge(adding(f"{sys.argv[2]} {number}".encode()), sys.exit)
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "two", "three")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    content = TimingFile.of(path, TimingKey("gpu", "10.3.0", None)).read(never)
    expected = {
        f"{name} {number}".encode() for name in ("one", "two", "three") for number in range(25)
    }
    assert set(content.split(b"\n")) == expected


def test_a_writer_that_fails_leaves_the_cache_and_the_lock(file: TimingFile) -> None:
    def fail(present: bytes) -> bytes:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        file.merge(fail, never)
    assert file.read(never) == b"convolution 3x3: tactic 7"
