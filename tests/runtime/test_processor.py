from __future__ import annotations

from pathlib import Path

import pytest

from deblurgan.runtime import processor


@pytest.mark.parametrize(
    ("lines", "described"),
    [
        ("model name\t: Big One\nflags\t\t: fpu avx2 avx512f avx512_vnni avx_vnni avx512_bf16",
         "Big One (AVX2, AVX-512, VNNI, bf16)"),
        ("model name\t: Big One\nflags\t\t: fpu sse2 avx2 avx512fp16", "Big One (AVX2)"),
        ("Features\t: fp asimd asimddp bf16\nCPU part\t: 0xd42", "arm (dot products, bf16)"),
        ("", "arm"),
    ],
)  # fmt: skip
def test_its_instructions_tell_apart_what_has_one_name(
    lines: str, described: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\n{lines}\nprocessor\t: 1\n{lines}\n")
    monkeypatch.setattr(processor, "CPU_INFO", info)
    monkeypatch.setattr(processor.platform, "processor", lambda: "arm")
    assert processor.describe_processor() == described


def test_a_system_that_does_not_tell_has_a_name_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "missing")
    assert processor.find_instructions() == ()
    assert processor.describe_processor()
