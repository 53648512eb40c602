"""A large frame in tiles: each is deblurred on its own, and they are blended into one picture.

All tiles are of one size, so that the engine is loaded once. Near a cut a tile knows less of
the picture than the whole frame does: ``MARGIN`` pixels there are thrown away, and over
``RAMP`` pixels one tile fades into the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import Frames, Model

# With it the shipped model's picture in fp32 is 0.0004 levels off the untiled one in the mean, and
# 2 where they differ most, on 52 photographs cut as small as can be: it sees 175 pixels far, and
# what is beyond 104 hardly counts. The paper's generator sees 85 pixels far.
MARGIN = 104
RAMP = 32
# Weights are in 256ths: a pixel's weighted levels add up to less than a uint16 holds.
WHOLE = 256
Weights = NDArray[np.uint16]


@dataclass(frozen=True)
class Cuts:
    """One direction of a frame, ``length`` pixels, cut into tiles of ``side`` pixels that
    start at ``origins``. The last one may reach beyond the frame, where a model pads.
    """

    length: int
    side: int
    origins: tuple[int, ...]

    @property
    def ramps(self) -> list[int]:
        """Where each tile but the first begins to fade in: the middle of what it shares."""
        pairs = zip(self.origins, self.origins[1:], strict=False)
        return [here + (before + self.side - here - RAMP) // 2 for before, here in pairs]

    @property
    def used(self) -> list[tuple[int, int]]:
        """The pixels of the frame, first and last plus one, that each tile adds to."""
        ramps = self.ramps
        return list(zip([0, *ramps], [*(ramp + RAMP for ramp in ramps), self.length], strict=True))

    def weights(self, index: int) -> Weights:
        """How much each pixel that tile ``index`` uses counts, in 256ths."""
        first, last = self.used[index]
        weights = np.full(last - first, WHOLE, np.uint16)
        if index > 0:
            weights[:RAMP] = rising()
        if index < len(self.origins) - 1:
            weights[-RAMP:] = WHOLE - rising()
        return weights


@dataclass(frozen=True)
class Grid:
    """A frame cut into columns and rows of tiles."""

    columns: Cuts
    rows: Cuts

    @property
    def count(self) -> int:
        return len(self.columns.origins) * len(self.rows.origins)


def rising() -> Weights:
    """The weights of a tile that fades in; those of the one before are the rest to 256."""
    return np.round(WHOLE * (np.arange(RAMP) + 0.5) / RAMP).astype(np.uint16)


def overlap(stride: int) -> int:
    """What two tiles share at least, in pixels; tiles begin at multiples of ``stride``."""
    return round_up(2 * MARGIN + RAMP, stride)


def smallest_side(stride: int) -> int:
    """Below it, less than half of a tile would be new."""
    return 2 * overlap(stride)


def cut_frame(width: int, height: int, side: int, stride: int) -> Grid:
    """Cut a frame into as few tiles as ``side`` allows, none larger than is needed for that.

    ``side`` is a number of pixels, at least :func:`smallest_side`.
    """
    return Grid(cut(width, side, stride), cut(height, side, stride))


def cut(length: int, side: int, stride: int) -> Cuts:
    padded, shared = round_up(length, stride), overlap(stride)
    side -= side % stride
    if side >= padded:
        return Cuts(length, padded, (0,))
    count = -(-(padded - shared) // (side - shared))
    side = round_up(-(-(padded - shared) // count) + shared, stride)
    spread = [i * (padded - side) // (count - 1) for i in range(count)]
    return Cuts(length, side, tuple(origin - origin % stride for origin in spread))


class TiledBackend:
    """A backend for a frame of any size out of one that is loaded for ``grid``'s tiles.

    One frame is in work at a time, in as many tiles as the inner backend takes.
    """

    in_flight = 1

    def __init__(self, inner: Backend, grid: Grid) -> None:
        self.inner, self.grid, self.memory = inner, grid, inner.memory
        self.description = (
            f"{inner.description}, {grid.count} tiles of {grid.columns.side}x{grid.rows.side}"
        )
        self._threads = ThreadPoolExecutor(inner.in_flight, thread_name_prefix="tile")

    @property
    def model(self) -> Model:
        return self.inner.model

    def run(self, frames: Frames) -> Frames:
        """Deblur one frame, uint8 ``[1, height, width, 3]``, RGB, of the grid's size."""
        frame, rows = frames[0], self.grid.rows
        result = np.empty_like(frame, order="C")
        shape = (max(last - first for first, last in rows.used), *frame.shape[1:])
        band = np.empty(shape, np.uint16)
        above = np.empty((RAMP, *frame.shape[1:]), np.uint16)
        tiles = self._deblur_tiles(frame)
        for index, (first, last) in enumerate(rows.used):
            strip = band[: last - first]
            self._blend_row(tiles, index, strip)
            if index > 0:
                result[first : first + RAMP] = fade(above, strip[:RAMP])
                first, strip = first + RAMP, strip[RAMP:]
            if index < len(rows.used) - 1:
                above[:] = strip[-RAMP:]
                last, strip = last - RAMP, strip[:-RAMP]
            # In place: a frame may be most of the memory there is.
            strip += WHOLE // 2
            strip //= WHOLE
            result[first:last] = strip
        return result[None]

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self.inner.close()

    def _blend_row(self, tiles: Iterator[Frames], index: int, strip: Weights) -> None:
        """Add up a row of tiles, weighted from side to side, into ``strip``."""
        columns, rows = self.grid.columns, self.grid.rows
        top = rows.used[index][0] - rows.origins[index]
        strip[:] = 0
        for column, (left, right) in enumerate(columns.used):
            x = left - columns.origins[column]
            tile = next(tiles)[top : top + len(strip), x : x + right - left]
            strip[:, left:right] += tile * columns.weights(column)[:, None]

    def _deblur_tiles(self, frame: Frames) -> Iterator[Frames]:
        """Deblurred tiles row by row; the engine works on the next ones meanwhile."""
        waiting: deque[Future[Frames]] = deque()
        try:
            for y in self.grid.rows.origins:
                for x in self.grid.columns.origins:
                    waiting.append(self._threads.submit(self._deblur_tile, frame, y, x))
                    if len(waiting) > self.inner.in_flight:
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _deblur_tile(self, frame: Frames, y: int, x: int) -> Frames:
        height, width = self.grid.rows.side, self.grid.columns.side
        tile = frame[y : y + height, x : x + width]
        missing = (height - tile.shape[0], width - tile.shape[1])
        if any(missing):
            # As the model pads the frame.
            tile = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
        return self.inner.run(np.ascontiguousarray(tile)[None])[0]


def fade(above: Weights, below: Weights) -> Frames:
    """From one row of tiles to the next; both hold levels in 256ths, as does each row's weight."""
    weights = rising().astype(np.uint32)[:, None, None]
    total = above * (WHOLE - weights) + below * weights
    return ((total + WHOLE * WHOLE // 2) // (WHOLE * WHOLE)).astype(np.uint8)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def untiled(backend: Backend) -> Backend:
    """The engine behind the tiles. How large these are hangs on the memory that is free just
    now; what an engine makes of a picture hardly does.
    """
    return backend.inner if isinstance(backend, TiledBackend) else backend
