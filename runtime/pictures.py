"""Stills: one picture, or a folder of them (the frames of a clip, say)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime import console
from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.disk import DiskError
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image, to_8_bits
from deblurgan.runtime.listing import is_pattern, list_files
from deblurgan.runtime.picture_size import has_several, read_size
from deblurgan.runtime.pipeline import DeblurredFrame, Frame, StageClock, Watcher, run_pipeline
from deblurgan.runtime.tiling.memory import format_memory, free_memory
from deblurgan.runtime.whole_file import make_folder

# OpenCV's own limits.
MOST_PIXELS, LONGEST_SIDE = 1 << 30, 1 << 20
# As decoded twice, turned to RGB and deblurred: of 8 bits; the engine counts its own.
BYTES_A_PIXEL = 12
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
WITHOUT_ALPHA = (".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True)
class Picture:
    """A still on its way from ``path`` to ``target``: RGB pixels, and its alpha if it has any
    that is kept. ``left_out`` is what the result will not have.
    """

    path: Path
    pixels: Frames
    alpha: NDArray[np.uint8] | None
    grey: bool
    target: Path
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of several: the last ``engine``, the (width, height) it is for, why some
    ``failed`` and what was ``left_out`` of others.
    """

    engine: Backend
    size: tuple[int, int]
    failed: dict[Path, str]
    left_out: list[str]


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def check_picture_name(path: Path) -> None:
    """Raise :class:`DeblurError` for a name whose ending is no picture's."""
    if not is_picture(path):
        raise DeblurError(
            path,
            expected=f"a picture name ending in {', '.join(SUFFIXES)}",
            found=path.suffix or "no ending",
            remedy=f"write {path.with_suffix('.png').name}",
        )


def list_jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """What to read and what to write: one still, or every still of a folder or a pattern.

    Raises :class:`DeblurError` for a folder without pictures, a target that is no
    picture, and two pictures that would have one name.
    """
    if not source.is_dir() and not is_pattern(str(source)):
        check_picture_name(target)
        return [(source, target)]
    stills = [path for path in list_files(str(source)) if is_picture(path)]
    if not stills:
        raise DeblurError(
            source,
            expected=f"pictures ({', '.join(SUFFIXES)})",
            found="none",
            remedy="name a folder of pictures, or a video",
        )
    if target.exists() and not target.is_dir():
        raise DeblurError(
            target,
            expected="a folder, as the input is one",
            found="a file",
            remedy="name another folder",
        )
    names: dict[str, Path] = {}
    for path in stills:
        twin = names.setdefault(path.name, path)
        if twin != path:
            raise DeblurError(
                source,
                expected="pictures whose names differ",
                found=f"{twin} and {path}",
                remedy="do one folder after the other",
            )
    return [(path, target / path.name) for path in stills]


def deblur_pictures(
    jobs: list[tuple[Path, Path]],
    deblurrer: Deblurrer,
    watch: Watcher | None = None,
    clock: StageClock | None = None,
) -> Outcome:
    """Deblur stills, as :func:`list_jobs` lists them. A run of pictures of one size
    shares a loaded engine and overlaps as the frames of a video do. ``watch`` and
    ``clock`` as for a video. Of several that could not all be done the others are.

    Raises :class:`DeblurError` where none could be, and where there is no room to write.
    """
    failed, left_out, done = dict[Path, str](), list[str](), 0

    def fail(path: Path, error: DeblurError) -> None:
        if len(jobs) == 1 or isinstance(error, DiskError):
            raise error
        console.complain(str(error))
        failed[path] = str(error)

    def readable() -> Iterator[Picture]:
        for path, target in jobs:
            try:
                picture = read_picture(path, target)
                if len(jobs) > 1:
                    check_size(picture, deblurrer.model)
            except DeblurError as error:
                fail(path, error)
                continue
            if parts := [part for part in picture.left_out if part not in left_out]:
                left_out.extend(parts)
                others = ", and of others like it" if len(jobs) > 1 else ""
                console.say(f"left out of {path}{others}: {', '.join(parts)}")
            yield picture

    def place(item: DeblurredFrame) -> None:
        nonlocal done
        # Not before the first picture is done: what fails earlier leaves no folder.
        make_folder(item.origin.target.parent)
        try:
            write_picture(item.origin, item.pixels)
        except DeblurError as error:
            fail(item.origin.path, error)
            return
        done += 1
        if watch is not None:
            watch(item.blurred.pixels, item.pixels)

    def frames(pictures: Iterable[Picture]) -> Iterator[Frame]:
        for picture in pictures:
            yield Frame(picture.pixels, picture)

    engine: Backend | None = None
    size = 0, 0
    for (height, width), alike in itertools.groupby(readable(), lambda p: p.pixels.shape[:2]):
        engine = deblurrer.engine(width, height, overlap=len(jobs) > 1)
        size = width, height
        run_pipeline(frames(alike), engine, place, clock)
    if engine is None or not done:
        raise DeblurError(
            jobs[0][0].parent,
            expected="pictures",
            found=f"none of {len(jobs)} that could be deblurred",
            remedy="see above what is wrong with each",
        )
    return Outcome(engine, size, failed, left_out)


