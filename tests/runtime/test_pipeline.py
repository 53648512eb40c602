from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from deblurgan.runtime.console import Interrupted, signals_interrupt
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.pipeline import DeblurredFrame, Frame, run_pipeline


class SlowNegative:
    """A backend whose frames take the longer the darker they are."""

    description = "negative"
    in_flight = 3

    def __init__(self) -> None:
        self.inside, self.most = 0, 0
        self.lock = threading.Lock()

    def run(self, frames: Frames) -> Frames:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.02 - frames.flat[0] / 255 * 0.019)
        with self.lock:
            self.inside -= 1
        return 255 - frames

    def close(self) -> None: ...


def frame(level: int) -> Frame:
    return Frame(np.full((2, 2, 3), level, np.uint8), level)


def test_everything_arrives_in_order_and_frames_overlap() -> None:
    sent = [frame(level) for level in range(0, 250, 5)]
    backend, got = SlowNegative(), []

    def sink(item: DeblurredFrame) -> None:
        assert (item.pixels == 255 - item.origin).all()
        got.append(item.origin)

    clock = run_pipeline(sent, backend, sink)
    assert got == [item.origin for item in sent]
    assert clock.frames == 50
    assert backend.most == 3


def test_what_is_sharp_passes_by_the_engine_in_its_turn() -> None:
    sent = [replace(frame(level), is_sharp=level % 10 == 0) for level in range(0, 250, 5)]
    got = []

    def sink(item: DeblurredFrame) -> None:
        got.append(item.origin)
        assert (item.pixels == (item.origin if item.blurred.is_sharp else 255 - item.origin)).all()

    clock = run_pipeline(sent, SlowNegative(), sink)
    assert got == list(range(0, 250, 5))
    assert clock.frames == 25


def test_the_source_stays_a_few_frames_ahead_at_most() -> None:
    ahead = []
    done = 0

    def source() -> Iterator[Frame]:
        for index in range(40):
            ahead.append(index - done)
            yield frame(250)

    def sink(item: DeblurredFrame) -> None:
        nonlocal done
        assert item.pixels is not None
        time.sleep(0.002)
        done += 1

    run_pipeline(source(), SlowNegative(), sink)
    assert max(ahead) <= 2 * SlowNegative.in_flight + 2


@pytest.mark.parametrize("place", ["source", "engine", "sink"])
def test_the_first_error_anywhere_stops_all(place: str) -> None:
    threads = threading.active_count()

    def source() -> Iterator[Frame]:
        for index in range(10_000):
            if place == "source" and index == 20:
                raise ValueError("source")
            yield frame(250)

    class Failing(SlowNegative):
        def run(self, frames: Frames) -> Frames:
            if place == "engine":
                raise ValueError("engine")
            return super().run(frames)

    taken = 0

    def sink(item: DeblurredFrame) -> None:
        nonlocal taken
        assert item.pixels is not None
        taken += 1
        if place == "sink" and taken == 20:
            raise ValueError("sink")

    with pytest.raises(ValueError, match=place):
        run_pipeline(source(), Failing(), sink)
    assert threading.active_count() == threads


def test_a_signal_breaks_in_nowhere() -> None:
    """Raised while a lock is held, the exception would leave it locked."""
    threads, given_back = threading.active_count(), 0

    def sink(item: DeblurredFrame) -> None:
        nonlocal given_back
        signal.raise_signal(signal.SIGINT)
        given_back += 1

    with signals_interrupt():
        with pytest.raises(Interrupted):
            run_pipeline([frame(0)] * 50, SlowNegative(), sink)
        assert given_back == 1
    assert threading.active_count() == threads
    with signals_interrupt(), pytest.raises(Interrupted):  # outside it does
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_wakes_who_waits_for_the_source() -> None:
    waiting, over = threading.Event(), threading.Event()

    def source() -> Iterator[Frame]:
        yield frame(0)
        waiting.set()
        assert over.wait(60)

    def kill() -> None:
        assert waiting.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=kill).start()
    with pytest.raises(Interrupted), signals_interrupt():
        run_pipeline(source(), SlowNegative(), lambda _: None, give_up=over.set)
    assert over.is_set()
