"""Several clips, one after the other: what is wrong with one does not stop the rest."""

from __future__ import annotations

import glob
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.report import RunReport
from deblurgan.runtime.video.muxer import CONTAINERS
from deblurgan.runtime.video.unfinished import was_finished
from deblurgan.runtime.whole_file import make_folder

SUFFIXES = (*CONTAINERS, ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")


@dataclass
class Summary:
    """Of a batch: what was deblurred, was there already, and was not because of an error."""

    reports: list[RunReport] = field(default_factory=list)
    there: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def __str__(self) -> str:
        words = [f"{len(self.reports)} clips deblurred"]
        if self.there:
            words.append(f"{len(self.there)} were there already")
        if self.failed:
            words.append(f"{len(self.failed)} failed: {', '.join(p.name for p, _ in self.failed)}")
        return "; ".join(words)


def is_pattern(text: str) -> bool:
    """Like ``clips/*.mp4``, which the shell has left to the program."""
    return glob.has_magic(text) and not Path(text).exists()


def list_clips(source: str) -> list[Path]:
    """The clips of a folder, or those that a pattern names; empty where there are none.

    Raises :class:`DeblurError` for two that would have one name in the output's folder.
    """
    if Path(source).is_dir():
        found = [p for p in Path(source).iterdir() if p.suffix.lower() in SUFFIXES]
    else:
        found = [Path(p) for p in glob.glob(source, recursive=True)]
    clips = sorted(p for p in found if p.is_file() and not p.name.startswith("."))
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


def target_name(clip: Path) -> str:
    """Of its output: the same, in a container that is written."""
    return clip.name if clip.suffix.lower() in CONTAINERS else f"{clip.stem}.mkv"


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
        except DeblurError as error:
            console.complain(str(error))
            summary.failed.append((clip, str(error)))

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
