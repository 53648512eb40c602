"""What a run shows of itself: a bar, a table of losses, TensorBoard, pictures."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from rich import progress as rich_progress
from torch import Tensor

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image
from deblurgan.runtime.whole_file import write_whole
from deblurgan.train.board import Board
from deblurgan.train.state import Progress

COLUMNS = (
    "step", "seconds", "samples", "samples_per_second", "learning_rate", "generator", "pixel",
    "content", "adversarial", "critic", "penalty", "psnr_blurred", "psnr", "gain_db",
)  # fmt: skip


class Journal:
    """Writes ``log.csv``, ``tensorboard/`` and ``sheets/`` into a run's folder and
    draws the bar. A resumed run's journal forgets what came after ``step``.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self.folder = folder
        log = folder / "log.csv"
        keep_rows(log, step)
        self.log = log.open("a", newline="")
        self.rows = csv.DictWriter(self.log, COLUMNS, restval="")
        with told(folder):
            self.board = Board(folder / "tensorboard", step)
        self.bar = rich_progress.Progress(
            rich_progress.TextColumn("step {task.fields[step]}"),
            rich_progress.BarColumn(),
            rich_progress.TextColumn("{task.fields[status]}"),
            rich_progress.TimeRemainingColumn(compact=True),
            console=console.messages,
            disable=not console.messages.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("", total=1.0, step=step, status="")
        self.last = (step, time.monotonic())

    def __enter__(self) -> Journal:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()
        with told(self.folder) if error is None else suppress(OSError):
            self.log.close()
            self.board.close()

    def note(
        self,
        progress: Progress,
        batch: int,
        losses: dict[str, float],
        *,
        learning_rate: float,
        done: float,
    ) -> None:
        """Losses of one step; ``done`` is the share of the whole run."""
        now = time.monotonic()
        rate = (progress.step - self.last[0]) * batch / max(now - self.last[1], 1e-9)
        self.last = (progress.step, now)
        values = {"samples_per_second": rate, "learning_rate": learning_rate, **losses}
        self.write(progress, batch, values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        self.bar.update(
            self.task, completed=done, step=progress.step, status=f"{rate:.1f} images/s  {shown}"
        )

    def validated(
        self, progress: Progress, batch: int, figures: dict[str, float], sheet: Tensor
    ) -> None:
        """Figures of the held-out pairs, and their contact sheet (uint8 ``[3, H, W]``)."""
        self.write(progress, batch, figures)
        pixels = sheet.permute(1, 2, 0).contiguous().numpy()
        with told(self.folder):
            folder = self.folder / "sheets"
            folder.mkdir(exist_ok=True)
            save_image(folder / f"{progress.step:08}.png", pixels[:, :, ::-1])
            self.board.picture(progress.step, "held out", pixels)
        self.last = (progress.step, time.monotonic())
        console.messages.print(
            f"step {progress.step}, {progress.seconds:.0f} s, {progress.step * batch} images: "
            f"held out {figures['psnr_blurred']:.2f} -> {figures['psnr']:.2f} dB "
            f"({figures['gain_db']:+.3f})"
        )

    def write(self, progress: Progress, batch: int, values: dict[str, float]) -> None:
        row = {name: f"{value:.6g}" for name, value in values.items()}
        row |= {
            "step": str(progress.step),
            "seconds": f"{progress.seconds:.1f}",
            "samples": str(progress.step * batch),
        }
        with told(self.folder):
            self.rows.writerow(row)
            self.log.flush()
            self.board.scalars(progress.step, values)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """A file system's refusal as an error that the user can mend."""
    try:
        yield
    except OSError as error:
        raise DeblurError(
            folder,
            expected="room and permission to write the journal",
            found=(error.strerror or str(error)).lower(),
            remedy="move away what is in its place"
            if isinstance(error, (FileExistsError, NotADirectoryError))
            else "free some space; the same command goes on from the last state",
        ) from None


def keep_rows(log: Path, step: int) -> None:
    """Leave the rows up to ``step``, under the header."""
    rows: list[dict[str, str]] = []
    try:
        if log.exists():
            with log.open(newline="") as file:
                found = [row for row in csv.DictReader(file) if None not in row.values()]
            rows = [row for row in found if int(row["step"]) <= step]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DeblurError(
            log,
            expected="the table that this run has written so far",
            found=f"another file ({type(error).__name__}: {error})",
            remedy=f"move it away: mv {log} {log}.old; the run goes on without it",
        ) from None
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(log, text.getvalue().encode())
