"""The workflow that guards the speed calls the gate as it can be called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deblurgan.benchmarks import app as bench
from deblurgan.benchmarks.gate import Outcome
from deblurgan.runtime import console

WORKFLOW = Path(__file__).resolve().parents[1] / ".github/workflows/latency.yml"


def test_its_options_are_the_gates(capsys: pytest.CaptureFixture[str]) -> None:
    text = WORKFLOW.read_text().replace("\\\n", " ")
    commands = [line for line in text.splitlines() if re.search(r"deblur-bench gate --\w", line)]
    assert len(commands) == 2
    assert console.run(bench.app, ["gate", "--help"]) == 0
    options = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    for command in commands:
        assert set(re.findall(r" (--[\w-]+)", command)) <= options
    # A baseline of another reference would be refused.
    references = {re.findall(r"--reference (\w+)", command)[0] for command in commands}
    assert len(references) == 1


def test_it_knows_the_status_of_inconclusive() -> None:
    assert f'"$status" = {Outcome.INCONCLUSIVE.value} ]' in WORKFLOW.read_text()


def test_it_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]["steps"]
    assert all({"run", "uses"} & set(step) for step in steps)
