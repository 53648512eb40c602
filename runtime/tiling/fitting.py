"""Whether a frame goes through an engine whole or in tiles, by the memory that there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from deblurgan.runtime.backends import Backend, DoesNotFit, Load, Request
from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tiling.engine_memory import EngineMemory, heaviest, measure_engine
from deblurgan.runtime.tiling.frame_memory import frame_memory
from deblurgan.runtime.tiling.memory import default_limit, format_memory, used_memory
from deblurgan.runtime.tiling.tiles import TiledBackend, cut_frame, overlap, round_up, smallest_side
from deblurgan.runtime.tiling.whole_picture import find_whole_picture_operators

# "auto": in tiles when the frame does not fit; a number: tiles of so many pixels a side.
Tile = Literal["auto"] | int | None
# Their memory is the processor's, which can be measured from outside; a GPU's own is not counted.
ON_THE_PROCESSOR = ("openvino", "onnxruntime")
Measure = Callable[[], EngineMemory]


@dataclass(frozen=True)
class Choice:
    """``side`` of the tiles in pixels, None for the whole frame; ``overlap`` when the engine
    works on several frames, or tiles, at a time.
    """

    side: int | None
    overlap: bool


def parse_tile(text: str) -> Tile:
    """``auto``, ``none`` or a number of pixels; raises :class:`DeblurError` for others."""
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    if not text.isdecimal() or len(text) > 6:
        raise DeblurError(
            "--tile",
            expected="auto, none or a number of pixels",
            found=repr(text),
            remedy="write it like --tile 1024, or leave it out for auto",
        )
    return int(text)


def load_fitting(
    request: Request,
    load: Load,
    *,
    tile: Tile = "auto",
    memory_limit: int | None = None,
    written: tuple[int, int] | None = None,
) -> Backend:
    """Load an engine for whole frames where they fit, and for tiles where they do not.

    ``memory_limit`` is for the whole process, in bytes; by default it is what the system has;
    ``written`` the size of a video's frames when it is another than that of the engine's.
    Raises :class:`DoesNotFit` when it cannot be kept, and as :func:`check_tile` does.
    """
    check_tile(request.model, request.width, request.height, tile)
    if tile == "auto":
        if request.engine not in ON_THE_PROCESSOR or request.model.size is not None:
            tile = None
        elif memory_limit is None:
            memory_limit = default_limit()
    choice = choose_tile(
        request, tile, memory_limit, lambda: measure_engine(request), written=written
    )
    if choice.side is None:
        return load(request.width, request.height, choice.overlap)
    stride = request.model.card.stride
    grid = cut_frame(request.width, request.height, choice.side, stride)
    return TiledBackend(load(grid.columns.side, grid.rows.side, choice.overlap), grid)


def check_tile(model: Model, width: int, height: int, tile: Tile) -> None:
    """Raise :class:`DoesNotFit` when frames of this size cannot go through ``model`` in tiles
    of ``tile`` pixels.
    """
    if not isinstance(tile, int) or fits_into(model, width, height, tile):
        return
    smallest = smallest_side(model.card.stride)
    if tile < smallest:
        shared = overlap(model.card.stride)
        raise DoesNotFit(
            "--tile",
            expected=f"at least {smallest} pixels, as neighbours share {shared}",
            found=str(tile),
            remedy=f"write --tile {smallest}, or leave it out",
        )
    if reason := why_whole(model):
        raise DoesNotFit(
            model.path,
            expected="a model that can work in tiles",
            found=reason,
            remedy="leave --tile out, or take a model without such layers, as edge",
        )


def choose_tile(
    request: Request,
    tile: Tile,
    memory_limit: int | None,
    measure: Measure,
    *,
    written: tuple[int, int] | None = None,
) -> Choice:
    """Decide for the frame of ``request``; ``measure`` is asked only where it matters.

    Raises :class:`DoesNotFit` when "auto" finds no way into ``memory_limit`` bytes.
    """
    model, width, height = request.model, request.width, request.height
    if isinstance(tile, int):
        side = None if fits_into(model, width, height, tile) else tile
        return Choice(side, request.overlap)
    whole = Choice(None, request.overlap)
    if tile is None or memory_limit is None:
        return whole
    used, pixels = used_memory(), width * height

    def room(in_flight: int) -> int:
        return memory_limit - used - frame_memory(width, height, in_flight, written)

    # Most frames fit whatever the model is.
    most = heaviest(request)
    if most.at(pixels, most.in_flight) <= room(most.in_flight):
        return whole
    engine = measure()
    for several in (True, False) if engine.in_flight > 1 else (request.overlap,):
        in_flight = engine.in_flight if several else 1
        if engine.at(pixels, in_flight) <= room(in_flight):
            return Choice(None, several)

    needed = memory_limit - room(1) + engine.at(pixels, 1)
    if reason := why_whole(model):
        raise DoesNotFit(
            f"frames of {width}x{height}",
            expected=f"to fit into {format_memory(memory_limit)} of memory",
            found=f"{format_memory(needed)} needed, and a model that cannot work in tiles "
            f"({reason})",
            remedy="scale the frames down, take a model without such layers, as edge, or allow "
            f"more with --memory-limit {gibibytes(needed)}G",
        )
    return choose_side(request, engine, memory_limit, room(1))


def choose_side(request: Request, engine: EngineMemory, memory_limit: int, room: int) -> Choice:
    """The largest tiles that fit, several at a time if they can be of a good size then."""
    stride, width = request.model.card.stride, request.width
    smallest = smallest_side(stride)
    largest = round_up(max(width, request.height), stride)

    def need(side: int, in_flight: int) -> int:
        # The pixels of a row of tiles before they are rounded, 16 bits a colour, and the
        # results that wait.
        return engine.at(side * side, in_flight) + 6 * side * width + 3 * side * side * 3

    for several, least in ((True, 2 * smallest), (False, smallest)):
        in_flight = engine.in_flight if several else 1
        for side in range(largest, least - 1, -stride):
            if need(side, in_flight) <= room:
                return Choice(side, several and request.overlap)
    needed = memory_limit - room + need(smallest, 1)
    raise DoesNotFit(
        f"frames of {width}x{request.height}",
        expected=f"to fit into {format_memory(memory_limit)} of memory",
        found=f"{format_memory(needed)} needed with the smallest tiles ({smallest} pixels)",
        remedy=f"scale the frames down, or allow more with --memory-limit {gibibytes(needed)}G",
    )


def why_whole(model: Model) -> str:
    """Why a model has to see the whole frame; empty for one that can work in tiles."""
    if model.size is not None:
        return f"a model frozen at {model.size[0]}x{model.size[1]}"
    if found := find_whole_picture_operators(model.path):
        return (
            f"{', '.join(found)} over the whole picture, so each tile would get a brightness "
            "and contrast of its own"
        )
    return ""


def fits_into(model: Model, width: int, height: int, tile: int) -> bool:
    """Whether the frame is a single tile."""
    return round_up(max(width, height), model.card.stride) <= tile


def gibibytes(size: int) -> str:
    """Rounded up to a tenth."""
    return f"{-(-size * 10 // 2**30) / 10:.1f}"
