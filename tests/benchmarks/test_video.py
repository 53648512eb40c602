"""The video job's parts are measured on the frames asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deblurgan.benchmarks.video import VideoJob, cpu_seconds, measure
from deblurgan.runtime.backends import available_threads
from deblurgan.runtime.deblurrer import Deblurrer


@pytest.mark.parametrize(("asked", "measured"), [(5, 5), (100, 12)])
def test_parts_and_whole_are_measured_on_the_frames_asked_for(
    make_clip: Callable[..., Path], negative: Path, tmp_path: Path, asked: int, measured: int
) -> None:
    clip = make_clip(tmp_path / "in.mp4", sound=True)
    with Deblurrer(negative) as deblurrer:
        result = measure(clip, deblurrer, asked)
    assert result.frames == measured
    for seconds in (
        result.decode,
        result.engine,
        result.encode,
        result.wall,
        result.ratio,
        result.in_memory,
        result.frames_a_second,
        result.engine_bound,
    ):
        assert seconds > 0
    assert result.engine_bound <= 1
    assert result.cores == available_threads()
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_the_ratio_is_wall_time_over_the_parts_spread_on_all_cores() -> None:
    job = VideoJob(
        "edge-int8",
        "int8",
        "OpenVINO",
        10,
        1,
        6,
        1,
        wall=4,
        engine_bound=1,
        in_memory=1,
        cores=2,
        temporal=None,
    )
    assert job.ratio == 1
    assert job.frames_a_second == 2.5
    assert replace(job, wall=6).ratio == 1.5


def test_what_flickers_is_told(
    make_clip: Callable[..., Path], negative: Path, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    with Deblurrer(negative) as deblurrer:
        job = measure(clip, deblurrer, 6)
    assert job.temporal is not None
    assert job.temporal.pairs + job.temporal.left_out == 5
    # A negative changes by as much as its picture, the other way round.
    assert job.temporal.output == pytest.approx(job.temporal.input, rel=0.02)


def test_processor_time_is_that_of_the_work() -> None:
    assert cpu_seconds(lambda: None) < 0.05 < cpu_seconds(lambda: sum(range(10_000_000)))
