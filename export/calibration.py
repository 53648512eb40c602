"""Calibration: real frames, and how large a model's activations get on them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.runtime.backends import available_threads
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import INPUT, Frames
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.clips import CLIP_SUFFIXES, list_stamps, read_frames
from deblurgan.train.evaluation import spread
from deblurgan.train.picture_files import PICTURE_SUFFIXES, list_pictures, read_picture

Method = Literal["min-max", "percentile", "entropy"]
METHODS: tuple[Method, ...] = ("min-max", "percentile", "entropy")
# Progress: how many steps are done, of how many, and what they do.
Progress = Callable[[int, int, str], None]

FEWEST, ENOUGH = 2, 16
# Every activation of a frame is held at once: of this size the paper's generator has 0.6 GB.
LARGEST_SIDE = 512
BINS, CODES = 1024, 256  # of a histogram, and of int8
MARGIN = 1.5  # of what every fourth frame reaches
PERCENTILE = 99.99


@dataclass(frozen=True, eq=False)
class Calibration:
    """Frames, uint8 ``[H, W, 3]``, RGB, each of a size of its own; ``names`` say
    where they are from, and ``sha256`` is over sizes and pixels.
    """

    source: Path
    frames: tuple[Frames, ...]
    names: tuple[str, ...]
    sha256: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of frames that may be too few."""
        if len(self.frames) >= ENOUGH:
            return ()
        return (
            f"{self.source} gives {len(self.frames)} calibration pictures; "
            f"with fewer than {ENOUGH} bright or busy frames may be clipped",
        )


def read_calibration(source: Path, limit: int = 64, *, smallest: int = 16) -> Calibration:
    """Read a folder of pictures or a clip: at most ``limit`` frames, evenly spread.

    Of larger ones the centre is taken. Raises :class:`DeblurError` for fewer than
    two, for what cannot be read, and for one with a side below ``smallest`` pixels.
    """
    frames, names = [], []
    for name, picture in read_source(source, limit):
        check_interrupted()
        height, width = picture.shape[:2]
        if min(height, width) < smallest:
            raise DeblurError(
                (source if source.is_dir() else source.parent) / name,
                expected=f"calibration pictures of at least {smallest}x{smallest} pixels",
                found=f"{width}x{height}",
                remedy="remove it from the folder, or name another one with --calibration",
            )
        frames.append(cut_centre(picture, LARGEST_SIDE))
        names.append(name)
    if len(frames) < FEWEST:
        raise too_few(source, "a single picture")
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(f"{frame.shape[1]}x{frame.shape[0]}\n".encode())
        digest.update(frame.data)
    return Calibration(source, tuple(frames), tuple(names), digest.hexdigest())


def collect_ranges(
    model: onnx.ModelProto,
    tensors: Collection[str],
    frames: Sequence[Frames],
    methods: Collection[Method],
    progress: Progress | None = None,
) -> dict[Method, dict[str, float]]:
    """The largest absolute value that int8 should hold, for each method and tensor.

    ``min-max`` is the very largest; ``percentile`` and ``entropy`` cut off what
    is rare, by ONNX Runtime's own arithmetic over histograms. How far those
    reach is told by every fourth frame beforehand: ONNX Runtime's calibrators
    take the first frame's reach, and after a dark one grow a million bins.

    Raises :class:`DeblurError` without ONNX Runtime, and where a value is not finite.
    """
    wanted = list(dict.fromkeys(tensors))
    activations = Activations(model, wanted)
    ahead = [] if set(methods) == {"min-max"} else frames[::4]
    done, total = 0, len(ahead) + len(frames)

    def run(frame: Frames) -> dict[str, NDArray[np.float32]]:
        nonlocal done
        check_interrupted()
        values = activations.of(frame)
        done += 1
        if progress is not None:
            progress(done, total, "calibrating")
        return values

    reach = dict.fromkeys(wanted, 0.0)
    for frame in ahead:
        reach = larger(reach, run(frame))
    histograms = Histograms({name: MARGIN * most for name, most in reach.items() if most > 0})
    largest = reach
    for frame in frames:
        values = run(frame)
        largest = larger(largest, values)
        histograms.add(values)
    ranges: dict[Method, dict[str, float]] = {}
    for method in methods:
        check_interrupted()
        cut = {} if method == "min-max" else histograms.cut(method)
        # A tensor without a histogram has hardly a value that is not zero.
        ranges[method] = {name: min(most, cut.get(name, most)) for name, most in largest.items()}
    return ranges


