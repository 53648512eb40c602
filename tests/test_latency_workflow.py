"""The workflow that guards the speed calls the gate as it can be called."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from deblurgan.benchmarks import app as bench
from deblurgan.benchmarks.gate import Outcome
from deblurgan.runtime import console

ROOT = Path(__file__).resolve().parents[1]
README, WORKFLOW = ROOT / "README.md", ROOT / ".github/workflows/latency.yml"


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


def readmes_steps() -> str:
    """What README shows for somebody's own CI."""
    (steps,) = re.findall(r"^```yaml\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    return str(steps)


def test_it_knows_the_status_of_inconclusive() -> None:
    assert f'"$status" = {Outcome.INCONCLUSIVE.value} ]' in WORKFLOW.read_text()


@pytest.mark.parametrize("outcome", Outcome)
def test_readmes_steps_fail_for_a_regression_alone(outcome: Outcome, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    *before, gate = [step["run"] for step in yaml.safe_load(readmes_steps()) if "run" in step]
    assert any('pip install "./tools[cpu]"' in command for command in before)
    (tmp_path / "deblur-bench").write_text(f"#!/bin/sh\nexit {outcome.value}\n")
    (tmp_path / "deblur-bench").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(  # as GitHub runs a step
        ["bash", "-e", "-c", gate], env={"PATH": path}, capture_output=True, text=True, check=False
    )
    passes = outcome is not Outcome.REGRESSION
    assert done.returncode == (0 if passes else outcome.value)
    assert ("::warning::" in done.stdout) == (outcome is Outcome.INCONCLUSIVE)


def test_it_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]["steps"]
    assert all({"run", "uses"} & set(step) for step in steps)
