"""What is finished of an output that is not whole yet, in a folder beside it.

The folder is there from the first frame until the output has its name. It holds the
segments, and what they were made of: a run of the same job goes on from them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.disk import NO_LOCKS, writing_to
from deblurgan.runtime.errors import DeblurError, Failure
from deblurgan.runtime.video.segment import Segment, SegmentWriter, open_segment
from deblurgan.runtime.whole_file import write_whole

LONGEST = 200  # bytes
ENDING, NAMED, PART = ".segment", "named", "output.part"


class Unfinished:
    """The folder of ``output``, which this process alone may write while it has it.

    Raises :class:`DeblurError` where another process has it, and
    :class:`~deblurgan.runtime.disk.DiskError` where none can be made.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = folder_of(output)
        self.segments: dict[int, Segment] = {}
        with writing_to(output):
            self._lock = self._take()
            # Of a run that was killed just before it could give the name.
            (self.folder / NAMED).unlink(missing_ok=True)
        shutil.rmtree(finished_folder_of(output), ignore_errors=True)

    @property
    def part(self) -> Path:
        """The output before it has its name."""
        return self.folder / PART

    @property
    def has_segments(self) -> bool:
        """Whether there is something to go on from, of this run or an earlier one."""
        return not is_named(self.folder) and any(self.folder.glob(f"*{ENDING}"))

    def go_on(self, job: Mapping[str, str]) -> list[str]:
        """Find the segments of an earlier run of ``job``, by the names and values that decide
        about its output. Those of another job are removed; by what it differed is returned.
        """
        card = self.folder / "job.json"
        try:
            before = json.loads(card.read_bytes())
            differs = [name for name in job if before.get(name) != job[name]]
        except (OSError, ValueError, AttributeError):
            before, differs = None, []
        if before is None or differs:
            self.clear()
            write_whole(card, json.dumps(dict(job), indent=1).encode())
            return differs
        for path in self.folder.glob(f"*{ENDING}"):
            segment = open_segment(path)
            if segment is None:
                path.unlink()
            else:
                self.segments[int(path.stem)] = segment
        return []

    def begin(self, number: int) -> SegmentWriter:
        with writing_to(self.output):
            return SegmentWriter(self.path(number))

    def add(self, number: int, content: bytes) -> None:
        """Write a segment's file, and take it for one of these."""
        path = self.path(number)
        write_whole(path, content)
        segment = open_segment(path)
        if segment is None:
            raise Failure(
                path,
                expected="a segment that is whole",
                found="a damaged one",
                remedy="run the same command again",
            )
        self.segments[number] = segment

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{ENDING}"

    def name(self) -> None:
        """Give the output its name. Whoever is killed after that has left nothing to do but
        the cleaning up, which :func:`was_finished` does.
        """
        with writing_to(self.output):
            sync(self.part)
            (self.folder / NAMED).touch()
            os.replace(self.part, self.output)
            sync(self.output.absolute().parent)

    def clear(self) -> None:
        """Remove all that is finished."""
        self.segments.clear()
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()

    def remove(self) -> None:
        """Remove the folder with all that is in it, and let others have it."""
        if not is_named(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.close()
            return
        # In one step, so that a run that is killed while it removes its files has finished.
        finished = finished_folder_of(self.output)
        shutil.rmtree(finished, ignore_errors=True)
        with suppress(OSError):
            os.rename(self.folder, finished)
        self.close()  # network disks keep a file that is open
        for folder in (self.folder, finished):
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._lock)

    def _take(self) -> int:
        while True:
            check_interrupted()
            self.folder.mkdir(exist_ok=True)
            try:
                lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o666)
            except FileNotFoundError:  # just removed by a run that is through
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_nlink:
                    return lock
            except BlockingIOError:
                os.close(lock)
                raise DeblurError(
                    self.output,
                    expected="a name that no other process is writing",
                    found="one that is",
                    remedy="wait for it, or choose another name",
                ) from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                return lock
            os.close(lock)


def folder_of(output: Path) -> Path:
    name = output.name
    if len(os.fsencode(name)) > LONGEST:  # the longest name the disk takes has room for no ending
        name = f"{name[:40]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return output.with_name(f".{name}.unfinished")


def finished_folder_of(output: Path) -> Path:
    """What becomes of it while it is removed."""
    return folder_of(output).with_suffix(".finished")


def is_named(folder: Path) -> bool:
    """Whether what it was for has its name."""
    return (folder / NAMED).exists() and not (folder / PART).exists()


def was_finished(output: Path) -> bool:
    """Whether an earlier run was killed when its output had its name already; cleans up then."""
    folder, finished = folder_of(output), finished_folder_of(output)
    if not (output.exists() and (is_named(folder) if folder.exists() else finished.exists())):
        return False
    for left in (folder, finished):
        shutil.rmtree(left, ignore_errors=True)
    return True


def sync(path: Path) -> None:
    """Have a file, or a folder's names, on the disk: what it was made of goes next."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
