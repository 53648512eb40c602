"""What a run did, as JSON: for scripts, and for a report of something that is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from deblurgan.runtime.contract import Model
from deblurgan.runtime.flicker import TemporalError
from deblurgan.runtime.pipeline import STAGES, StageClock
from deblurgan.runtime.tiling.memory import peak_memory
from deblurgan.runtime.video.live import Latency
from deblurgan.runtime.whole_file import write_whole


class Engine(Protocol):
    """What is told of it: a backend, or workers that have one each."""

    @property
    def description(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def memory(self) -> int | None: ...


@dataclass(frozen=True)
class Stage:
    """``seconds`` of its threads; ``share`` of the run's time that it was at work."""

    seconds: float
    share: float


@dataclass(frozen=True)
class RunReport:
    """Sizes in pixels, memory in bytes; ``limit`` is the stage that the others wait for,
    ``frames`` are those of this run, ``frames_of_earlier_runs`` what it went on from,
    ``peak_memory`` the most that the process had in memory, where the system tells, and
    ``device_memory`` what the engine holds on the GPU; ``sharp_share`` of the frames
    passed by the engine with ``--sharp-frames keep``; ``latency`` is a live source's;
    ``failed`` says of each of several pictures that could not be done why.
    """

    input: str
    output: str
    model: str
    precision: str
    weights_sha256: str
    engine: str
    frames_in_flight: int
    width: int
    height: int
    frames: int
    seconds: float
    frames_per_second: float
    engine_milliseconds_a_frame: float
    limit: str
    stages: dict[str, Stage]
    peak_memory: int | None
    device_memory: int | None
    verified: bool
    frames_of_earlier_runs: int = 0
    packets_passed_on: int = 0
    encoder: str = ""
    sharp_share: float | None = None
    flicker: TemporalError | None = None
    latency: Latency | None = None
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        write_whole(path, (json.dumps(asdict(self), indent=1) + "\n").encode())


def describe_run(
    names: tuple[str, str],
    model: Model,
    engine: Engine,
    size: tuple[int, int],
    clock: StageClock,
    seconds: float,
) -> RunReport:
    """Of what every run has; what only videos have is left at its default."""
    return RunReport(
        input=names[0],
        output=names[1],
        model=model.path.name,
        precision=model.card.precision,
        weights_sha256=model.card.weights_sha256,
        engine=engine.description,
        frames_in_flight=engine.in_flight,
        width=size[0],
        height=size[1],
        frames=clock.frames,
        seconds=round(seconds, 3),
        frames_per_second=round(clock.frames / max(seconds, 1e-9), 3),
        engine_milliseconds_a_frame=round(clock.milliseconds, 3),
        limit=clock.limit,
        stages={
            name: Stage(round(clock.seconds[name], 3), round(clock.share(name), 3))
            for name in STAGES
        },
        peak_memory=peak_memory() or None,
        device_memory=engine.memory,
        verified=False,
    )


def save_reports(path: Path, reports: list[RunReport], failed: list[tuple[Path, str]]) -> None:
    """Of several clips, with the message of each that failed."""
    values = {
        "clips": [asdict(report) for report in reports],
        "failed": {str(clip): message for clip, message in failed},
    }
    write_whole(path, (json.dumps(values, indent=1) + "\n").encode())
