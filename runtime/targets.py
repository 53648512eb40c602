"""Names to write to: what would destroy something is refused before anything is loaded."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from deblurgan.runtime.batch import list_clips, target_name
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.listing import is_pattern, list_files
from deblurgan.runtime.pictures import check_picture_name, is_picture
from deblurgan.runtime.video.muxer import CONTAINERS
from deblurgan.runtime.video.video_input import STANDARD_STREAM, is_numbered, is_special, numbered


class Kind(Enum):
    """What IN names."""

    VIDEO, PICTURES, CLIPS = range(3)


def kind_of(source: str) -> Kind:
    """Raises :class:`DeblurError` where there is nothing, or clips and pictures."""
    path = Path(source)
    if is_special(source):
        return Kind.VIDEO
    if is_pattern(source):
        found = list_files(source)
        pictures = sum(is_picture(p) for p in found)
        if 0 < pictures < len(found):
            raise DeblurError(
                source,
                expected="clips or pictures",
                found="both",
                remedy="name one kind by a pattern of its own, like 'clips/*.mp4'",
            )
        if found:
            return Kind.PICTURES if pictures else Kind.CLIPS
    if not path.exists():
        raise DeblurError(
            source,
            expected="a video, a picture or a folder",
            found="nothing there",
            remedy="check the path",
        )
    if not (path.is_file() or path.is_dir() or is_picture(path)):
        raise DeblurError(
            source,
            expected="a video that can be read from its start again",
            found="a pipe or a device",
            remedy="name a file, or give it to standard input: … | deblur-video - OUT",
        )
    if not path.is_dir():
        return Kind.PICTURES if is_picture(path) else Kind.VIDEO
    has_pictures = any(is_picture(p) for p in list_files(source))
    if list_clips(source):
        if has_pictures:
            raise DeblurError(
                source,
                expected="a folder of clips or one of pictures",
                found="both",
                remedy=f"name one kind by a pattern: '{path}/*.mp4'",
            )
        return Kind.CLIPS
    return Kind.PICTURES


def behind_link(target: str) -> str:
    """The file of that kind that OUT is a link to, there already or not: a link stays one."""
    path = Path(target)
    if target == STANDARD_STREAM or not path.is_symlink():
        return target
    file = Path(os.path.realpath(path))
    is_alike = file.suffix.lower() == path.suffix.lower()
    return str(file) if is_alike and (file.is_file() or not file.exists()) else target


def check_target(
    source: str, target: str | None, kind: Kind, overwrite: bool, *, needed: bool
) -> None:
    """OUT, which may be missing where it is not ``needed``."""
    path = Path(source)
    if target is None:
        if not needed:
            return
        name = "sharp/" if kind is not Kind.VIDEO else f"{path.stem}-sharp{path.suffix or '.mp4'}"
        if is_special(source):
            name = "sharp.mp4"
        if kind is Kind.PICTURES and not is_several_pictures(source, kind):
            name = f"{path.stem}-sharp{path.suffix}"
        raise DeblurError(
            "OUT",
            expected="where to write",
            found="nothing",
            remedy=f"deblur-video {source} {name}",
        )
    if target == STANDARD_STREAM:
        if kind is Kind.VIDEO:
            return
        raise DeblurError(
            "OUT",
            expected="a file or a folder, as IN is no single video",
            found="standard output (-)",
            remedy="name a folder",
        )
    out = Path(target)
    several = kind is Kind.CLIPS or is_several_pictures(source, kind)
    if out.is_dir() and not several:
        raise DeblurError(
            out,
            expected="the name of a file",
            found="a folder",
            remedy=f"write {out / (path.name if path.exists() else 'sharp.mp4')}",
        )
    if several and out.suffix.lower() in CONTAINERS:
        raise DeblurError(
            out,
            expected="the name of a folder, as there are several",
            found="the name of a video",
            remedy=f"write {out.with_suffix('')}",
        )
    if kind is Kind.VIDEO and is_numbered(target):
        check_other_pictures(source, out)
        return
    if kind is Kind.CLIPS:
        check_other_folder(source, out)
        return
    if several and not path.is_dir():
        check_other_folder(source, out)
    check_free(out, source, overwrite)


def is_several_pictures(source: str, kind: Kind) -> bool:
    return kind is Kind.PICTURES and (Path(source).is_dir() or is_pattern(source))


def check_other_pictures(source: str, target: Path) -> None:
    """No picture is written over while the others are read."""
    pictures = numbered(Path(source)) if is_numbered(source) else {}
    given = {path.resolve() for path in pictures.values()}
    if given & {path.resolve() for path in numbered(target).values()}:
        raise DeblurError(
            target,
            expected="other pictures than the input's",
            found="the input itself",
            remedy="choose another name",
        )


def check_other_folder(source: str, folder: Path) -> None:
    """One in which no clip or picture would be written over itself."""
    found = None
    if folder.is_file():
        found = "a file"
    elif is_same(folder, Path(source)) or any(
        is_same(folder / target_name(file), file) for file in list_files(source)
    ):
        found = "the input itself"
    if found is not None:
        raise DeblurError(
            folder,
            expected="another folder than the input's",
            found=found,
            remedy="choose another name",
        )


def check_beside(path: Path | None, source: str, overwrite: bool) -> None:
    """What is written beside the output, if anything is."""
    if path is None:
        return
    if path.is_dir():
        raise DeblurError(
            path,
            expected="the name of a file",
            found="a folder",
            remedy="choose another name",
        )
    check_free(path, source, overwrite)


def check_all_apart(*paths: str | Path | None) -> None:
    """Two outputs of one run have two names."""
    names = [Path(path).absolute() for path in paths if path not in (None, STANDARD_STREAM)]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise DeblurError(
                name,
                expected="a name of its own for each output",
                found="one name twice",
                remedy="choose another name",
            )


def check_picture_beside(picture: Path | None, source: str, overwrite: bool) -> None:
    if picture is not None:
        check_picture_name(picture)
        check_beside(picture, source, overwrite)


def is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def check_free(path: Path, source: str, overwrite: bool) -> None:
    """A name that can be written to without destroying anything."""
    given = Path(source)
    if is_same(path, given):
        raise DeblurError(
            path,
            expected="another file than the input",
            found="the input itself",
            remedy="choose another name",
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DeblurError(
            path,
            expected="the name of a file",
            found="a pipe or a device of that name",
            remedy="choose another name, or write to standard output with -",
        )
    if path.exists() and not overwrite:
        raise DeblurError(
            path,
            expected="a name that is free",
            found="something there already",
            remedy="choose another name, or replace it with -y",
        )
    # A folder of pictures is made as it is needed.
    if not given.is_dir() and not path.absolute().parent.is_dir():
        raise DeblurError(
            path,
            expected="a folder that exists",
            found="no such folder",
            remedy=f"make it with: mkdir -p {path.absolute().parent}",
        )
