"""Names to write to: what would destroy something is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.pictures import check_picture_name
from deblurgan.runtime.video.muxer import CONTAINERS


def check_target(source: Path, target: Path | None, overwrite: bool, *, needed: bool) -> None:
    """OUT, which may be missing where it is not ``needed``."""
    if not source.exists():
        raise DeblurError(
            source,
            expected="a video, a picture or a folder",
            found="nothing there",
            remedy="check the path",
        )
    if target is None:
        if not needed:
            return
        raise DeblurError(
            "OUT",
            expected="where to write",
            found="nothing",
            remedy=f"deblur-video {source} {source.stem}-sharp{source.suffix}",
        )
    if target.is_dir() and not source.is_dir():
        raise DeblurError(
            target,
            expected="the name of a file",
            found="a folder",
            remedy=f"write {target / source.name}",
        )
    if source.is_dir() and target.suffix.lower() in CONTAINERS:
        raise DeblurError(
            target,
            expected="the name of a folder, as the input is one",
            found="the name of a video",
            remedy=f"write {target.with_suffix('')}",
        )
    check_free(target, source, overwrite)


def check_beside(path: Path | None, source: Path, overwrite: bool) -> None:
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


def check_all_apart(*paths: Path | None) -> None:
    """Two outputs of one run have two names."""
    names = [path.absolute() for path in paths if path is not None]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise DeblurError(
                name,
                expected="a name of its own for each output",
                found="one name twice",
                remedy="choose another name",
            )


def check_picture_beside(picture: Path | None, source: Path, overwrite: bool) -> None:
    if picture is not None:
        check_picture_name(picture)
        check_beside(picture, source, overwrite)


def check_free(path: Path, source: Path, overwrite: bool) -> None:
    """A name that can be written to without destroying anything."""
    if path.exists() and source.samefile(path):
        raise DeblurError(
            path,
            expected="another file than the input",
            found="the input itself",
            remedy="choose another name",
        )
    if path.exists() and not overwrite:
        raise DeblurError(
            path,
            expected="a name that is free",
            found="something there already",
            remedy="choose another name, or replace it with -y",
        )
    # A folder of pictures is made as it is needed.
    if not source.is_dir() and not path.absolute().parent.is_dir():
        raise DeblurError(
            path,
            expected="a folder that exists",
            found="no such folder",
            remedy=f"make it with: mkdir -p {path.absolute().parent}",
        )
