"""The front: no model is on it that another beats in both, and all others are beaten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deblurgan.benchmarks.drawing import to_png
from deblurgan.benchmarks.latency_rows import percentiles
from deblurgan.benchmarks.report.figures import all_rows, read_all
from deblurgan.benchmarks.report.page import usual_rows
from deblurgan.benchmarks.report.pareto import (
    Point,
    draw_pareto,
    find_front,
    our_points,
    published_points,
)

POINTS = st.lists(st.builds(Point, st.just("a"), st.floats(1e-3, 1e2), st.floats(-5, 5)))


def is_beaten(point: Point, others: list[Point]) -> bool:
    return any(
        other.seconds <= point.seconds
        and other.gain >= point.gain
        and (other.seconds, other.gain) != (point.seconds, point.gain)
        for other in others
    )


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[Point]) -> None:
    front = find_front(points)
    assert not any(is_beaten(point, points) for point in front)
    for point in points:
        assert point in front or is_beaten(point, front)
    assert [p.seconds for p in front] == sorted(p.seconds for p in front)


def test_a_model_is_placed_by_its_fastest_engine(results: Path) -> None:
    readings = read_all([results])
    rows = usual_rows(all_rows(readings.latency))
    slower = replace(rows[0], engine="onnxruntime", frame=percentiles([[0.9]]))
    points = our_points(readings.quality[0].figures, [slower, *rows])
    assert [(p.label, round(p.seconds, 2), round(p.gain, 3)) for p in points] == [
        ("edge", 0.4, 1.25),
        ("edge-int8", 0.09, 1.125),
    ]


def test_what_was_published_comes_once_and_over_the_blurred_input() -> None:
    points = published_points()
    places = [(point.seconds, point.gain) for point in points]
    assert len(set(places)) == len(places) == 7
    comb = next(point for point in points if point.label == "DeblurGAN Comb")
    assert (comb.seconds, round(comb.gain, 2)) == (0.85, 3.1)


def test_it_is_drawn_with_ink() -> None:
    points = [Point("ours", 0.1, 1.0), *published_points()]
    data = np.frombuffer(to_png(draw_pareto(points)), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.std() > 5
