"""The lean runtime is lean: what it imports, and what installing it brings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HEAVY = {"torch", "onnx", "scipy", "matplotlib", "lightning", "skimage"}


@pytest.mark.parametrize("module", ["deblurgan.runtime", "deblurgan.runtime.app"])
def test_importing_the_runtime_loads_nothing_heavy(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "print(*{name.split('.')[0] for name in sys.modules})\n"
        "print('MAPS', open('/proc/self/maps').read() if sys.platform == 'linux' else '')"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    modules, maps = printed.split("MAPS")
    assert HEAVY.isdisjoint(modules.split())
    assert not re.search(r"libGL\.|libQt|libgtk", maps), "OpenCV's windows are loaded"


@pytest.mark.parametrize("before", ["", "import openvino_telemetry"])
def test_openvino_reports_no_use_of_it(before: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    program = (
        f"import sys; {before or 'pass'}\n"
        "was = sys.modules.get('openvino_telemetry')\n"
        "from deblurgan.runtime.backends.openvino import openvino\n"
        "assert sys.modules.get('openvino_telemetry') is was\n"
        "assert openvino.convert_model\n"
        "from openvino.tools.ovc.telemetry_utils import tm\n"
        "print(tm.__name__)"
    )
    home = {name: value for name, value in os.environ.items() if name != "CI"}
    printed = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=home | {"HOME": str(tmp_path)},
    ).stdout
    assert printed == "openvino.tools.ovc.telemetry_stub\n"
    assert not list(tmp_path.iterdir())


def test_installing_the_cpu_runtime_brings_nothing_heavy() -> None:
    assert "openvino" in requirements("deblurgan-edge", {"cpu"})
    assert HEAVY.isdisjoint(requirements("deblurgan-edge", {"cpu"}))


def requirements(distribution: str, extras: set[str]) -> set[str]:
    """Everything that installing a distribution brings, as far as it is installed here."""
    requirement = pytest.importorskip("packaging.requirements").Requirement
    seen: set[str] = set()

    def visit(name: str, extras: set[str]) -> None:
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            return
        for line in map(requirement, lines):
            wanted = line.marker is None or any(
                line.marker.evaluate({"extra": extra}) for extra in extras | {""}
            )
            if wanted and line.name.lower() not in seen:
                seen.add(line.name.lower())
                visit(line.name, set(line.extras))

    visit(distribution, extras)
    return seen
