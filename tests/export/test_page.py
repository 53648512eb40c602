"""The page: escaped, self-contained, and looked at in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
import pytest

from deblurgan.export.ladder.machine import Machine
from deblurgan.export.ladder.page import TEMPLATE, draw_page
from deblurgan.export.ladder.report import (
    SCHEMA,
    Crop,
    Fidelity,
    Folder,
    LadderReport,
    Latency,
    Plan,
    Quality,
    Run,
    Rung,
    Speed,
    Subject,
    Timing,
    Worst,
)
from deblurgan.export.ladder.scores import Scores, ShownCrop, ShownPair
from deblurgan.export.page import ENGINES, figure, picture_uri, render_page, signed, significant
from deblurgan.runtime.backends import AUTO, NAMES
from deblurgan.runtime.contract import Frames
from deblurgan.runtime.tensorrt.plan_model import BACKENDS

EVIL = '<script src="http://evil.example/x.js">alert(1)</script>&"\'{{ 7 * 7 }}'
LONG = "a_very_long_name_of_a_picture_without_any_place_to_break_it_" * 4 + ".png"


def make_report() -> LadderReport:
    latency = Latency(30, 0.0123456, 0.02, 0.03)
    near = Fidelity(2, 1, 0.001, 0.01, math.inf, 1.0)
    far = Fidelity(2, 9, 0.4, 0.3, 51.5, 0.998)

    def run(engine: str, speed: Speed | None, fidelity: Fidelity, drop: float) -> Run:
        return Run(
            engine, f"{engine} 1.0", None, speed, "" if speed else "for GPUs: not timed here",
            fidelity, (Quality(EVIL, 24.5 - drop, 0.78, drop, 0.0001), Quality("b", 1, 1, 0, 0)),
        )  # fmt: skip

    layers = [
        {"name": "head.1", "kind": "Conv", "int8": True, "reason": "in", "cost_db": -0.0004},
        {"name": EVIL, "kind": "Conv", "int8": False, "reason": EVIL, "cost_db": None},
    ]
    story = {
        "method": "entropy",
        "methods": {"entropy": {"psnr": 30.5}, "min-max": {"psnr": 30.25}},
        "layers": layers,
        "drop": {"psnr": 0.01, "ssim": 0.0001},
        "pairs": 1,
    }
    planned = run("tensorrt", Speed(latency, 5.0, 400.0), far, 0.01)
    plan = Plan("edge-int8.plan", 10**6, "TensorRT 10.3", "Orin", 12.5)
    return LadderReport(
        schema=SCHEMA,
        made="2026-01-02T03:04:05+00:00",
        title=EVIL,
        note="Briefly trained. " + EVIL,
        subject=Subject("edge", {"channels": 48}, 1_822_656, "0" * 64, {"recipe": "tiny"}),
        machine=Machine("A CPU", ("avx2",), 2, 2**34, "Linux x86_64", "3.11", {"onnx": "1"}, ()),
        timing=Timing(
            1280, 720, 10.0, 3, 2, Latency(3, 0.5, 0.5, 0.5), Latency(3, 15, 16, 17), False
        ),
        folders=(Folder(EVIL, 2, 3, 1, None, 24.0, 0.77), Folder("b", 1, 1, 1, "eval-v1", 1, 1)),
        calibrated="the 2 blurred pictures of a",
        tuned="the 2 pairs of a",
        warnings=("a gives 2 calibration pictures; " + EVIL,),
        rungs=(
            Rung("fp32", "edge.onnx", 7_300_000, "1" * 64, {},
                 (run("openvino", Speed(Latency(30, 0.04, 0.05, 0.06), 40.0, 375.0), near, 0.0),)),
            Rung("fp16", "edge-fp16.onnx", 3_650_000, "2" * 64, {},
                 (run("onnxruntime", None, near, -0.0001),)),
            Rung("int8", "edge-int8.onnx", 1_900_000, "3" * 64, story,
                 (run("openvino", Speed(latency, 90.0, 2000.0), far, 0.013),
                  dataclasses.replace(planned, plan=plan))),
        ),
        missing=("onnxruntime-cuda: built without CUDA",),
        worst=Worst("fp32", "int8", "openvino", (Crop(EVIL, LONG, 3, 4, 32, 24, 1.5),)),
    )  # fmt: skip


def make_scores(report: LadderReport) -> Scores:
    random = np.random.default_rng(0)

    def picture(height: int, width: int) -> Frames:
        return random.integers(0, 256, (height, width, 3), np.uint8)

    assert report.worst is not None
    crop = ShownCrop(report.worst.crops[0], *(picture(24, 32) for _ in range(5)))
    return Scores([], [], [crop], ShownPair(EVIL, LONG, picture(90, 160), picture(90, 160)))


@pytest.fixture(scope="module")
def html() -> str:
    report = make_report()
    return draw_page(report, make_scores(report))


def test_names_are_escaped_wherever_they_stand(html: str, elements: Any) -> None:
    elements = elements(html)
    assert [attributes for tag, attributes in elements.found if tag == "script"] == [{}]
    assert elements.text.count(EVIL) >= 6
    alternatives = {attributes.get("alt") for tag, attributes in elements.found if tag == "img"}
    assert f"sharp: {LONG}" in alternatives


def test_nothing_of_the_page_is_elsewhere(html: str, elements: Any) -> None:
    for tag, attributes in elements(html).found:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            target = attributes.get(name) or "data:"
            assert target.startswith("data:") or (tag, target) == ("a", "ladder.json")
    assert not re.search(r"url\(|@import", html)


def test_every_figure_is_there(html: str, elements: Any) -> None:
    text = " ".join(elements(html).text.split())
    for said in (
        "12.3", "2,000×", "1,822,656", "0.013", "for GPUs: not timed here", "∞", "head.1",
        "the 2 blurred pictures of a", "times amplified", "2026-01-02", "7.30", "26 %",
        "entropy (30.500 dB)", "1 of 2 layers", "TensorRT 10.3 on Orin, built in 12.5 s",
        "onnxruntime-cuda: built without CUDA", "a gives 2 calibration pictures",
        "128 pixels wide and high or as large as a smaller picture is",
    ):  # fmt: skip
        assert said in text, said


def test_a_page_without_int8_and_without_other_rungs_is_whole() -> None:
    report = make_report()
    report = dataclasses.replace(report, rungs=report.rungs[:1], worst=None, note="", title="edge")
    page = draw_page(report, Scores([], [], [], None))
    assert "What is int8" not in page
    assert "Where" not in page
    assert 'class="note"' not in page


def test_of_the_papers_own_generator_there_is_one_ratio() -> None:
    report = make_report()
    timing = dataclasses.replace(report.timing, is_paper=True)
    page = draw_page(dataclasses.replace(report, timing=timing), make_scores(report))
    assert "this generator (the paper’s)" in page
    assert "× PyTorch,<br>this generator" not in page


def test_a_value_that_the_template_wants_must_be_given() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_page(TEMPLATE)


def test_pictures_come_back_out_of_their_uris() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (9, 14, 3), np.uint8)
    for kind, largest in (("detail", 0), ("photograph", 200)):
        start, data = picture_uri(picture, kind).split(",")  # type: ignore[arg-type]
        assert start == "data:image/webp;base64"
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert np.abs(decoded[:, :, ::-1].astype(int) - picture).max() <= largest


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (figure(-0.004, 2), "0.00"),
        (figure(-0.006, 2), "−0.01"),
        (figure(math.inf), "∞"),
        (signed(0.3811), "+0.38"),
        (signed(-0.3811), "−0.38"),
        (signed(-0.001), "0.00"),
        (significant(0.06683), "0.0668"),
        (significant(40.47), "40.5"),
        (significant(1234.5), "1,234"),
        (significant(0), "0"),
    ],
)
def test_figures_are_set_for_readers(made: str, expected: str) -> None:
    assert made == expected


def test_every_engine_and_every_kind_of_plan_has_a_name_for_readers() -> None:
    assert set(ENGINES) == set(NAMES) - {AUTO}
    assert set(BACKENDS.values()) < set(ENGINES)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "dark")])
def test_a_browser_shows_it_whole(width: int, scheme: str, html: str, look: Any) -> None:
    looked = look(html, width, scheme)
    looked.check()
    assert looked.widths == [160, 160, *[32] * 5]
    assert len(looked.contrasts) > 100


def test_the_slider_uncovers_the_picture(html: str, move_slider: Any) -> None:
    assert move_slider(html, "80") == ("inset(0px 0px 0px 50%)", "inset(0px 0px 0px 80%)")


def test_the_browser_itself_refuses_what_is_elsewhere(
    html: str, browser: Any, tmp_path: Path
) -> None:
    """Were a name not escaped one day, the page's own policy would still hold."""
    spoilt = html.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>')
    (tmp_path / "ladder.html").write_text(spoilt)
    page, failures = browser.new_page(), []
    page.on("requestfailed", lambda request: failures.append(request.failure))
    page.goto((tmp_path / "ladder.html").as_uri())
    assert failures == ["csp"]
    page.close()
