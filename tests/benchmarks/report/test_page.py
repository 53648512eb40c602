"""The page: every figure on it, nothing elsewhere, and looked at in a real browser."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jinja2")

from deblurgan.benchmarks.latency_rows import Row
from deblurgan.benchmarks.report.figures import Readings, read_all
from deblurgan.benchmarks.report.page import Shown, draw_page, usual_rows
from deblurgan.export.page import compare

EVIL = '<script src="http://evil.example/x.js">alert(1)</script>&"\'{{ 7 * 7 }}'


@pytest.fixture
def readings(results: Path) -> Readings:
    return read_all([results])


@pytest.fixture
def html(readings: Readings) -> str:
    random = np.random.default_rng(0)
    blurred, sharp = random.integers(0, 256, (2, 90, 160, 3), np.uint8)
    return draw_page(readings, EVIL, EVIL, Shown(compare(blurred, sharp), EVIL, "edge"))


def test_names_are_escaped_wherever_they_stand(html: str, elements: Any) -> None:
    page = elements(html)
    assert [attributes for tag, attributes in page.found if tag == "script"] == [{}]
    assert page.text.count(EVIL) >= 6


def test_nothing_of_the_page_is_elsewhere(html: str, elements: Any) -> None:
    for _, attributes in elements(html).found:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import", html)


def test_every_figure_is_there(html: str, elements: Any) -> None:
    text = " ".join(elements(html).text.split())
    for said in (
        "90.9 ms", "167×", "+1.25 dB", "edge-int8 OpenVINO", "90.9 ~", "1280×720", "640×360",
        "9.00 GB/s", "GPU: none", "gopro, 2 pairs", "kodak with eval-v1",
        "45.50", "∞", "3 references of yolox.onnx", "−0.010 to +0.200", "0.857", "2.25", "96 %",
        "5.25", "5.50", "+1.3 %", "pass", "training.json (training)", "28.70", "0.85",
        "1,111 pairs", "over 25.6 dB",
    ):  # fmt: skip
        assert said in text, said


def test_a_page_of_one_result_is_whole(results: Path) -> None:
    for name in ("latency-720p", "pairs", "sharp", "detection", "video", "gate"):
        page = draw_page(read_all([results / f"{name}.json"]), "one")
        assert page.count("<h2>") == 2, name
        assert 'class="slider"' not in page


def test_the_usual_size_is_shown_or_the_largest(readings: Readings) -> None:
    rows = list(readings.latency[0].figures.rows)
    assert {(row.width, row.height) for row in usual_rows(rows)} == {(1280, 720)}
    smaller = [row for row in rows if row.width != 1280]
    assert {(row.width, row.height) for row in usual_rows(smaller)} == {(640, 360)}
    refused: list[Row] = [row for row in rows if row.frame is None]
    assert usual_rows(refused) == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "dark")])
def test_a_browser_shows_it_whole(width: int, scheme: str, html: str, look: Any) -> None:
    looked = look(html, width, scheme)
    looked.check()
    assert looked.widths[:2] == [160, 160]
    assert len(looked.widths) >= 6
    assert len(looked.contrasts) > 100


def test_the_slider_uncovers_the_picture(html: str, move_slider: Any) -> None:
    assert move_slider(html, "20") == ("inset(0px 0px 0px 50%)", "inset(0px 0px 0px 20%)")


def test_drawings_follow_the_readers_colours(html: str) -> None:
    drawings = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", html)
    assert len(drawings) >= 4
    for drawing in drawings:
        svg = base64.b64decode(drawing).decode()
        assert "prefers-color-scheme: dark" in svg
        assert "#000000" not in svg


def change(file: Path, **values: Any) -> None:
    """Of all rows of a latency."""
    content = json.loads(file.read_text())
    for row in content["figures"]["rows"]:
        row.update(values)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("values", [{"batch": 4}, {"stream": True}, {"multiply_adds": None}])
def test_a_latency_of_batches_or_streams_alone_has_its_table(
    values: dict[str, Any], results: Path
) -> None:
    file = results / "latency-720p.json"
    change(file, **values)
    assert "All 5 rows" in draw_page(read_all([file]), "batches")


def test_a_dollar_in_a_name_is_no_formula(results: Path) -> None:
    for name in ("photos", "pairs"):
        content = json.loads((results / f"{name}.json").read_text())
        content["figures"]["folder"] = content["figures"]["models"][0]["model"] = "cash$_$x"
        (results / f"{name}.json").write_text(json.dumps(content))
    change(results / "latency-720p.json", model="cash$_$x")
    assert "cash$_$x" in draw_page(read_all([results]), "dollars")


def test_the_front_is_of_the_usual_size_where_it_was_measured(results: Path) -> None:
    smaller = results / "a-latency.json"
    smaller.write_text((results / "latency-720p.json").read_text())
    change(smaller, width=320, height=180)
    assert "seconds of a frame of 1280×720" in draw_page(read_all([results]), "front")


@pytest.mark.parametrize("size", [(4000, 1), (60, 20_000)])
def test_pictures_of_odd_shapes_fit_the_page(size: tuple[int, int]) -> None:
    width, height = size
    shown = compare(*np.zeros((2, height, width, 3), np.uint8))
    assert shown.width >= 1
    assert shown.height >= 1
    assert shown.before.startswith("data:image/webp")
