"""README and model cards: every link leads somewhere, nothing is left to fill in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "examples/README.md",
    ROOT / "docs/benchmarks.md",
    ROOT / "docs/edge.md",
    ROOT / "docs/jetson.md",
    ROOT / "docs/python.md",
    ROOT / "docs/ladder/README.md",
    *(ROOT / "runtime/models").glob("*.md"),
]
TABLED = [ROOT / "README.md", ROOT / "runtime/models/edge.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_local_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_left_to_fill_in(document: Path) -> None:
    left = r"^[A-Z]{3,}(_[A-Z]+)*$|TODO|FIXME|\bXX+\b"
    assert not re.search(left, document.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "model", sorted((ROOT / "runtime/models").glob("*.onnx")), ids=lambda p: p.stem
)
def test_every_shipped_model_has_its_card(model: Path) -> None:
    assert model.with_name(model.stem.rpartition("-")[0] + ".md").is_file()


@pytest.mark.parametrize("document", TABLED, ids=lambda path: path.name)
def test_tables_are_what_the_results_say(document: Path) -> None:
    documents = pytest.importorskip("deblurgan.benchmarks.report.documents")
    text = document.read_text()
    assert "<!-- table " in text
    assert documents.fill(document, ROOT / "benchmarks/results") == text, "run: make tables"


def test_the_page_is_what_the_results_say(elements: Any) -> None:
    figures = pytest.importorskip("deblurgan.benchmarks.report.figures")
    page = pytest.importorskip("deblurgan.benchmarks.report.page")
    kit = pytest.importorskip("deblurgan.export.page")
    results = ROOT / "benchmarks/results"
    committed = elements((results / "report.html").read_text()).text
    picture, model = re.findall(r"Drag the edge\. (\S+), deblurred by ([\w-]+)\.", committed)[0]
    pixels = np.zeros((2, 2, 3), np.uint8)
    shown = page.Shown(kit.compare(pixels, pixels), picture, model)
    drawn = page.draw_page(figures.read_all([results]), "DeblurGAN for the edge", "", shown)
    assert elements(drawn).text == committed, "run: deblur-bench report benchmarks/results"
