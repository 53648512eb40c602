"""Files of an earlier call: the next one replaces these, and nothing else."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from deblurgan.benchmarks.result_file import read_result, refusing_damage
from deblurgan.runtime.errors import DeblurError

# Pictures that are drawn here name it as the software that made them.
SOFTWARE = "deblur-bench"
HEAD = 1024  # bytes
BEGINNINGS = {
    ".png": re.compile(rb"\x89PNG.{,256}tEXtSoftware\0" + SOFTWARE.encode(), re.DOTALL),
    ".csv": re.compile(rb"name,model,engine,description,precision,"),
    ".json": re.compile(rb'\[\]|\[\n  \{\n    "name": "[^\n]*",\n    "unit": "ms",'),
}


def is_free_or_result(path: Path, kind: str | None = None) -> bool:
    """Nothing is lost: there is no file, an empty one, or a result (of the ``kind``)."""
    with suppress(DeblurError), refusing_damage(path, "", ""):
        return path.stat().st_size == 0 or read_result(path).kind == kind or kind is None
    return not path.exists()


def is_free_or_drawn(path: Path) -> bool:
    """Nothing is lost: there is no file, an empty one, or a drawing or table of
    ``deblur-bench``, told by its beginning.
    """
    if not path.is_file():
        return not path.exists()
    with suppress(OSError), path.open("rb") as there:
        head = there.read(HEAD)
        return not head or BEGINNINGS[path.suffix].match(head) is not None
    return False
