"""Frames in Python: ``with Deblurrer() as deblur: sharp = deblur(frame)``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np

from deblurgan.runtime import backends
from deblurgan.runtime.backends import Backend, NoEngine, open_backend
from deblurgan.runtime.contract import Frames, Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT, find_model
from deblurgan.runtime.tiling.fitting import Tile, load_fitting


class Deblurrer:
    """Deblurs frames, RGB uint8 ``[height, width, 3]`` or ``[batch, height, width, 3]``.

    ``model`` is a shipped model's name or a path; ``backend``, ``threads``,
    ``progress`` and ``warn`` are as in :func:`~deblurgan.runtime.backends.open_backend`.
    The engine is loaded at the first frame, and again when the size changes. With ``auto``
    a plan is built for the first size alone, where another engine takes the others:
    pictures may have a hundred.

    ``tile`` is the side in pixels of the tiles that a larger frame is cut into, "auto" to
    cut only what does not fit into ``memory_limit`` (bytes for the whole process; by
    default what the system has), None to cut nothing.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT,
        *,
        backend: str = backends.AUTO,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        warn: Callable[[str], None] | None = None,
        tile: Tile = "auto",
        memory_limit: int | None = None,
    ) -> None:
        self._found = find_model(model)
        self._last: Model | None = None
        self.tile, self.memory_limit = tile, memory_limit
        self.backend_name, self.threads = backend, threads
        self.progress, self.warn = progress, warn
        self._first_size: tuple[int, int] | None = None
        self._engine: Backend | None = None
        self._loaded: tuple[object, ...] = ()
        self._thread: ThreadPoolExecutor | None = None

    @property
    def model(self) -> Model:
        """The file that was loaded last; before the first frame, of several the one in fp32."""
        return self._last or self._found

    def __call__(self, frames: Frames) -> Frames:
        """Deblur one frame or a batch; the result has the shape of what came in.

        Raises :class:`DeblurError` for anything but uint8 RGB frames of a size
        that the model takes.
        """
        frames = check_frames(frames)
        batch = np.ascontiguousarray(frames if frames.ndim == 4 else frames[None])
        height, width = batch.shape[1:3]
        engine = self.engine(width, height)
        deblurred = np.concatenate([engine.run(frame[None]) for frame in batch])
        return deblurred if frames.ndim == 4 else deblurred[0]

    def stream(self, frames: Iterable[Frames]) -> Iterator[Frames]:
        """Deblur frame after frame, ``[height, width, 3]`` each, in their order: more of
        them a second than one by one, as several are worked on at a time. ``frames`` is
        read a few ahead. Raises what :meth:`__call__` does, at the frame in question.
        """
        for (height, width), alike in groupby(map(check_frame, frames), lambda f: f.shape[:2]):
            engine = self.engine(width, height, overlap=True)
            waiting: deque[Future[Frames]] = deque()
            with ThreadPoolExecutor(engine.in_flight, thread_name_prefix="engine") as threads:
                for frame in alike:
                    waiting.append(threads.submit(engine.run, frame[None]))
                    if len(waiting) > engine.in_flight:
                        yield waiting.popleft().result()[0]
                while waiting:
                    yield waiting.popleft().result()[0]

    def submit(self, frames: Frames) -> Future[Frames]:
        """The same as calling it, but at once: the result comes later, of one frame or batch
        after the other. ``await asyncio.wrap_future(deblur.submit(frame))`` in a coroutine.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="deblurrer")
        return self._thread.submit(self, frames)

    def engine(
        self,
        width: int,
        height: int,
        *,
        overlap: bool = False,
        written: tuple[int, int] | None = None,
    ) -> Backend:
        """The backend for frames of this size, loaded if it is not yet; ``overlap``
        as in :func:`~deblurgan.runtime.backends.open_backend`, ``written`` as in
        :func:`~deblurgan.runtime.tiling.fitting.load_fitting`.
        """
        wanted = (width, height, overlap, written)
        if self._engine is None or self._loaded != wanted:
            self._unload()
            self._first_size = self._first_size or (width, height)
            self._engine = self._open(width, height, overlap, written)
            self._last = self._engine.model
            self._loaded = wanted
        return self._engine

    def _open(
        self, width: int, height: int, overlap: bool, written: tuple[int, int] | None
    ) -> Backend:
        def open_(may_build: bool) -> Backend:
            return open_backend(
                self._found,
                width,
                height,
                name=self.backend_name,
                threads=self.threads,
                overlap=overlap,
                may_build=may_build,
                progress=self.progress,
                warn=self.warn,
                fit=partial(
                    load_fitting,
                    tile=self.tile,
                    memory_limit=self.memory_limit,
                    written=written,
                ),
            )

        if self.backend_name != backends.AUTO or self._first_size == (width, height):
            return open_(may_build=True)
        try:
            return open_(may_build=False)
        except NoEngine:  # then a plan is all there is
            return open_(may_build=True)

    def close(self) -> None:
        """Wait for what was submitted, and give the engine's memory back; the next frame
        loads it again.
        """
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._unload()

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> Deblurrer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_frames(frames: Frames) -> Frames:
    """Raise :class:`DeblurError` for anything but uint8 RGB."""
    frames = np.asarray(frames)
    right = frames.dtype == np.uint8 and frames.ndim in (3, 4) and frames.shape[-1] == 3
    if not right or not frames.size:
        raise DeblurError(
            "frame",
            expected="uint8 RGB, [height, width, 3] or [batch, height, width, 3]",
            found=f"{frames.dtype} {list(frames.shape)}",
            remedy=way_to_rgb(frames),
        )
    return frames


def way_to_rgb(frames: Frames) -> str:
    """What makes uint8 RGB of it."""
    ways = []
    if frames.dtype != np.uint8:
        ways.append("scale it to 0 to 255, then .astype(np.uint8)")
    if not frames.size or not 2 <= frames.ndim <= 4:
        ways.append("give whole frames")
    elif frames.ndim > 2 and frames.shape[-3] == 3 != frames.shape[-1]:
        ways.append("put the channels last with np.moveaxis(frame, -3, -1)")
    elif frames.ndim == 2 or frames.shape[-1] != 3:
        ways.append("convert its channels to RGB, with cv2.cvtColor for example")
    return "; ".join(ways)


def check_frame(frame: Frames) -> Frames:
    """A single one."""
    frame = check_frames(frame)
    if frame.ndim != 3:
        raise DeblurError(
            "frame",
            expected="one frame after the other, [height, width, 3] each",
            found=f"a batch, {list(frame.shape)}",
            remedy="call the Deblurrer itself with a batch",
        )
    return frame
