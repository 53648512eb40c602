"""The other end of :mod:`deblurgan.benchmarks.latency_worker`."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from deblurgan.benchmarks.workload import Workload

WORKER = "from deblurgan.benchmarks.latency_worker import main; main()"
# Seconds for an answer: a plan may be built, or a slow network compiled, before the first.
PATIENCE = 1800.0


class Refused(Exception):
    """A workload that gives no row; the message says why."""


@dataclass(frozen=True)
class Opened:
    """What a worker has loaded, as :class:`~deblurgan.benchmarks.workload.Subject` has it, and
    the bytes that loading and running took at their peak: of the process, and on the GPU.
    """

    model: str
    engine: str
    description: str
    precision: str
    device: str
    in_flight: int
    operations: float
    open_seconds: float
    peak_memory: int
    device_memory: int | None


@dataclass(frozen=True)
class Turn:
    """Seconds of each call, host to host and engine only."""

    frame: list[float]
    engine: list[float]


class WorkerProcess:
    """Loads a workload in a process of its own, warmed up. Raises :class:`Refused` where it
    does not run here, ends, or does not answer.
    """

    def __init__(self, workload: Workload, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
        )
        try:
            self.opened = Opened(**self.ask(asdict(workload)))
        except BaseException:
            self.close()
            raise

    def take_turn(self, calls: int, seconds: float) -> Turn:
        return Turn(**self.ask({"calls": calls, "seconds": seconds}))

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # then it has ended, and that is told below
            self.process.stdin.write(f"{json.dumps(order)}\n".encode())
            self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], self.patience)
        if not ready:
            raise Refused(f"no answer within {self.patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Refused(self.explain_end())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def explain_end(self) -> str:
        status = self.process.wait(self.patience)
        if status == -9:
            return "the system ended it: not enough memory, most likely"
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return f"it ended with status {status}: {lines[-1] if lines else 'without a word'}"[:500]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self.said.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