def check_size(picture: Picture, model: Model) -> None:
    """Raises :class:`DeblurError`, with its name, for one that the model does not take."""
    height, width = picture.pixels.shape[:2]
    try:
        model.check_frame(width, height)
    except DeblurError as error:
        raise DeblurError(
            picture.path, expected=error.expected, found=error.found, remedy=error.remedy
        ) from None


def read_picture(path: Path, target: Path) -> Picture:
    """Decode a still, upright as its EXIF says (unless it has alpha).

    Raises :class:`DeblurError` for what is not a picture.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeblurError(
            path,
            expected="a picture",
            found=(error.strerror or "nothing").lower(),
            remedy="check the path",
        ) from None
    check_fits(path, content)
    data = np.frombuffer(content, np.uint8)
    raw = decode(data, cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype not in (np.uint8, np.uint16):
        raise DeblurError(
            path,
            expected="a picture of 8 or 16 bits",
            found="a file that does not decode" if raw is None else f"one of {raw.dtype}",
            remedy="convert it to PNG first",
        )
    grey, alpha = raw.ndim == 2, None
    if raw.ndim == 3 and raw.shape[2] == 4:
        bgr, alpha = raw[:, :, :3], to_8_bits(raw[:, :, 3])
    else:
        # Only this way does OpenCV turn the picture as its EXIF says.
        bgr = np.asarray(decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH))
    left_out = []
    if has_several(content):
        left_out.append("all but the first picture of a file")
    if raw.dtype != np.uint8:
        left_out.append("colour depth beyond 8 bits")
    if alpha is not None and target.suffix.lower() in WITHOUT_ALPHA:
        alpha = None
        left_out.append("transparency")
    rgb = np.ascontiguousarray(to_8_bits(bgr)[:, :, ::-1])
    return Picture(path, rgb, alpha, grey, target, tuple(left_out))


def decode(data: NDArray[np.uint8], how: int) -> NDArray[Any] | None:
    """The pixels, None for what does not decode; OpenCV raises of nothing at all."""
    try:
        return cv2.imdecode(data, how) if data.size else None
    except cv2.error:
        return None


def check_fits(path: Path, content: bytes) -> None:
    """Raise :class:`DeblurError` for a picture larger than can be decoded here, before it is."""
    size = read_size(content)
    if size is None:
        return
    width, height = size
    room, needed = free_memory(), width * height * BYTES_A_PIXEL
    found = ""
    if width * height > MOST_PIXELS or max(size) > LONGEST_SIDE:
        found = f"{width}x{height}"
    elif room is not None and needed > room:
        found = f"{width}x{height}, which takes {format_memory(needed)} of {format_memory(room)}"
    if found:
        raise DeblurError(
            path,
            expected="a picture that fits into the memory",
            found=found,
            remedy="cut it into parts first, or scale it down",
        )


def write_picture(picture: Picture, pixels: Frames) -> None:
    """Encode by the target's suffix; the name appears when the file is whole."""
    bgr: NDArray[Any] = pixels[:, :, ::-1]
    if picture.alpha is not None:
        bgr = np.dstack([bgr, picture.alpha])
    elif picture.grey:
        bgr = cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2GRAY)
    save_image(picture.target, bgr)
