"""The video job: its wall time next to what its parts cost alone, and whether it flickers."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deblurgan.benchmarks.speed import seconds
from deblurgan.benchmarks.stream import run_overlapping
from deblurgan.runtime.backends import Backend, available_threads
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.flicker import FlickerMeter, TemporalError
from deblurgan.runtime.pipeline import Frame, StageClock, run_pipeline
from deblurgan.runtime.video.codecs import Encoding
from deblurgan.runtime.video.deblur import deblur_video
from deblurgan.runtime.video.sink import VideoSink
from deblurgan.runtime.video.source import VideoSource

ROUNDS = 5


@dataclass(frozen=True)
class VideoJob:
    """CPU seconds of each part measured alone, and the whole job's wall seconds, of a model's
    file on the engine ``engine_name``.

    ``ratio`` is wall / (sum of the parts / cores): 1 is a machine that never
    waits and pays nothing for putting the parts together. ``engine_bound`` is the share of
    the wall time that the engine was at work; ``in_memory`` is the rate of the pipeline, with
    decoded frames and no encoder, next to that of the engine alone. ``temporal`` is of every
    two frames that follow each other; None where none could be compared.
    """

    model: str
    precision: str
    engine_name: str
    frames: int
    decode: float
    engine: float
    encode: float
    wall: float
    engine_bound: float
    in_memory: float
    cores: int
    temporal: TemporalError | None

    @property
    def frames_a_second(self) -> float:
        return self.frames / self.wall

    @property
    def ratio(self) -> float:
        return self.wall * self.cores / (self.decode + self.engine + self.encode)


def measure(clip: Path, deblurrer: Deblurrer, frames: int = 100) -> VideoJob:
    """Run the parts and the whole on the first ``frames`` frames of a clip."""
    with VideoSource(clip) as source, tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mkv"
        backend = deblurrer.engine(*source.size, overlap=True)
        backend.run(next(iter(source)).pixels[None])
        decode, decoded = decode_alone(clip, frames)
        sharp: list[Frames] = []
        pictures = [frame.pixels[None] for frame in decoded]
        engine = cpu_seconds(lambda: sharp.extend(run_overlapping(backend, pictures)))
        encode = cpu_seconds(lambda: encode_alone(source, decoded, sharp, out))
        wall, engine_bound = whole(clip, frames, backend, out)
    return VideoJob(
        backend.model.path.stem,
        backend.model.card.precision,
        backend.description,
        len(decoded),
        decode,
        engine,
        encode,
        wall,
        engine_bound,
        compare_rates(backend, decoded),
        available_threads(),
        measure_flicker(decoded, sharp),
    )


def decode_alone(clip: Path, frames: int) -> tuple[float, list[Frame]]:
    decoded: list[Frame] = []
    with VideoSource(clip) as source:
        used = cpu_seconds(lambda: decoded.extend(itertools.islice(source, frames)))
    return used, decoded


def encode_alone(source: VideoSource, decoded: list[Frame], sharp: list[Frames], out: Path) -> None:
    with VideoSink(out, source, Encoding()) as sink:
        for frame, pixels in zip(decoded, sharp, strict=True):
            sink.write(frame.origin, frame.pixels, pixels[0])
        sink.commit()


def measure_flicker(decoded: list[Frame], sharp: list[Frames]) -> TemporalError | None:
    meter = FlickerMeter(every=1)
    for frame, pixels in zip(decoded, sharp, strict=True):
        meter.watch(frame.pixels, pixels[0])
    return meter.error


def compare_rates(backend: Backend, decoded: list[Frame]) -> float:
    """The engine's time alone by the pipeline's: the median of rounds in turn."""
    pictures, ratios = [frame.pixels[None] for frame in decoded], []
    for _ in range(ROUNDS):
        alone = seconds(lambda: run_overlapping(backend, pictures))
        ratios.append(alone / seconds(lambda: run_pipeline(decoded, backend, lambda _: None)))
    return statistics.median(ratios)


def whole(clip: Path, frames: int, backend: Backend, out: Path) -> tuple[float, float]:
    """Wall seconds, and the share of them that the engine was at work."""
    start, clock = time.monotonic(), StageClock()
    with VideoSource(clip) as source, VideoSink(out, source, Encoding()) as sink:
        deblur_video(
            source, sink, backend, clock=clock, sieve=lambda all_: itertools.islice(all_, frames)
        )
        engine_bound = clock.share("engine")
    return time.monotonic() - start, engine_bound


def cpu_seconds(work: Any) -> float:
    """Processor time of the whole process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def as_figures(job: VideoJob) -> dict[str, Any]:
    """For the file of results."""
    figures = {**asdict(job), "ratio": job.ratio, "frames_a_second": job.frames_a_second}
    if job.temporal is not None:
        figures["temporal"]["ratio_for_contrast"] = job.temporal.ratio_for_contrast
    return figures
