"""The folder that a ladder is written into: all of it, or nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import make_folder

JSON, HTML = "ladder.json", "ladder.html"


def file_name(title: str, precision: str) -> str:
    stem = re.sub(r"[^\w.-]+", "-", title).strip("-.") or "model"
    return f"{stem}.onnx" if precision == "fp32" else f"{stem}-{precision}.onnx"


def check_target(folder: Path, title: str, precisions: Sequence[str], overwrite: bool) -> None:
    names = [JSON, HTML, *(file_name(title, precision) for precision in precisions)]
    for path in (folder / name for name in names):
        if path.is_dir() or (path.exists() and not overwrite):
            raise DeblurError(
                path,
                expected="a folder without a report",
                found="a folder of that name" if path.is_dir() else "one",
                remedy="name another with -o, or replace the report with --overwrite",
            )


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder in ``folder`` to make things in; gone afterwards, and ``folder``
    with it where it was not there before and nothing came of it.
    """
    existed = folder.is_dir()
    make_folder(folder)
    stage = folder / f".ladder.{os.getpid()}.part"
    try:
        make_folder(stage)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if not existed:
            with suppress(OSError):
                folder.rmdir()
