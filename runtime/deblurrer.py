"""Frames in Python: ``with Deblurrer() as deblur: sharp = deblur(frame)``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from deblurgan.runtime import backends
from deblurgan.runtime.backends import Backend, NoEngine, open_backend
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT, find_model


class Deblurrer:
    """Deblurs frames, RGB uint8 ``[height, width, 3]`` or ``[batch, height, width, 3]``.

    ``model`` is a shipped model's name or a path; ``backend``, ``threads``,
    ``progress`` and ``warn`` are as in :func:`~deblurgan.runtime.backends.open_backend`.
    The engine is loaded at the first frame, and again when the size changes. With ``auto``
    a plan is built for the first size alone, where another engine takes the others:
    pictures may have a hundred.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT,
        *,
        backend: str = backends.AUTO,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.model = find_model(model)
        self.backend_name, self.threads = backend, threads
        self.progress, self.warn = progress, warn
        self._first_size: tuple[int, int] | None = None
        self._engine: Backend | None = None
        self._loaded = (0, 0, False)

    def __call__(self, frames: Frames) -> Frames:
        """Deblur one frame or a batch; the result has the shape of what came in.

        Raises :class:`DeblurError` for anything but uint8 RGB frames of a size
        that the model takes.
        """
        frames = np.asarray(frames)
        right = frames.dtype == np.uint8 and frames.ndim in (3, 4) and frames.shape[-1] == 3
        if not right or not frames.size:
            raise DeblurError(
                "frame",
                expected="uint8 RGB, [height, width, 3] or [batch, height, width, 3]",
                found=f"{frames.dtype} {list(frames.shape)}",
                remedy="convert it first, with cv2.cvtColor for example",
            )
        batch = np.ascontiguousarray(frames if frames.ndim == 4 else frames[None])
        height, width = batch.shape[1:3]
        engine = self.engine(width, height)
        deblurred = np.concatenate([engine.run(frame[None]) for frame in batch])
        return deblurred if frames.ndim == 4 else deblurred[0]

    def engine(self, width: int, height: int, *, overlap: bool = False) -> Backend:
        """The backend for frames of this size, loaded if it is not yet; ``overlap``
        as in :func:`~deblurgan.runtime.backends.open_backend`.
        """
        wanted = (width, height, overlap)
        if self._engine is None or self._loaded != wanted:
            self.close()
            self._first_size = self._first_size or (width, height)
            self._engine = self._open(width, height, overlap)
            self._loaded = wanted
        return self._engine

    def _open(self, width: int, height: int, overlap: bool) -> Backend:
        def open_(may_build: bool) -> Backend:
            return open_backend(
                self.model,
                width,
                height,
                name=self.backend_name,
                threads=self.threads,
                overlap=overlap,
                may_build=may_build,
                progress=self.progress,
                warn=self.warn,
            )

        if self.backend_name != backends.AUTO or self._first_size == (width, height):
            return open_(may_build=True)
        try:
            return open_(may_build=False)
        except NoEngine:  # then a plan is all there is
            return open_(may_build=True)

    def close(self) -> None:
        """Give the engine's memory back; the next frame loads it again."""
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
