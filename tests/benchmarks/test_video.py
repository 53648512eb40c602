"""The video job's parts are measured on the frames asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deblurgan.benchmarks.video import Efficiency, cpu_seconds, measure
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
    ):
        assert seconds > 0
    assert result.cores == available_threads()
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_the_ratio_is_wall_time_over_the_parts_spread_on_all_cores() -> None:
    assert Efficiency(10, decode=1, engine=6, encode=1, wall=4, in_memory=1, cores=2).ratio == 1
    assert Efficiency(10, decode=1, engine=6, encode=1, wall=6, in_memory=1, cores=2).ratio == 1.5


def test_processor_time_is_that_of_the_work() -> None:
    assert cpu_seconds(lambda: None) < 0.05 < cpu_seconds(lambda: sum(range(10_000_000)))
