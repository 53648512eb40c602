"""Frames of a source that does not wait: which are shown, which are dropped, how it ends."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.pipeline import Frame, run_pipeline
from deblurgan.runtime.video import live
from deblurgan.runtime.video.live import LiveFrames, interruptibly

SMALL = np.zeros((4, 4, 3), np.uint8)


class Clock:
    """One that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 1e-9  # no two frames come at one time
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    return clock


class Camera:
    """Gives the frames that it is handed, and says when its reader has come back for more."""

    def __init__(self) -> None:
        self._coming: queue.Queue[Frame | BaseException | None] = queue.Queue()
        self.asked = threading.Semaphore(0)

    def frames(self) -> Iterator[Frame]:
        while True:
            self.asked.release()
            frame = self._coming.get(timeout=30)
            if frame is None:
                return
            if isinstance(frame, BaseException):
                raise frame
            yield frame

    def show(self, *numbers: int, pixels: np.ndarray = SMALL) -> None:
        for number in numbers:
            self._coming.put(Frame(pixels, number))
            assert self.asked.acquire(timeout=30)

    def end(self, error: BaseException | None = None) -> None:
        self._coming.put(error)


def started(frames: LiveFrames, camera: Camera) -> Iterator[Frame]:
    """The frames taken, of which the first has been."""
    taken = frames.take(camera.frames())
    first: list[Frame] = []
    waiter = threading.Thread(target=lambda: first.append(next(taken)))
    waiter.start()
    assert camera.asked.acquire(timeout=30)
    camera.show(0)
    waiter.join(30)
    assert first[0].origin == 0
    frames.note_written(first[0])
    return taken


def test_without_a_limit_none_is_dropped_and_their_order_stays(clock: Clock) -> None:
    frames, camera = LiveFrames(), Camera()
    taken = started(frames, camera)
    camera.show(1, 2, 3)
    clock.now += 60
    camera.end()
    assert [f.origin for f in taken] == [1, 2, 3]
    assert frames.dropped == 0
    assert frames.error is None


def test_the_oldest_are_dropped_and_never_the_newest(clock: Clock) -> None:
    frames, camera = LiveFrames(max_latency=0.2), Camera()
    taken = started(frames, camera)
    camera.show(1, 2)
    clock.now += 0.15
    camera.show(3)
    clock.now += 0.1  # 1 and 2 are 0.25 s old, 3 is not
    assert next(taken).origin == 3
    assert frames.dropped == 2
    camera.show(4)
    clock.now += 60
    assert next(taken).origin == 4
    assert frames.dropped == 2
    camera.end()
    assert list(taken) == []


def test_the_time_in_the_engine_counts(clock: Clock) -> None:
    """A frame that has 60 ms left is too late where the engine takes 100."""
    frames, camera = LiveFrames(max_latency=0.2), Camera()
    taken = started(frames, camera)
    for number in range(1, 40):
        camera.show(number)
        frame = next(taken)
        clock.now += 0.1
        frames.note_written(frame)
    assert frames.dropped == 0
    camera.show(50, 51)
    clock.now += 0.14
    camera.show(52)
    assert next(taken).origin == 52
    assert frames.dropped == 2
    camera.end()


def test_an_engine_slower_than_the_limit_shows_the_newest(clock: Clock) -> None:
    frames, camera = LiveFrames(max_latency=0.05), Camera()
    taken = started(frames, camera)
    shown = []
    for number in range(1, 31, 3):
        camera.show(number, number + 1, number + 2)
        frame = next(taken)
        clock.now += 0.1
        frames.note_written(frame)
        shown.append(frame.origin)
    # How long it takes is known from experience.
    assert shown[4:] == [*range(15, 31, 3)]
    assert frames.dropped + len(shown) == 30
    assert frames.latency.p99 < 101
    camera.end()


def test_latency_is_told_in_percentiles(clock: Clock) -> None:
    frames, camera = LiveFrames(max_latency=10), Camera()
    taken = started(frames, camera)
    for number in range(1, 100):
        camera.show(number)
        frame = next(taken)
        clock.now += 0.03 if number < 98 else 0.5
        frames.note_written(frame)
    told = frames.latency
    assert (told.frames, told.dropped) == (100, 0)
    assert told.p50 == pytest.approx(30, abs=0.1)
    assert told.p99 == pytest.approx(500, abs=5)
    camera.end()


def test_no_latency_of_no_frames() -> None:
    assert LiveFrames().latency == live.Latency(0, 0, 0.0, 0.0)


@pytest.mark.parametrize("max_latency", [None, 3600.0])
def test_what_waits_does_not_fill_the_memory(
    max_latency: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WAITING", 5 * SMALL.nbytes)
    frames = LiveFrames(max_latency)
    given = threading.Semaphore(0)

    def many() -> Iterator[Frame]:
        for number in range(100):
            given.release()
            yield Frame(SMALL, number)

    taken = frames.take(many())
    first = next(taken).origin
    rest = [frame.origin for frame in taken]
    assert [first, *rest] == sorted({first, *rest})
    assert rest[-1] == 99
    if max_latency is None:
        assert len(rest) == 99
    else:
        assert len(rest) + 1 + frames.dropped == 100


def test_without_a_limit_the_source_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WAITING", 3 * SMALL.nbytes)
    frames, camera = LiveFrames(), Camera()
    taken = started(frames, camera)
    camera.show(1, 2, 3)
    camera._coming.put(Frame(SMALL, 4))
    assert not camera.asked.acquire(timeout=0.05)
    assert next(taken).origin == 1
    assert camera.asked.acquire(timeout=30)
    camera.end()
    assert [f.origin for f in taken] == [2, 3, 4]


def test_stop_ends_it_after_what_waits() -> None:
    frames, camera = LiveFrames(), Camera()
    taken = started(frames, camera)
    camera.show(1, 2)
    frames.stop()
    assert [f.origin for f in taken] == [1, 2]
    camera._coming.put(Frame(SMALL, 3))  # which nobody wants any more
    frames.close()
    assert not [t for t in threading.enumerate() if t.name == "live"]


def test_what_breaks_off_is_told_after_what_came_before() -> None:
    frames, camera = LiveFrames(), Camera()
    taken = started(frames, camera)
    camera.show(1)
    camera.end(DeblurError("camera", expected="frames", found="none", remedy="plug it in"))
    assert [f.origin for f in taken] == [1]
    assert isinstance(frames.error, DeblurError)


def test_an_error_after_the_end_is_none() -> None:
    frames, camera = LiveFrames(), Camera()
    taken = started(frames, camera)
    frames.stop()
    camera.end(OSError("closed under it"))
    assert list(taken) == []
    frames.close()
    assert frames.error is None


class Echo:
    in_flight = 1

    def run(self, frames: np.ndarray) -> np.ndarray:
        return frames


def test_a_sink_that_fails_does_not_wait_for_the_camera() -> None:
    """The camera shows one frame, and no other one ever."""
    frames, camera = LiveFrames(), Camera()
    camera._coming.put(Frame(SMALL, 0))

    def fail(_: object) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        run_pipeline(frames.take(camera.frames()), Echo(), fail, give_up=frames.stop)  # type: ignore[arg-type]
    camera.end()
    frames.close()


def test_opening_gives_back_what_comes_of_it() -> None:
    assert interruptibly(lambda: 3) == 3

    def fail() -> None:
        raise OSError("no answer")

    with pytest.raises(OSError, match="no answer"):
        interruptibly(fail)
