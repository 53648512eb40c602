"""Files that appear under their name whole, or not at all, and folders for them."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from deblurgan.runtime.disk import DiskError
from deblurgan.runtime.errors import DeblurError


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file before it gets its name; a ``durable`` one is on the disk by then,
    and outlasts a power cut.

    Raises ``DiskError`` where there is no room or no permission; an earlier
    file under this name is then untouched.
    """
    # Named after the process: two of them may write the same file.
    part = path.with_name(f".{path.name[:80]}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():
            raise OSError("a folder, a pipe or a device of that name")
        with part.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise DiskError(
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


def check_may_write(path: Path) -> None:
    """Before the work: refuse a name in a folder where no file may be made."""
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DeblurError(
            path,
            expected="a folder to write in",
            found="no permission",
            remedy=f"choose another folder than {folder}",
        )


def check_new_file(
    path: Path, ending: str, overwrite: bool, why: str = "", replace: str = "--overwrite"
) -> None:
    """Before the work: refuse a name that its result could not get, or must not.

    ``why`` says what the ending is for, and ``replace`` how to replace a file. Raises
    ``DeblurError`` for another ending, a folder that is not there or not to be written in, a
    folder of this name, a name that no file can have, and a file that would be replaced.
    """
    if path.suffix != ending:
        example = path.with_suffix(ending) if path.name else path / f"model{ending}"
        raise DeblurError(
            path,
            expected=f"a name that ends in {ending}{why}",
            found=repr(path.suffix),
            remedy=f"for example {example}",
        )
    if not os.path.isdir(path.absolute().parent):
        raise DeblurError(
            path,
            expected="a folder to write in",
            found="no such folder",
            remedy=f"mkdir -p {shlex.quote(str(path.parent))}",
        )
    check_may_write(path)
    try:
        path.name.encode()
        os.lstat(path)
        is_there = True
    except FileNotFoundError:
        is_there = False
    except (OSError, UnicodeEncodeError) as error:
        raise DeblurError(
            path,
            expected="a name, in UTF-8, that a file can have",
            found=(getattr(error, "strerror", None) or str(error)).lower(),
            remedy="choose another name or folder",
        ) from None
    if path.is_dir():
        raise DeblurError(
            path,
            expected="the name of a new file",
            found="a folder",
            remedy="choose another name",
        )
    if is_there and not overwrite:
        raise DeblurError(
            path,
            expected="the name of a new file",
            found="a file that exists",
            remedy=f"choose another name, or replace it with {replace}",
        )
