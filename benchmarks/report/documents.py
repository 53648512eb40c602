"""Documents whose tables are made from results, between ``<!-- table NAME RESULT … -->`` and
``<!-- end -->``::

    python -m deblurgan.benchmarks.report.documents --results benchmarks/results README.md

The results are files of that folder, without their ending, in the order of the rows; those
of ``ladder`` are folders with a ``ladder.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from deblurgan.benchmarks.latency_plots import seconds
from deblurgan.benchmarks.report.figures import Read, read_file
from deblurgan.benchmarks.report.page import engine_name, usual_rows
from deblurgan.benchmarks.result_file import refusing_damage
from deblurgan.export.page import figure, percent, signed, significant
from deblurgan.runtime.console import new_app, run
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole

MARKED = re.compile(
    r"(<!-- table ([\w-]+) ([\w ./-]+) -->\n)(?:(?!<!-- table ).)*?(<!-- end -->)", re.DOTALL
)

REMEDY = "name another, or measure it again"

Rows = Iterator[Sequence[str]]  # the head first


def fill(path: Path, results: Path) -> str:
    """The document with all its marked tables made anew.

    Raises ``DeblurError`` for a mark that cannot be read or whose end is missing, a table that
    is not known, and a result that is none or of another kind.
    """

    def fill_one(match: re.Match[str]) -> str:
        start, name, sources, end = match.groups()
        if name not in TABLES:
            raise wrong_mark(path, f"a table of {', '.join(TABLES)}", name)
        table = TABLES[name]
        files = [results / f"{source}{table.ending}" for source in sources.split()]
        with refusing_damage(files[0], f"what a table of {name} is made from", REMEDY):
            return f"{start}{markdown(table.rows([table.read(file) for file in files]))}{end}"

    with refusing_damage(path, "a document in Markdown", "check the path"):
        text = path.read_text(encoding="utf-8")
    filled, count = MARKED.subn(fill_one, text)
    if count != text.count("<!-- table "):
        expected = "<!-- table NAME RESULT … -->, and <!-- end --> before the next"
        raise wrong_mark(
            path, expected, f"{text.count('<!-- table ')} marks, {count} of them whole"
        )
    return filled


def wrong_mark(path: Path, expected: str, found: str) -> DeblurError:
    return DeblurError(path, expected=expected, found=found, remedy="correct the mark")


def markdown(rows: Iterable[Sequence[str]]) -> str:
    head, *body = rows
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *body))


def speed_rows(reads: Sequence[Read[Any]]) -> Rows:
    """Of one frame at a time, the slowest first; noisy ones with a ``~``."""
    for place, read in enumerate(reads):
        rows = sorted(usual_rows(read.figures.rows), key=seconds, reverse=True)
        if not rows:
            raise ValueError(f"{read.name} has no row of single frames")
        if place == 0:
            size = f"{rows[0].width}x{rows[0].height}"
            machine = f"{rows[0].threads} threads of {read.environment.processor}"
            yield (f"{size}, {machine}", "engine", "seconds a frame", "of this machine's peak",
                   "times as fast as the paper's network in PyTorch")  # fmt: skip
        for row in rows:
            share = percent(row.share_of_peak, 0) if row.share_of_peak else ""
            times = significant(row.times_as_fast) if row.times_as_fast else ""
            taken = significant(seconds(row)) + (" ~" if row.verdict == "noisy" else "")
            yield row.title, engine_name(row.engine), taken, share, times


def quality_rows(reads: Sequence[Read[Any]]) -> Rows:
    yield ("pictures", "model", "PSNR blurred", "deblurred", "gain, dB", "SSIM blurred",
           "deblurred")  # fmt: skip
    for read in reads:
        for model in read.figures.models:
            mean, is_sharp = model.mean, read.figures.kind == "sharp"
            before = (
                ("", "") if is_sharp else (figure(mean.psnr_before), figure(mean.ssim_before, 4))
            )
            gain = "" if is_sharp or mean.gain is None else signed(mean.gain)
            yield (read.figures.title, model.model, before[0], figure(mean.psnr_after), gain,
                   before[1], figure(mean.ssim_after, 4))  # fmt: skip


def length_rows(reads: Sequence[Read[Any]]) -> Rows:
    """The gain by the length of the blur."""
    lengths = [row.length for row in reads[0].figures.models[0].by_length]
    yield "gain, dB, by length of the blur", "model", *(f"{length:g} px" for length in lengths)
    for read in reads:
        for model in read.figures.models:
            gains = (
                signed(row.gain) + (f" ± {row.gain_error:.2f}" if row.gain_error else "")
                for row in model.by_length
            )
            yield read.figures.title, model.model, *gains


def detection_rows(reads: Sequence[Read[Any]]) -> Rows:
    yield ("pictures", "references", "F1 blurred", "model", "F1 deblurred",
           "95 % interval of the gain")  # fmt: skip
    for read in reads:
        figures = read.figures
        pictures = figures.folder + (f" with {figures.blur}" if figures.blur else "")
        for model, gain in figures.f1_gain.items():
            before, after = (figures.totals[name].f1 or 0.0 for name in ("blurred", model))
            interval = f"{signed(gain[0], 3)} to {signed(gain[1], 3)}" if gain else "too few"
            yield (pictures, str(figures.references), figure(before, 3), model, figure(after, 3),
                   interval)  # fmt: skip


def video_rows(reads: Sequence[Read[Any]]) -> Rows:
    yield ("result", "frames/s", "engine-bound", "wall × cores / parts alone",
           "from memory, of the engine's rate", "flicker before", "after",
           "but for steeper edges")  # fmt: skip
    for read in reads:
        job = read.figures
        flicker = ("", "", "")
        if job.temporal is not None:
            times = figure(job.temporal.ratio_for_contrast)
            flicker = (figure(job.temporal.input), figure(job.temporal.output), f"{times}×")
        yield (read.name, significant(job.frames_a_second), percent(job.engine_bound, 0),
               figure(job.ratio), percent(job.in_memory, 0), *flicker)  # fmt: skip


def ladder_rows(ladders: Sequence[dict[str, Any]]) -> Rows:
    """What a precision costs, on its first engine that was timed, or else its first."""
    folders = [folder["name"] for folder in ladders[0]["folders"]]
    yield ("generator", "precision", "MB", "times PyTorch, same network",
           *(f"{folder}, dB from fp32" for folder in folders))  # fmt: skip
    for ladder in ladders:
        for rung in ladder["rungs"]:
            run = next((run for run in rung["runs"] if run["speed"]), rung["runs"][0])
            times = significant(run["speed"]["times_pytorch"]) if run["speed"] else ""
            drops = {each["folder"]: each["psnr_drop"] for each in run["quality"]}
            changes = (signed(-drops[name], 3) if name in drops else "" for name in folders)
            megabytes = figure(rung["bytes"] / 1e6, 1)
            yield ladder["title"], rung["precision"], megabytes, times, *changes


@dataclass(frozen=True)
class Table:
    """Rows made from results of a ``kind``; without one, from ladders."""

    rows: Callable[[Sequence[Any]], Rows]
    kind: str = ""

    @property
    def ending(self) -> str:
        return ".json" if self.kind else "/ladder.json"

    def read(self, path: Path) -> Any:
        """Raises ``DeblurError``, and ``ValueError`` for another kind."""
        if not self.kind:
            return json.loads(path.read_text(encoding="utf-8"))
        found = read_file(path, REMEDY)
        kind = found.result.kind if isinstance(found, Read) else found.kind
        if kind != self.kind:
            raise ValueError(f"{path.name} is a result of {kind}, not of {self.kind}")
        return found


TABLES = {
    "speed": Table(speed_rows, "latency"),
    "quality": Table(quality_rows, "quality"),
    "lengths": Table(length_rows, "quality"),
    "detection": Table(detection_rows, "detection"),
    "video": Table(video_rows, "video"),
    "ladder": Table(ladder_rows),
}

app = new_app("Make the tables of documents anew.")


@app.command()
def fill_command(
    documents: Annotated[
        list[Path],
        typer.Argument(metavar="DOCUMENT", help="Markdown with marked tables; written anew."),
    ],
    results: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the results are that the marks name.")
    ],
) -> None:
    """Write every marked table of the documents from the results."""
    for path, text in [(path, fill(path, results)) for path in documents]:
        write_whole(path, text.encode())


if __name__ == "__main__":
    raise SystemExit(run(app))
