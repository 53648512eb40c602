"""Folders that are made for a result, and are not left behind without one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deblurgan.runtime.whole_file import make_folder


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make ``folder`` where there is none; it goes again, and the parents that were made
    for it, where nothing is in it afterwards.

    Raises ``DeblurError`` where none can be made.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        make_folder(folder)
        yield
    finally:
        for path in made:
            with suppress(OSError):  # not empty: that is what it was made for
                path.rmdir()
