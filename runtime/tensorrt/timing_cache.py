"""What TensorRT measured of kernels, kept from one build to the next, and shared.

TensorRT ends the whole process over a cache with one wrong byte. So it is handed
none that does not fit the checksum beside it; a file is replaced in one go, under
a lock, and together with what another process wrote meanwhile. The cache itself
is one that ``trtexec --timingCacheFile`` reads too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import make_folder, write_whole


@dataclass(frozen=True)
class TimingKey:
    """What timings hold for; ``workspace`` in bytes, None for all that there is."""

    gpu: str
    tensorrt: str
    workspace: int | None

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class TimingFile:
    """The cache of one GPU, TensorRT version and workspace; its name says which, so
    that one ``--timing-cache`` serves them all.
    """

    path: Path
    key: TimingKey

    @classmethod
    def of(cls, path: Path, key: TimingKey) -> TimingFile:
        """``timing.cache`` becomes ``timing-1f0c….cache``; makes the folder and the lock.

        Raises :class:`DeblurError` where nothing can be written: better than
        after a long build.
        """
        if os.path.isdir(path):  # not Path's own, which raises for a name that is too long
            raise DeblurError(
                "--timing-cache",
                expected="the name of a file",
                found=f"a folder, {path}",
                remedy=f"say --timing-cache {path / 'timing.cache'}",
            )
        file = cls(path.with_name(f"{path.stem}-{key.digest}{path.suffix or '.cache'}"), key)
        make_folder(path.parent)
        with file.locked():
            return file

    @property
    def sidecar(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def read(self, warn: Callable[[str], None]) -> bytes:
        """Empty where there is none yet, or none that may be handed to TensorRT."""
        with self.locked():
            return self.read_locked(warn)

    def merge(self, combine: Callable[[bytes], bytes], warn: Callable[[str], None]) -> None:
        """Write what ``combine`` makes of the cache that the file holds now."""
        with self.locked():
            content = combine(self.read_locked(warn))
            card = {**asdict(self.key), "sha256": hashlib.sha256(content).hexdigest()}
            # A stop between the two leaves a checksum that does not fit: no cache at all.
            write_whole(self.path, content)
            write_whole(self.sidecar, json.dumps(card, indent=1).encode())

    def read_locked(self, warn: Callable[[str], None]) -> bytes:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            warn(f"{self.path}: not read ({error.strerror}); timing starts anew")
            return b""
        try:
            card = json.loads(self.sidecar.read_bytes())
            fits = card == {**asdict(self.key), "sha256": hashlib.sha256(content).hexdigest()}
        except (OSError, ValueError):
            fits = False
        if not fits:
            warn(f"{self.path}: damaged, or not written by this program; timing starts anew")
            return b""
        return content

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes, and other threads, out meanwhile."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            file = lock.open("wb")
        except OSError as error:
            raise DeblurError(
                "--timing-cache",
                expected=f"a place to write {self.path}",
                found=(error.strerror or str(error)).lower(),
                remedy="name another file, or leave it out",
            ) from None
        with file:  # closing it gives the lock back
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
