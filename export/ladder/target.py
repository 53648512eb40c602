"""The folder that a ladder is written into: all of it, or nothing."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from deblurgan.export.new_folder import new_folder
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.sidecar import sidecar_path
from deblurgan.runtime.whole_file import make_folder

JSON, HTML = "ladder.json", "ladder.html"


def file_name(title: str, precision: str) -> str:
    stem = re.sub(r"[^\w.-]+", "-", title).strip("-.") or "model"
    return f"{stem}.onnx" if precision == "fp32" else f"{stem}-{precision}.onnx"


def check_target(folder: Path, title: str, precisions: Sequence[str], overwrite: bool) -> None:
    """Refuse a folder in which something has a name that the ladder may write."""
    models = [folder / file_name(title, precision) for precision in precisions]
    plans = [model.with_suffix(".plan") for model in models]
    for path in (folder / JSON, folder / HTML, *models, *plans, *map(sidecar_path, plans)):
        if os.path.isdir(path) or (os.path.lexists(path) and not overwrite):
            raise DeblurError(
                path,
                expected="a folder without a report",
                found="a folder of that name" if os.path.isdir(path) else "one",
                remedy="name another with -o, or replace the report with --overwrite",
            )


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder in ``folder`` to make things in; gone afterwards, and ``folder``
    with it where it was not there before and nothing came of it.

    What goes wrong with a file in there is told of ``folder``: nobody finds the hidden one.
    """
    stage = folder / f".ladder.{os.getpid()}.part"
    with new_folder(folder):
        try:
            make_folder(stage)
            yield stage
        except DeblurError as error:
            raise tell_of_folder(error, stage, folder) from error
        except OSError as error:
            path = Path(str(error.filename))
            if stage not in path.parents and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise tell_of_folder(no_room(path, error), stage, folder) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def publish(stage: Path, folder: Path) -> None:
    """Move the files of ``stage`` into ``folder``, the page last: where it is, all is.

    Raises ``DeblurError`` where one cannot be moved; ``folder`` is then as it was, with
    its earlier files.
    """
    files = [path.name for path in stage.iterdir() if path.is_file()]
    names = sorted(files, key=lambda name: (name == HTML, name == JSON, name))
    aside = folder / f".ladder.{os.getpid()}.earlier"
    with ExitStack() as undo:
        try:
            aside.mkdir()
            undo.callback(remove_empty, aside)
            # The page goes first: none may stand beside files that are not its own.
            for name in reversed(names):
                if os.path.lexists(folder / name):
                    os.rename(folder / name, aside / name)
                    undo.callback(os.rename, aside / name, folder / name)
            for name in names:
                os.rename(stage / name, folder / name)
                undo.callback(os.unlink, folder / name)
        except OSError as error:
            raise DeblurError(
                folder,
                expected=f"permission and room to move {len(names)} files into it",
                found=(error.strerror or str(error)).lower(),
                remedy="choose another folder with -o; what was there is untouched",
            ) from error
        undo.pop_all()
    shutil.rmtree(aside, ignore_errors=True)


def remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def no_room(path: Path, error: OSError) -> DeblurError:
    return DeblurError(
        path,
        expected="room and permission to write",
        found=(error.strerror or str(error)).lower(),
        remedy="free some space or choose another folder with -o",
    )


def tell_of_folder(error: DeblurError, stage: Path, folder: Path) -> DeblurError:
    """The same of ``folder``, with the file in ``stage`` by its name there."""
    path = Path(error.subject)
    what = ""
    if stage in path.parents:
        name = re.sub(r"^\.(.*)\.\d+\.part", r"\1", path.name)  # of one that is half-written
        what = f" for {path.relative_to(stage).with_name(name)}"
    elif path != stage and str(stage) not in str(error):
        return error
    return DeblurError(
        folder,
        expected=error.expected.replace(str(stage), str(folder)) + what,
        found=error.found.replace(str(stage), str(folder)),
        remedy=error.remedy.replace(str(stage), str(folder)),
    )
