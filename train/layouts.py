"""What a user's folder holds: pairs in one of four layouts, or sharp photographs.

The layout is told by the folders' names, or forced by a word before the path:
``gopro:``, ``pairs:``, ``ab:``, ``combined:`` or ``sharp:``. A folder may hold
one of them as it is, or a training and a test part of it in ``train/`` and
``test/``.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeVar

from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.targets import is_same
from deblurgan.train.clips import CLIP_SUFFIXES, list_frames, read_frame, read_frames
from deblurgan.train.partners import PairFiles, match_partners, size_text
from deblurgan.train.picture_files import (
    PICTURE_SUFFIXES,
    list_files,
    list_pictures,
    read_picture,
)

Split = Literal["train", "test"]
LAYOUTS = ("gopro", "pairs", "ab", "combined", "sharp")
PARTNERS = {"pairs": ("blur", "sharp"), "ab": ("A", "B")}  # blurred first
# Photographs that OpenCV does not read, or not as their makers meant them.
UNREAD = (
    ".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf",
)  # fmt: skip
SEQUENCE = ("blur", "blur_gamma", "sharp")
REMOVE = "remove it from the folder"


@dataclass(frozen=True)
class PhotoFile:
    """A picture, or the frame of a clip that has the time stamp ``frame``, in ticks."""

    name: str
    path: Path
    frame: int | None = None

    def read(self) -> Tensor:
        """uint8 ``[3, H, W]``."""
        return read_picture(self.path) if self.frame is None else read_frame(self.path, self.frame)


@dataclass(frozen=True)
class PairSource:
    """Pairs in the order of their names; ``held_out`` is the folder's own test part,
    empty where it has none or ``pairs`` is it.
    """

    path: Path
    layout: str
    pairs: tuple[PairFiles, ...]
    held_out: tuple[PairFiles, ...] = ()


@dataclass(frozen=True)
class PhotoSource:
    """Sharp photographs in the order of their names; ``held_out`` as for pairs."""

    path: Path
    photos: tuple[PhotoFile, ...]
    held_out: tuple[PhotoFile, ...] = ()


Source = PairSource | PhotoSource
File = TypeVar("File", PairFiles, PhotoFile)


def find_source(data: str, split: Split, *, gamma: bool = False) -> Source:
    """What ``data``, a folder with or without a layout's word before it, holds.

    ``split`` "test" is the folder's test part where it has one, else all of it.
    ``gamma`` takes GOPRO_Large's ``blur_gamma``; other layouts have no such thing.
    Raises ``DeblurError`` for a layout that is not known and for missing partners.
    """
    word, colon, rest = data.partition(":")
    forced = word if colon and word in LAYOUTS else None
    named = rest if forced else data
    folder = Path(named).expanduser()
    if not named or not os.path.isdir(folder):
        raise DeblurError(
            folder if named else "a folder of pictures",
            expected="a folder",
            found="a file" if named and os.path.exists(folder) else "nothing",
            remedy="check the path",
        )
    with reading(folder):
        return replace(find_part(folder, split, forced, gamma), path=folder)


def find_part(folder: Path, split: Split, forced: str | None, gamma: bool) -> Source:
    parts = list_parts(folder)
    if split == "train" and "train" not in parts and "test" in parts:
        raise DeblurError(
            folder,
            expected="train/",
            found="only test/",
            remedy=f"to train on that, name it: {folder / 'test'}",
        )
    source = open_part(parts.get(split) or parts.get("train") or folder, forced, gamma)
    if split == "train" and "test" in parts:
        source = with_held_out(source, open_part(parts["test"], forced, gamma))
    return source


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """What may not be read, be it the folder or one in it, as an error that can be mended."""
    try:
        yield
    except PermissionError as error:
        locked = Path(error.filename or folder)
        # What may not be entered is told of a name in it, there or not.
        while locked != folder and not os.access(locked.parent, os.R_OK | os.X_OK):
            locked = locked.parent
        raise DeblurError(
            locked,
            expected="a folder that may be read",
            found="permission denied",
            remedy=f"allow it with: chmod -R u+rX {shlex.quote(str(folder))}",
        ) from None


def check_not_read(target: Path, source: Source) -> None:
    """Raise ``DeblurError`` for a name to write to that one of the source's files has, or
    leads to.
    """
    files = (*files_of(source), *source.held_out)
    if any(is_same(target, path) for file in files for path in paths_of(file)):
        raise DeblurError(
            target,
            expected="another name than those of the pictures that are read",
            found=f"one of {source.path}",
            remedy="choose another name",
        )


def check_gamma(source: Source) -> None:
    """Raise ``DeblurError`` for what has no ``blur_gamma`` to take."""
    layout = source.layout if isinstance(source, PairSource) else "sharp"
    if layout != "gopro":
        raise DeblurError(
            "--gamma",
            expected="GOPRO_Large, which has a blur_gamma",
            found=f"{source.path}, of the layout {layout}",
            remedy="leave it out",
        )


def left_out(source: Source) -> list[str]:
    """What is in its folder and is not read, a line for each kind."""
    lines = list[str]()
    if isinstance(source, PairSource) and source.layout != "combined":
        beside = list_media(source.path)
        if beside:
            lines.append(
                f"{source.path}: left out beside the pairs: {len(beside)} files; to train on those "
                f"instead, name sharp:{source.path}"
            )
    folders = {source.path, *(path.parent for file in files_of(source) for path in paths_of(file))}
    endings = [path.suffix.lower() for folder in folders for path in list_files(folder)]
    unread = [ending for ending in endings if ending in UNREAD]
    if unread:
        lines.append(
            f"{source.path}: left out, as they are not read: {len(unread)} files "
            f"({', '.join(sorted(set(unread)))}); write them as JPEG or PNG first"
        )
    return lines


def picture_names(source: Source) -> list[str]:
    return [file.name for file in files_of(source)]


def hash_files(sources: Sequence[Source]) -> str:
    """A short one of the names and sizes of all files, in their order."""
    told = hashlib.sha256()
    for source in sources:
        for file in files_of(source):
            sizes = [path.stat().st_size for path in paths_of(file)]
            told.update(f"{file.name} {sizes}\n".encode(errors="surrogateescape"))
    return told.hexdigest()[:12]


def files_of(source: Source) -> Sequence[PairFiles | PhotoFile]:
    return source.pairs if isinstance(source, PairSource) else source.photos


def paths_of(file: PairFiles | PhotoFile) -> list[Path]:
    return [file.path] if isinstance(file, PhotoFile) else [file.blurred, file.sharp]


def hold_out(source: Source) -> tuple[Source, Source]:
    """The part to train on and the part to validate on.

    That is the folder's own test part or, without one, every ninth picture. A
    single picture is in both.
    """
    if isinstance(source, PairSource):
        pairs = split_ninths(source.pairs, source.held_out)
        first, second = (replace(source, pairs=part, held_out=()) for part in pairs)
        return first, second
    photos = split_ninths(source.photos, source.held_out)
    training, held_out = (replace(source, photos=part, held_out=()) for part in photos)
    return training, held_out


def check_source(
    source: Source,
    smallest: int,
    progress: Callable[[int, int], None] | None = None,
    remedy: str = REMOVE,
) -> None:
    """Decode every picture, the held-out ones too; ``progress`` gets how many are
    done, and of how many, and ``remedy`` says what helps one that is too small.

    Raises ``DeblurError`` for the first, in the order of names, that does not decode,
    is less than ``smallest`` pixels a side or differs in size from its partner.
    """
    jobs: list[tuple[int, Callable[[], None]]] = []
    if isinstance(source, PairSource):
        pairs = (*source.pairs, *source.held_out)
        jobs = [(1, partial(check_pair, pair, smallest, remedy)) for pair in pairs]
    else:
        for _, of_a_file in groupby((*source.photos, *source.held_out), lambda photo: photo.path):
            photos = list(of_a_file)
            jobs.append((len(photos), partial(check_photos, photos, smallest, remedy)))
    done, total = 0, sum(count for count, _ in jobs)
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:
        for (count, _), _ in zip(jobs, pool.map(lambda job: job[1](), jobs), strict=True):
            done += count
            if progress is not None:
                progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)


def check_pair(pair: PairFiles, smallest: int, remedy: str) -> None:
    blurred, _ = pair.read()
    check_size(pair.blurred, blurred, smallest, remedy)


def check_photos(photos: Sequence[PhotoFile], smallest: int, remedy: str) -> None:
    """A picture, or all frames of one clip."""
    stamps = [photo.frame for photo in photos if photo.frame is not None]
    path = photos[0].path
    for picture in read_frames(path, stamps) if stamps else [read_picture(path)]:
        check_size(path, picture, smallest, remedy)


def check_size(path: Path, picture: Tensor, smallest: int, remedy: str = REMOVE) -> None:
    if min(picture.shape[-2:]) < smallest:
        raise DeblurError(
            path,
            expected=f"at least {smallest}x{smallest} pixels",
            found=size_text(picture),
            remedy=remedy,
        )


def split_ninths(
    files: tuple[File, ...], held_out: tuple[File, ...]
) -> tuple[tuple[File, ...], tuple[File, ...]]:
    if held_out:
        return files, held_out
    rest = tuple(file for index, file in enumerate(files) if index % 9)
    return rest or files, files[::9]


def with_held_out(source: Source, test: Source) -> Source:
    if isinstance(source, PairSource) and isinstance(test, PairSource):
        return replace(source, held_out=test.pairs)
    if isinstance(source, PhotoSource) and isinstance(test, PhotoSource):
        return replace(source, held_out=test.photos)
    raise DeblurError(
        test.path,
        expected=f"the layout of {source.path}",
        found="photographs beside pairs",
        remedy=f"name the part to train on: {source.path}",
    )


# Recognising a layout


def list_parts(folder: Path) -> dict[str, Path]:
    """``train/`` and ``test/``; one alone does not count beside pictures."""
    parts = {name: folder / name for name in ("train", "test") if (folder / name).is_dir()}
    return {} if len(parts) == 1 and list_media(folder) else parts


def open_part(folder: Path, forced: str | None, gamma: bool) -> Source:
    layout = forced or recognise(folder)
    if layout == "sharp":
        photos = find_photos(folder)
        if forced is None:
            refuse_combined(folder, photos)
        return PhotoSource(folder, photos)
    if layout == "combined":
        pairs = [PairFiles(path.name, path, path) for path in list_pictures(folder)]
    elif layout == "gopro":
        pairs = find_sequences(folder, gamma)
    else:
        blurred, sharp = (folder / name for name in PARTNERS[layout])
        pairs = match_partners(blurred, sharp)
    return PairSource(folder, layout, tuple(pairs))


def recognise(folder: Path) -> str:
    folders = list_folders(folder)
    names = {path.name for path in folders}
    if "blur_gamma" in names or any(is_sequence(path) for path in folders):
        return "gopro"
    for layout, partners in PARTNERS.items():
        if names.issuperset(partners):
            return layout
    if list_media(folder):
        return "sharp"
    for layout, partners in PARTNERS.items():
        if names.intersection(partners):
            return layout  # whose missing half is then told
    inside = sorted(path.name for path in folder.iterdir())
    raise DeblurError(
        folder,
        expected="GOPRO_Large, A/ and B/, blur/ and sharp/, or pictures or clips",
        found=", ".join(inside[:4]) + (", …" if inside[4:] else "") if inside else "nothing",
        remedy="name the folder that holds one of these",
    )


def find_sequences(folder: Path, gamma: bool) -> list[PairFiles]:
    """The pairs of all sequences in a folder, or of the one that it is itself."""
    sequences = [path for path in list_folders(folder) if is_sequence(path)]
    if is_sequence(folder):
        sequences = [folder]
    if not sequences:
        raise DeblurError(
            folder,
            expected="sequences with blur/ and sharp/, as GOPRO_Large has them",
            found="none",
            remedy="name the folder that GOPRO_Large was unpacked to",
        )
    blur = "blur_gamma" if gamma else "blur"
    return [
        replace(pair, name=f"{path.name}_{pair.name}")
        for path in sequences
        for pair in match_partners(path / blur, path / "sharp")
    ]


def find_photos(folder: Path) -> tuple[PhotoFile, ...]:
    photos: list[PhotoFile] = []
    for path in list_media(folder) or list_pictures(folder):
        if path.suffix.lower() in CLIP_SUFFIXES:
            photos += [PhotoFile(f"{path.name}-{at}", path, at) for at in list_frames(path)]
        else:
            photos.append(PhotoFile(path.name, path))
    return tuple(photos)


def refuse_combined(folder: Path, photos: Sequence[PhotoFile]) -> None:
    """Pictures that all are twice as wide as high are hardly photographs."""

    def is_wide(photo: PhotoFile) -> bool:
        height, width = photo.read().shape[-2:]
        return width >= 2 * height

    if all(photo.frame is None and is_wide(photo) for photo in photos):
        raise DeblurError(
            folder,
            expected="photographs",
            found="pictures that all are at least twice as wide as high",
            remedy=f"write combined:{folder} if they are A|B pictures, sharp:{folder} if not",
        )


def is_sequence(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in SEQUENCE)


def list_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def list_media(folder: Path) -> list[Path]:
    endings = PICTURE_SUFFIXES + CLIP_SUFFIXES
    return [path for path in list_files(folder) if path.suffix.lower() in endings]
