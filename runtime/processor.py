"""The processor, and what it has instructions for that decides how fast a network is."""

from __future__ import annotations

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# Linux's words for them, x86-64's and Arm's, and ours.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "VNNI",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "bf16",
    "amx_int8": "AMX",
    "amx_bf16": "bf16",
    "asimddp": "dot products",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "SVE",
}


def describe_processor() -> str:
    """Like ``AMD EPYC (AVX2, AVX-512, VNNI)``: one name is that of very different ones."""
    name, known = name_processor(), find_instructions()
    return f"{name} ({', '.join(known)})" if known else name


def name_processor() -> str:
    """As the system names it."""
    names = read_lines("model name")
    return names[0] if names else platform.processor() or platform.machine()


def find_instructions() -> tuple[str, ...]:
    """Values of :data:`INSTRUCTIONS`; none where the system does not tell."""
    words = " ".join(read_lines("flags", "features")[:1]).split()
    return tuple(dict.fromkeys(ours for word, ours in INSTRUCTIONS.items() if word in words))


def read_lines(*keys: str) -> list[str]:
    """The values of the lines of that key, one for each core."""
    try:
        lines = CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        return []
    split = (line.partition(":") for line in lines)
    return [value.strip() for key, _, value in split if key.strip().lower() in keys]
