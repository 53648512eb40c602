"""The work that a gate guards, measured in turns with the reference, in processes of its own.

Two processes that do the same differ by a per cent or so for all of their life, by where
their memory happens to lie: one of them alone would tell its own luck.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from deblurgan.benchmarks.gate import Process
from deblurgan.benchmarks.reference import open_reference, products_environment
from deblurgan.benchmarks.stopwatch import own_seconds
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError, Failure
from deblurgan.runtime.model_store import find_model
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource

BLOCK = 0.03  # seconds of one turn: short next to what changes a machine's speed
WARM_UP = 0.3  # seconds
FEWEST_ROUNDS = 8  # of a process, for a quarter of them to be cut off at each end
LONGEST_START = 600.0  # seconds, to load an engine, and for the fewest rounds of slow work

Repeat = Callable[[int], object]
Clock = Callable[[Callable[[], object]], float]


@dataclass(frozen=True)
class Work:
    """One frame in an engine on the processor, or the whole video job of a ``clip``'s first
    ``frames``. ``planted`` is how much more is done than asked, 0.15 for 15 %.
    """

    model: str
    backend: str
    width: int
    height: int
    threads: int
    reference: str
    clip: Path | None = None
    frames: int = 1
    planted: float = 0.0


def measure_in_process(work: Work, seconds: float) -> Process:
    """``seconds`` of turns in a new process.

    Raises :class:`DeblurError` as the engine and the clip do there, and :class:`Failure` for a
    process that dies or does not end.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=send_measurement, args=(sender, work, seconds), daemon=True)
    try:
        with environment(products_environment(work.threads)):
            process.start()
        sender.close()
        if not receiver.poll(seconds + LONGEST_START):
            raise failure(f"nothing after {seconds + LONGEST_START:.0f} s")
        try:
            result = receiver.recv()
        except EOFError:
            process.join()
            raise failure(f"one that ended with status {process.exitcode}") from None
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        receiver.close()
    if isinstance(result, Process):
        return result
    raise result


def failure(found: str) -> Failure:
    remedy = "choose a smaller --size or fewer --frames, or try the model in deblur-video"
    return Failure("gate", expected="a process that measures", found=found, remedy=remedy)


def send_measurement(sender: Connection, work: Work, seconds: float) -> None:
    """In the new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    result: Process | DeblurError
    try:
        result = measure(work, seconds)
    except DeblurError as error:
        result = error
    except Exception as error:
        result = failure(f"{type(error).__name__}: {error}")
    with suppress(BrokenPipeError):  # whoever started it was killed
        sender.send(result)


def measure(work: Work, seconds: float) -> Process:
    """Turns in this process: reference, work, work, reference, so that a speed that drifts
    hits both alike.
    """
    # A clip is read, deblurred and written at the same time.
    clock: Clock = partial(own_seconds, is_serial=work.threads == 1 and work.clip is None)
    with (
        Deblurrer(work.model, backend=work.backend, threads=work.threads, tile=None) as deblurrer,
        tempfile.TemporaryDirectory() as folder,
    ):
        precision = find_model(work.model).best_for(work.backend).card.precision
        reference = open_reference(work.reference, work.backend, precision, work.threads)
        if work.clip is None:
            engine = deblurrer.engine(work.width, work.height)
            picture = np.random.default_rng(0).integers(
                0, 256, (1, work.height, work.width, 3), dtype=np.uint8
            )
            run = repeating(lambda: engine.run(picture))
            frames = frames_that_plant(warm_up(run, clock), work.planted)
            extra = round(2 * frames * work.planted)
        else:
            run = clip_job(work.clip, deblurrer, Path(folder) / "out.mkv")
            frames = work.frames
            run(frames)
            extra = 2 * round(frames * work.planted)
        again = repeating(reference)
        turns = warm_up(again, clock)
        rounds: list[tuple[float, float]] = []
        start = time.monotonic()
        while len(rounds) < FEWEST_ROUNDS or time.monotonic() - start < seconds:
            before = clock(lambda: again(turns))
            first = clock(lambda: run(frames + extra // 2))
            second = clock(lambda: run(frames + extra - extra // 2))
            after = clock(lambda: again(turns))
            rounds.append(((first + second) / (2 * frames), (before + after) / (2 * turns)))
    return Process(tuple(work for work, _ in rounds), tuple(other for _, other in rounds))


def repeating(work: Callable[[], object]) -> Repeat:
    def run(count: int) -> None:
        for _ in range(count):
            work()

    return run


def warm_up(run: Repeat, clock: Clock) -> int:
    """How many fill a block, once caches, memory and clocks have settled."""
    times, start = [clock(lambda: run(1))], time.monotonic()
    while time.monotonic() - start < WARM_UP:
        times.append(clock(lambda: run(1)))
    return max(1, round(BLOCK / statistics.median(times)))


def frames_that_plant(frames: int, planted: float) -> int:
    """A few more a block, where two blocks could not hold the planted share to a hundredth."""
    for count in range(frames, frames + 50):
        extra = 2 * count * planted
        if abs(extra - round(extra)) <= 0.01 * extra:
            return count
    return frames + 50


def clip_job(clip: Path, deblurrer: Deblurrer, out: Path) -> Repeat:
    """Reads, deblurs and writes the first so many frames."""

    def run(count: int) -> None:
        with (
            VideoSource(clip) as source,
            VideoSink(out, source, Encoding(hardware="none")) as sink,
        ):
            engine = deblurrer.engine(*source.size, overlap=True)
            deblur_video(source, sink, engine, sieve=lambda all_: itertools.islice(all_, count))

    return run


def count_frames(clip: Path, most: int) -> int:
    """Of a clip, up to ``most``; raises :class:`DeblurError` for what is no video."""
    with VideoSource(clip) as source:
        return sum(1 for _ in itertools.islice(source, most))


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """For the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            with suppress(KeyError):
                del os.environ[name]
            if value is not None:
                os.environ[name] = value
