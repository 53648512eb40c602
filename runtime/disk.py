"""What can be wrong with a place that is written to, said."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deblurgan.runtime.errors import DeblurError

# Some network disks know no locks: nobody is kept out there.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
# What was expected, what was found, and what to do about the folder.
DISK_ERRORS = {
    errno.ENOENT: ("a folder that exists", "no such folder", "make it with: mkdir -p"),
    errno.ENOTDIR: ("a folder", "a file in its place", "choose another folder than"),
    errno.EACCES: ("a place to write", "no permission", "choose another folder than"),
    errno.EPERM: ("a place to write", "no permission", "choose another folder than"),
    errno.EROFS: ("a place to write", "a read-only disk", "choose another folder than"),
    errno.ENAMETOOLONG: ("a name that the disk takes", "one too long", "choose a shorter one in"),
    errno.ENOSPC: ("room on the disk", "a full disk", "make room in"),
    errno.EDQUOT: ("room on the disk", "a quota used up", "make room in"),
    errno.EFBIG: ("room for the file", "a limit on file sizes", "lift it for"),
    errno.EBADF: ("an open file or pipe", "a closed one", "choose another folder than"),
    errno.EIO: ("a disk that works", "an error of the disk", "choose another folder than"),
}


class DiskError(DeblurError):
    """A place that cannot be written to; what was written so far is sound."""


@contextmanager
def writing_to(path: Path, remedy: str = "") -> Iterator[None]:
    """Raise :class:`DiskError` for what is wrong with the place of ``path``; ``remedy`` is for
    what lies in no folder.
    """
    try:
        yield
    except OSError as error:  # PyAV's errors with an errno are OSErrors
        if error.errno not in DISK_ERRORS:
            raise
        expected, found, about_folder = DISK_ERRORS[error.errno]
        remedy = remedy or f"{about_folder} {path.absolute().parent}"
        raise DiskError(path, expected=expected, found=found, remedy=remedy) from None
