"""What a folder holds, or a pattern names."""

from __future__ import annotations

import glob
from pathlib import Path


def is_pattern(text: str) -> bool:
    """Like ``clips/*.mp4``, which the shell has left to the program."""
    return glob.has_magic(text) and not Path(text).exists()


def list_files(source: str) -> list[Path]:
    """In order; what is hidden is left out, as what a Mac puts beside each file on a stick is."""
    folder = Path(source)
    found = folder.iterdir() if folder.is_dir() else map(Path, glob.glob(source, recursive=True))
    return sorted(p for p in found if p.is_file() and not p.name.startswith("."))
