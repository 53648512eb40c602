"""Several clips, one after the other: what is wrong with one does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.listing import list_files
from deblurgan.runtime.pictures import is_picture
from deblurgan.runtime.report import RunReport
from deblurgan.runtime.video.muxer import CONTAINERS
from deblurgan.runtime.video.unfinished import was_finished
from deblurgan.runtime.whole_file import make_folder

SUFFIXES = (
    *CONTAINERS, ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".flv", ".3gp",
    ".mxf", ".ogv", ".y4m",
)  # fmt: skip


@dataclass
class Summary:
    """Of a batch: what was deblurred, was there already, and was not because of an error."""

    reports: list[RunReport] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def __str__(self) -> str:
        done, there = len(self.reports), len(self.there)
        words = [f"{done} clip{'' if done == 1 else 's'} deblurred"]
        if there:
            words.append(f"{there} {'was' if there == 1 else 'were'} there already")
        if self.failed:
            words.append(f"{len(self.failed)} failed: {', '.join(p.name for p, _ in self.failed)}")
        return "; ".join(words)


def list_clips(source: str) -> list[Path]:
    """The clips of a folder, or those that a pattern names; empty where there are none.

    Raises :class:`DeblurError` for two that would have one name in the output's folder.
    """
    clips = list_files(source)
    if Path(source).is_dir():
        clips = [p for p in clips if p.suffix.lower() in SUFFIXES]
    names: dict[str, Path] = {}
    for clip in clips:
        twin = names.setdefault(target_name(clip), clip)
        if twin != clip:
            raise DeblurError(
                source,
                expected="clips whose names differ",
                found=f"{twin} and {clip}, which would both become {target_name(clip)}",
                remedy="rename one of them, or do one folder after the other",
            )
    return clips


def target_name(file: Path) -> str:
    """Of its output: the same, but a video in a container that is written."""
    is_kept = is_picture(file) or file.suffix.lower() in CONTAINERS
    return file.name if is_kept else f"{file.stem}.mkv"


def run_batch(
    clips: list[Path],
    folder: Path,
    overwrite: bool,
    deblur: Callable[[Path, Path], RunReport],
    *,
    at_once: int = 1,
) -> Summary:
    """Deblur every clip into ``folder``, with ``deblur`` for each; those that are there are
    left alone, unless ``overwrite`` says otherwise. ``at_once`` are begun together.
    """
    make_folder(folder)
    summary, to_do = Summary(), list[tuple[Path, Path]]()
    for clip in clips:
        target = folder / target_name(clip)
        was_finished(target)
        if target.exists() and not overwrite:
            summary.there.append(clip)
        else:
            to_do.append((clip, target))

    def run(clip: Path, target: Path) -> None:
        try:
            summary.reports.append(deblur(clip, target))
        except Exception as error:
            if console.is_interrupted():
                raise
            said = str(error)
            if not isinstance(error, DeblurError):
                said = f"{clip}: failed: {type(error).__name__}: {error}"
            console.complain(said)
            summary.failed.append((clip, said))

    if at_once == 1:
        for clip, target in to_do:
            run(clip, target)
    else:
        with ThreadPoolExecutor(at_once, thread_name_prefix="clip") as threads:
            running = [threads.submit(run, clip, target) for clip, target in to_do]
            try:
                for future in running:
                    future.result()
            except BaseException:
                for future in running:
                    future.cancel()
                raise
    console.messages.print(f"{escape(str(folder))}: {escape(str(summary))}")
    return summary
