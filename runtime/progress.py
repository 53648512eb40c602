"""How a run goes: a bar on a terminal, a line now and then elsewhere, and the last word."""

from __future__ import annotations

import math
import time

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deblurgan.runtime import console
from deblurgan.runtime.before_after import BeforeAfter
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.pipeline import StageClock

LINE_EVERY = 60.0  # seconds, where no terminal shows a bar


class FrameProgress:
    """Counts frames, of ``total`` where that is known, and shows how fast they go, how
    much longer it takes, and which stage the others wait for. ``finished`` are there
    already; one that ``is_quiet`` says its last word alone, as others go on beside it.
    """

    def __init__(
        self,
        total: int | None,
        picture: BeforeAfter | None,
        finished: int = 0,
        *,
        is_quiet: bool = False,
    ) -> None:
        self.clock, self.picture, self.total = StageClock(), picture, total
        self.done, self.finished, self.start = 0, finished, time.monotonic()
        self.said = self.start if not is_quiet else math.inf
        shown = console.messages.is_terminal and not (console.messages.quiet or is_quiet)
        self.bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}" + (f"/{total}" if total else "") + " frames"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console.messages,
            transient=True,
            disable=not shown,
        )
        self.task = self.bar.add_task("", total=total, completed=finished, rate="")

    def watch(self, blurred: Frames, sharp: Frames) -> None:
        self.advance(1)
        if self.picture is not None:
            self.picture.watch(blurred, sharp)

    def advance(self, frames: int) -> None:
        """So many more are done."""
        self.done += frames
        self.bar.update(self.task, advance=frames, rate=self.rate())
        if self.bar.disable and time.monotonic() - self.said > LINE_EVERY:
            self.said = time.monotonic()
            console.messages.print(self.line())

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    @property
    def fps(self) -> float:
        return self.done / max(self.seconds, 1e-9)

    def rate(self) -> str:
        clock = self.clock
        limit = f"{clock.limit}-bound {clock.share(clock.limit):.0%}"
        return f"{self.fps:.2f} fps, engine {clock.milliseconds:.0f} ms a frame, {limit}"

    def line(self) -> str:
        of, left = "", ""
        if self.total:
            of = f" of {self.total}"
            to_do = max(self.total - self.finished - self.done, 0)
            left = f", {to_do / max(self.fps, 1e-9):.0f} s left"
        return f"{self.finished + self.done}{of} frames, {self.rate()}{left}"

    def say_result(self, target: str, more: str = "") -> None:
        took = f"{self.done} frames in {self.seconds:.1f} s"
        console.messages.print(f"{escape(target)}: {took}, {self.rate()}{more}")

    def __enter__(self) -> FrameProgress:
        self.clock.restart()
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
