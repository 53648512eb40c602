"""Curves of runs, drawn from their logs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deblurgan.benchmarks.app import app
from deblurgan.benchmarks.curves import column, draw_curves, read_log, smooth
from deblurgan.benchmarks.drawing import to_png
from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError

LOG = """step,samples,content,pixel,gain_db
1,8,2.0,,
2,16,1.0,,
2,16,,,-0.5
3,24,0.5,,
3,24,,,0.4
"""


def test_the_columns_have_the_rows_that_hold_a_value(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    rows = read_log(tmp_path / "log.csv")
    assert column(rows, "content") == [(8, 2), (16, 1), (24, 0.5)]
    assert column(rows, "gain_db") == [(16, -0.5), (24, 0.4)]
    assert column(rows, "pixel") == []


def test_smoothing_takes_means_of_neighbours() -> None:
    points = [(float(i), float(i % 2)) for i in range(200)]
    assert smooth(points)[:2] == [(9.0, 0.5), (19.0, 0.5)]
    assert smooth([(1.0, 3.0)]) == [(1.0, 3.0)]


def test_a_picture_is_drawn_with_ink_in_both_halves(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    picture = cv2.imdecode(
        np.frombuffer(to_png(draw_curves([tmp_path])), np.uint8), cv2.IMREAD_COLOR
    )
    left, right = np.array_split(picture, 2, axis=1)
    assert left.std() > 5
    assert right.std() > 5


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [tmp_path / parent / name for parent, name in (("a", "x"), ("b", "x"), ("b", "_y"))]
    for run in runs:
        run.mkdir(parents=True)
        (run / "log.csv").write_text(LOG)
    loss, gain = draw_curves(runs).axes
    names = ["a/x", "b/x", "y"]
    assert [text.get_text() for text in gain.get_legend().get_texts()] == names
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels == [f"{name}: content loss" for name in names]


def test_a_loss_in_db_falls_where_it_gets_better(tmp_path: Path) -> None:
    log = LOG.replace("2.0", "-15").replace("1.0", "-20").replace("0.5,,\n3", "-25,,\n3")
    (tmp_path / "log.csv").write_text(log)
    axes = draw_curves([tmp_path]).axes[0]
    assert [float(y) for y in axes.lines[0].get_ydata()] == [0, -5, -10]
    assert axes.get_title() == "loss, less its first value"


@pytest.mark.parametrize(
    "content", [b"step,samples,gain_db\n1,8,\xff\n", b"step,samples,gain_db\n1,,0.5\n"]
)
def test_a_damaged_log_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(DeblurError, match=r"log\.csv: expected the log of a run"):
        draw_curves([tmp_path])


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match=r"log\.csv: expected the log of a run"):
        draw_curves([tmp_path])
    (tmp_path / "log.csv").write_text("step,samples,gain_db\n1,8,\n")
    with pytest.raises(DeblurError, match="validated at least once"):
        draw_curves([tmp_path])


def test_the_command_says_what_it_drew_and_replaces_only_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    picture = tmp_path / "curves.png"
    words = ["curves", str(tmp_path), "-o", str(picture)]
    assert console.run(app, words) == console.run(app, words) == 0
    assert capsys.readouterr().out == f"{picture}: 1 run\n" * 2
    cv2.imwrite(str(picture), np.zeros((9, 9, 3), np.uint8))
    before = picture.read_bytes()
    assert console.run(app, words) == 2
    assert "expected a new name, or that of an earlier drawing" in capsys.readouterr().err
    assert picture.read_bytes() == before
