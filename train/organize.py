"""GOPRO_Large as the Keras article wants it: all blurred pictures in A, all sharp ones in B."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.layouts import find_sequences, list_parts, reading


def organize(
    gopro: Path,
    out: Path,
    *,
    link: bool = False,
    watch: Callable[[int, int], None] | None = None,
) -> None:
    """Copy ``GOPRO_Large/{train,test}/<sequence>/{blur,sharp}/<file>`` to
    ``out/{train,test}/{A,B}/<sequence>_<file>``; ``link`` makes hard links instead.

    Files that are there already are kept, so that it can be started again.
    ``watch`` gets how many files are in place, and of how many. Raises
    ``DeblurError`` for a missing partner, before anything is written, and where
    a file cannot be written.
    """
    with reading(gopro):
        files = list_files_to_place(gopro, out)
    for done, (source, target) in enumerate(files, 1):
        place(source, target, link)
        if watch is not None:
            watch(done, len(files))


def list_files_to_place(gopro: Path, out: Path) -> list[tuple[Path, Path]]:
    parts = list_parts(gopro)
    if not parts or out.resolve() == gopro.resolve():
        raise DeblurError(
            gopro,
            expected="the folder with train/ and test/ that GOPRO_Large was unpacked to, "
            "and another one to write to",
            found="the same folder twice" if parts else "neither train/ nor test/ in it",
            remedy="write: deblur-train organize GOPRO_Large OUT",
        )
    files: list[tuple[Path, Path]] = []
    origins = dict[Path, Path]()
    for split, part in parts.items():
        for pair in find_sequences(part, gamma=False):
            sharp = Path(pair.name).with_suffix(pair.sharp.suffix).name
            files.append((pair.blurred, out / split / "A" / pair.name))
            files.append((pair.sharp, out / split / "B" / sharp))
    for source, target in files:
        other = origins.setdefault(target, source)
        if other != source:
            raise DeblurError(
                source,
                expected=f"a name of its own in {out}",
                found=f"{target.name}, which is {other}'s as well",
                remedy="name one of the sequences otherwise",
            )
    return files


def place(source: Path, target: Path, link: bool) -> None:
    """Bring a file to ``target``, which appears when it is whole."""
    part = target.with_name(f".{target.name[:80]}.{os.getpid()}.part")
    try:
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            os.link(source, part)
        else:
            shutil.copyfile(source, part)
        os.replace(part, target)
    except OSError as error:
        raise DeblurError(
            target,
            expected=f"room and permission for a {'link to' if link else 'copy of'} {source}",
            found=(error.strerror or str(error)).lower(),
            remedy="start again without --link" if link else "make room and start again",
        ) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
