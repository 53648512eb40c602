"""Files that appear under their name whole, or not at all, and folders for them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from deblurgan.runtime.errors import DeblurError


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file before it gets its name; a ``durable`` one is on the disk by then,
    and outlasts a power cut.

    Raises ``DeblurError`` where there is no room or no permission; an earlier
    file under this name is then untouched.
    """
    # Named after the process: two of them may write the same file.
    part = path.with_name(f".{path.name[:80]}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise DeblurError(
            path,
            expected=f"room and permission to write {len(content):,} bytes",
            found=(error.strerror or str(error)).lower(),
            remedy="free some space or choose another folder; an earlier file is untouched",
        ) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder where there is none yet; raises ``DeblurError`` where none can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeblurError(
            folder,
            expected="a folder, or a place to make one",
            found=(error.strerror or str(error)).lower(),
            remedy="name another one",
        ) from None
