"""A process of its own for one row of the latency table, so that the memory at its peak is
the row's alone. It is told what to do in lines of JSON on standard input, and answers in
lines on standard output.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

from deblurgan.benchmarks.workload import Subject, Workload, open_workload
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tiling.memory import peak_memory

WARM_UP, WARM_UP_SECONDS = 3, 1.0
# Seconds: of calls that take longer the way from and to the host is next to nothing, so that
# the engine alone is timed once a turn.
SLOW = 1.0
FIRST_TO_GO = "1000"
PLACE = re.compile("Exception from |$")  # in OpenVINO's sources, which says nothing


def main() -> None:
    # Whatever a library prints goes to standard error: the answers stay whole.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Ctrl-C is for the process that started this one, which then ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If memory runs out, it is this process that does not fit.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    serve(sys.stdin, answers)


def serve(orders: TextIO, answers: TextIO) -> None:
    """The first order is the workload; the others are turns, until there are none."""
    with ExitStack() as undo:
        try:
            begun = time.perf_counter()
            subject = open_workload(Workload(**json.loads(orders.readline())), undo)
            opened = time.perf_counter() - begun
            warm_up(subject.call)
            said = describe(subject, opened)
            engine_call = subject.make_engine_call()
            if engine_call is not None:
                warm_up(engine_call)
            answer(answers, said)
            for line in orders:
                order = json.loads(line)
                calls, seconds = order["calls"], order["seconds"]
                if subject.stream is not None:
                    turn = {"frame": subject.stream(calls, seconds), "engine": []}
                else:
                    turn = take_turn(subject.call, engine_call, calls, seconds)
                answer(answers, turn)
        except DeblurError as error:
            reason = f"expected {error.expected}, found {error.found}; {error.remedy}"
            answer(answers, {"error": reason})
        except Exception as error:
            lines = [line for line in str(error).splitlines() if not PLACE.match(line)]
            first = (lines or [""])[0]
            answer(answers, {"error": f"{type(error).__name__}: {first}"[:500]})


def answer(answers: TextIO, what: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        print(json.dumps(what), file=answers, flush=True)


def warm_up(call: Callable[[], object]) -> None:
    """Once at least: the first call compiles, takes memory and fills caches."""
    begun = time.perf_counter()
    for _ in range(WARM_UP):
        call()
        if time.perf_counter() - begun > WARM_UP_SECONDS:
            return


def describe(subject: Subject, opened: float) -> dict[str, Any]:
    """The memory is that of loading and of whole frames, before anything else is tried."""
    return {
        "model": subject.model,
        "engine": subject.engine,
        "description": subject.description,
        "precision": subject.precision,
        "device": subject.device,
        "in_flight": subject.in_flight,
        "operations": subject.operations,
        "open_seconds": opened,
        "peak_memory": peak_memory(),
        "device_memory": subject.device_memory(),
    }


def take_turn(
    call: Callable[[], object], engine_call: Callable[[], object] | None, calls: int, seconds: float
) -> dict[str, list[float]]:
    """Host to host and engine only alternate, so that a drift meets both. Ends after so many
    calls or seconds, but not before the first call.
    """
    frame: list[float] = []
    engine: list[float] = []
    begun = time.perf_counter()
    while not frame or (len(frame) < calls and time.perf_counter() - begun < seconds):
        frame.append(time_of(call))
        if engine_call is not None and (frame[-1] < SLOW or not engine):
            engine.append(time_of(engine_call))
    return {"frame": frame, "engine": engine}


def time_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
