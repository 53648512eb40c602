"""The check of aarch64 wheels: what it passes, what it catches, what it says without an index."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("packaging")
requirements = pytest.importorskip("packaging.requirements")

SCRIPT = Path(__file__).with_name("wheels.py")
COMPILED = "cp310-cp310-manylinux_2_35_aarch64"


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deblurgan_wheels", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all there is."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def put_wheel(
    folder: Path, name: str, version: str, tag: str = "py3-none-any", python: str = "", *needs: str
) -> None:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {python}"] if python else []
    lines += [f"Requires-Dist: {need}" for need in needs]
    inside = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{inside}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{inside}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        wheel.writestr(f"{inside}/RECORD", "")


def resolve(wheels: ModuleType, target: object, *asked: str, constraints: str = "") -> list[str]:
    found = wheels.resolve(target, [requirements.Requirement(name) for name in asked], constraints)
    return [f"{wheel.name} {wheel.version}" for wheel in found]


def test_a_wheel_for_the_targets_processor_python_and_c_library_resolves(
    wheels: ModuleType, index: Path
) -> None:
    put_wheel(index, "engine", "1.0", COMPILED)
    assert resolve(wheels, wheels.TARGETS[0], "engine") == ["engine 1.0"]


@pytest.mark.parametrize(
    "tag",
    [
        "cp310-cp310-manylinux_2_28_x86_64",  # another processor
        "cp312-cp312-manylinux_2_28_aarch64",  # another Python
        "cp310-cp310-manylinux_2_36_aarch64",  # a newer C library than JetPack 6 has
    ],
)
def test_a_wheel_that_does_not_fit_is_caught(wheels: ModuleType, index: Path, tag: str) -> None:
    put_wheel(index, "engine", "1.0", tag)
    with pytest.raises(wheels.Unresolved, match="engine"):
        resolve(wheels, wheels.TARGETS[0], "engine")


def test_the_pinned_version_counts_and_not_the_newest(wheels: ModuleType, index: Path) -> None:
    put_wheel(index, "engine", "1.0", COMPILED)
    put_wheel(index, "engine", "2.0", "cp310-cp310-manylinux_2_28_x86_64")
    constraints = 'engine==1.0 ; python_version < "3.11"\nengine==2.0 ; python_version >= "3.11"\n'
    assert resolve(wheels, wheels.TARGETS[0], "engine", constraints=constraints) == ["engine 1.0"]
    with pytest.raises(wheels.Unresolved, match="engine"):
        resolve(wheels, wheels.TARGETS[0], "engine", constraints="engine==2.0")


@pytest.mark.parametrize("number", [0, 1])
def test_markers_are_those_of_the_target(wheels: ModuleType, index: Path, number: int) -> None:
    """One of the two is for another Python than the one that runs this, whichever that is."""
    target = wheels.TARGETS[number]
    need = f'old ; python_version == "{target.python}" and platform_machine == "aarch64"'
    put_wheel(index, "engine", "1.0", "py3-none-any", "", need)
    with pytest.raises(wheels.Unresolved, match="old"):
        resolve(wheels, target, "engine")
    put_wheel(index, "old", "3.0")
    assert sorted(resolve(wheels, target, "engine")) == ["engine 1.0", "old 3.0"]


def test_a_pin_that_needs_a_newer_python_is_caught(wheels: ModuleType, index: Path) -> None:
    put_wheel(index, "plain", "1.0", "py3-none-any", ">=3.12")
    with pytest.raises(wheels.Unresolved, match=r"plain 1\.0 needs Python >=3\.12"):
        resolve(wheels, wheels.TARGETS[0], "plain")
    assert resolve(wheels, wheels.TARGETS[1], "plain") == ["plain 1.0"]


def test_without_an_index_nothing_is_claimed(
    wheels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    good, told = wheels.check(wheels.TARGETS[0])
    assert good
    assert "not checked, no package index answers here" in told


def test_the_runtimes_own_dependencies_are_asked_for(wheels: ModuleType) -> None:
    names = {wanted.name for wanted in wheels.runtime_requirements(wheels.TARGETS[0])}
    assert {"numpy", "av", "opencv-python-headless", "onnxruntime", "openvino"} <= names
    assert "pycuda" not in names
    assert set(wheels.SOURCE_ONLY["pycuda"]) <= names
    assert "torch" not in names


@pytest.mark.parametrize("number", [0, 1])
def test_each_dependency_is_pinned_for_each_target(wheels: ModuleType, number: int) -> None:
    target = wheels.TARGETS[number]
    pinned = wheels.pins((wheels.ROOT / "constraints.txt").read_text(), target)
    names = [pin.split("==")[0] for pin in pinned]
    assert len(names) == len(set(names)), "two pins hold at a time"
    compiled_there = {name for needs in wheels.SOURCE_ONLY.values() for name in needs}
    wanted = {requirement.name for requirement in wheels.runtime_requirements(target)}
    assert wanted - compiled_there <= set(names)


@pytest.mark.slow
def test_the_runtime_installs_on_both_jetpacks() -> None:
    """What ``make wheels`` does; with an index that is far away it takes half a minute."""
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    if "not checked" in done.stdout:
        pytest.skip(done.stdout)
    assert done.stdout.count(" of them for aarch64 (numpy ") == 2