def larger(largest: dict[str, float], values: dict[str, NDArray[np.float32]]) -> dict[str, float]:
    found = {name: check_finite(name, np.abs(made).max()) for name, made in values.items()}
    return {name: max(most, found[name]) for name, most in largest.items()}


class Activations:
    """Runs a contract model and gives the tensors asked for, not its picture."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            check_interrupted()
            raise DeblurError(
                "--calibration",
                expected="ONNX Runtime, which measures activations",
                found=f"none ({error})",
                remedy='pip install ".[cpu]" in the checkout (or [gpu] with an NVIDIA GPU)',
            ) from None
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        del watched.graph.output[:]
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_threads()
        options.log_severity_level = 3
        # Between runs numpy counts, and threads that spin would take its processor.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.tensors = tensors
        self.session = onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def of(self, frame: Frames) -> dict[str, NDArray[np.float32]]:
        made = self.session.run(list(self.tensors), {INPUT: frame[None]})
        return dict(zip(self.tensors, made, strict=True))


class Histograms:
    """Of the values of tensors, each as far as ``reach`` says."""

    def __init__(self, reach: dict[str, float]) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self.reach = reach
        self.collector = HistogramCollector(
            method="entropy",
            symmetric=False,
            num_bins=BINS,
            num_quantized_bins=CODES,
            percentile=PERCENTILE,
            scenario="same",
        )
        # The ends come first: the collector's bins reach as far as its first values.
        self.collect({name: np.array([-most, most], np.float32) for name, most in reach.items()})

    def add(self, values: dict[str, NDArray[np.float32]]) -> None:
        self.collect(
            {name: np.clip(values[name], -most, most) for name, most in self.reach.items()}
        )

    def collect(self, values: dict[str, NDArray[np.float32]]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            self.collector.collect(values)

    def cut(self, method: Method) -> dict[str, float]:
        """The largest absolute value without what is rare."""
        if not self.reach:
            return {}
        with contextlib.redirect_stdout(io.StringIO()):
            limits = (
                self.collector.compute_percentile()
                if method == "percentile"
                else self.collector.compute_entropy()
            )
        return {name: float(max(abs(low), abs(high))) for name, (low, high, *_) in limits.items()}


def check_finite(name: str, value: np.floating) -> float:
    if not np.isfinite(value):
        raise DeblurError(
            "--calibration",
            expected="finite activations on every frame",
            found=f"{value} at {name}",
            remedy="this generator's weights are broken: take another checkpoint",
        )
    return float(value)


def read_source(source: Path, limit: int) -> Iterator[tuple[str, Frames]]:
    """Names and frames at their full size."""
    if os.path.isdir(source):
        for path in spread(list_pictures(source), limit):
            yield path.name, to_frame(read_picture(path))
    elif source.suffix.lower() in PICTURE_SUFFIXES and os.path.isfile(source):
        raise too_few(source, "a single picture")
    elif source.suffix.lower() in CLIP_SUFFIXES and os.path.isfile(source):
        stamps, _ = list_stamps(source)
        chosen = spread(stamps, limit)
        for stamp, picture in zip(chosen, read_frames(source, chosen), strict=True):
            place = stamps.index(stamp) + 1
            yield f"{source.name}, frame {place} of {len(stamps)}", to_frame(picture)
    else:
        raise too_few(source, "something else" if os.path.exists(source) else "nothing")


def to_frame(picture: Tensor) -> Frames:
    """Uint8 ``[3, H, W]`` as ``[H, W, 3]``."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def cut_centre(frame: Frames, side: int) -> Frames:
    """At most ``side`` x ``side`` pixels."""
    height, width = frame.shape[:2]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return np.ascontiguousarray(frame[top : top + side, left : left + side])


def too_few(source: Path, found: str) -> DeblurError:
    return DeblurError(
        source,
        expected=f"a folder of at least {FEWEST} pictures, better {ENOUGH}, "
        f"or a video clip ({', '.join(CLIP_SUFFIXES)})",
        found=found,
        remedy="name one with --calibration",
    )
