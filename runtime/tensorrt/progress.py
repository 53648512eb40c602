"""How far a build is, out of the phases and steps that TensorRT reports, and a way to stop it.

Phases nest, and how many a step will have is not known before. So each gets a
part of the bar: half of what is left of the step of its parent in which it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STEPS = 100


@dataclass
class Phase:
    """A stretch of the bar, from 0 to 1: ``at`` is where it has come to."""

    start: float
    end: float
    steps: int
    done: int = 0
    at: float = 0.0

    @property
    def step_end(self) -> float:
        share = min(1.0, (self.done + 1) / self.steps)
        return self.start + share * (self.end - self.start)


class BuildProgress:
    """What the monitor is told, from the thread that builds; read from any other.

    ``done`` grows from 0 to ``STEPS`` and never falls. After :meth:`cancel` the
    build ends with its next step.
    """

    def __init__(self) -> None:
        self.phases: dict[str, Phase] = {}
        self.parents: dict[str, str | None] = {}
        self.reached = 0.0
        self.is_cancelled = False

    @property
    def done(self) -> int:
        return int(STEPS * self.reached)

    def cancel(self) -> None:
        self.is_cancelled = True

    def start(self, name: str, parent: str | None, steps: int) -> None:
        start, end = self.reached, 1.0
        above = self.phases.get(parent) if parent is not None else None
        if above is not None:
            start, end = above.at, above.at + max(0.0, above.step_end - above.at) / 2
        self.phases[name] = Phase(start, end, max(1, steps), at=start)
        self.parents[name] = parent

    def step(self, name: str, index: int) -> bool:
        """Whether to go on."""
        phase = self.phases.get(name)
        if phase is not None:
            phase.done = index
            self.reach(phase, phase.step_end)
            phase.done = index + 1
        return not self.is_cancelled

    def finish(self, name: str) -> None:
        phase, parent = self.phases.pop(name, None), self.parents.pop(name, None)
        if phase is not None:
            self.reach(phase, phase.end)
            above = self.phases.get(parent) if parent is not None else None
            if above is not None:
                self.reach(above, phase.end)

    def reach(self, phase: Phase, at: float) -> None:
        phase.at = max(phase.at, at)
        self.reached = max(self.reached, phase.at)


def make_monitor(trt: Any, progress: BuildProgress) -> Any:
    """An ``IProgressMonitor`` that tells ``progress``."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            progress.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            return progress.step(name, step)

        def phase_finish(self, name: str) -> None:
            progress.finish(name)

    return Monitor()
