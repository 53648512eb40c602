"""The file that a gate compares with: what was measured, and the samples themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from deblurgan.benchmarks.environment import Environment
from deblurgan.benchmarks.gate import Process
from deblurgan.benchmarks.reference import ENGINE, VERSION
from deblurgan.benchmarks.result_file import Result, read_result, refusing_damage
from deblurgan.runtime.errors import DeblurError

KIND = "gate-baseline"


@dataclass(frozen=True)
class Subject:
    """What times must have in common to be compared. ``model`` is its name: a file that was
    trained or exported anew under the name is what a gate is for. ``clip`` is a sha256, empty
    where single frames are measured.
    """

    model: str
    precision: str
    engine: str
    size: str
    threads: int
    reference: str
    clip: str = ""
    frames: int = 1
    reference_version: int = VERSION

    def __str__(self) -> str:
        said = f"{self.model} ({self.precision}) on {self.engine}, {self.size}, "
        said += f"{self.threads} threads, "
        if self.clip:
            said += f"the first {self.frames} frames of the clip {self.clip[:8]}, "
        return f"{said}reference {self.reference} {self.reference_version}"


@dataclass(frozen=True)
class Baseline:
    """Samples of a subject, and where they were taken; ``model_sha256`` is of the file."""

    subject: Subject
    model_sha256: str
    processor: str
    versions: dict[str, str]
    processes: tuple[Process, ...]

    def check(self, path: Path, subject: Subject, remedy: str) -> None:
        """Raise :class:`DeblurError` with ``remedy`` where it is another subject's."""
        if self.subject != subject:
            raise DeblurError(
                path,
                expected=f"a baseline of {subject}",
                found=f"one of {self.subject}",
                remedy=f"write one of this: {remedy}",
            )

    def notes(self, here: Environment, model_sha256: str) -> list[str]:
        """What differs and is no reason to refuse it."""
        notes = []
        if self.processor != here.processor:
            notes.append(
                f"the baseline is another processor's ({self.processor}; here {here.processor}): "
                "the reference makes up for most of that and not for all; a baseline from this "
                "kind of processor is surer"
            )
        package = self.subject.engine
        before, now = self.versions.get(package), here.versions.get(package)
        if before != now and self.subject.reference == ENGINE:
            notes.append(
                f"{package} was {before} and is {now}: what that changes, changes the reference "
                "as well and is not seen; --reference processor sees it"
            )
        if self.model_sha256 != model_sha256:
            notes.append("the model's file is another one than the baseline's, of the same name")
        return notes


def to_figures(subject: Subject, model_sha256: str, processes: Sequence[Process]) -> dict[str, Any]:
    """As the figures of a result file; the envelope has the environment."""
    return {
        "subject": asdict(subject),
        "model_sha256": model_sha256,
        "processes": [asdict(process) for process in processes],
    }


def read_baseline(path: Path, remedy: str) -> Baseline:
    """Raises :class:`DeblurError` with ``remedy`` for what is no baseline, or one cut short."""
    with refusing_damage(path, "a baseline that deblur-bench gate wrote", f"write one: {remedy}"):
        return from_result(read_result(path))


def from_result(result: Result) -> Baseline:
    """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything but a baseline."""
    if result.kind != KIND:
        raise ValueError(f"{result.kind!r}")
    figures, environment = result.figures, result.environment
    subject = Subject(**figures["subject"])
    for field in fields(Subject):
        value = getattr(subject, field.name)
        if type(value).__name__ != field.type:
            raise TypeError(f"{field.name} is no {field.type}")
    processes = tuple(
        Process(tuple(map(float, each["work"])), tuple(map(float, each["reference"])))
        for each in figures["processes"]
    )
    if not processes:
        raise ValueError("no samples in it")
    return Baseline(
        subject,
        str(figures["model_sha256"]),
        str(environment["processor"]),
        {str(name): str(version) for name, version in environment["versions"].items()},
        processes,
    )
