"""Whether the runtime installs on a Jetson: is there an aarch64 wheel for all it depends on?

    python tests/wheels.py     needs pip and a package index; without one it says so

It asks for the versions in constraints.txt, as ``pip install -c constraints.txt`` would
there. pip resolves for another machine, but not quite: markers, and the Python that a
package requires, are those of the interpreter that pip runs on. So the pins are chosen
here, and what pip resolved is read again with the target's eyes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("cpu", "jetson", "ray")
# Compiled on the device against JetPack's own CUDA; what it needs besides has wheels.
SOURCE_ONLY = {"pycuda": ("pytools", "platformdirs", "mako")}
# What pip says of an index that it did not get to, and then "no matching distribution" too.
UNREACHED = re.compile(
    r"Retrying \(|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
    r"|Could not fetch URL|Temporary failure in name resolution"
)
ROUNDS = 4  # each adds what only the target's markers ask for; one or two are enough
PATIENCE = 180  # seconds for one answer of pip's


@dataclass(frozen=True)
class Target:
    """``glibc`` is the minor version of its C library, which a wheel may not exceed."""

    name: str
    python: str
    glibc: int

    @property
    def platforms(self) -> list[str]:
        """Newest first; pip takes each only by its name."""
        newest_first = range(self.glibc, 16, -1)
        return [f"manylinux_2_{minor}_aarch64" for minor in newest_first] + [
            "manylinux2014_aarch64"
        ]

    def applies(self, marker: Marker | None, extras: Iterable[str] = ()) -> bool:
        here = {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": "aarch64",
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }
        return marker is None or any(
            marker.evaluate({**here, "extra": extra}) for extra in ("", *extras)
        )


@dataclass(frozen=True)
class Wheel:
    """What pip would install; ``requires`` as its metadata has it."""

    name: str
    version: str
    file: str
    python: str = ""
    requires: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_compiled(self) -> bool:
        return not self.file.endswith("-any.whl")


class Unreachable(Exception):
    """No package index answers."""


class Unresolved(Exception):
    """There is no set of wheels; the message is pip's."""


TARGETS = (
    Target("JetPack 6", "3.10", glibc=35),  # Ubuntu 22.04
    Target("JetPack 7", "3.12", glibc=39),  # Ubuntu 24.04
)
Install = Callable[[Target, Sequence[str], Sequence[str]], list[Wheel]]


def resolve(
    target: Target,
    requirements: Sequence[Requirement],
    constraints: str,
    install: Install | None = None,
) -> list[Wheel]:
    """The wheels that ``target`` would install. Raises :class:`Unresolved` where one is
    missing or does not fit, :class:`Unreachable` where nobody can be asked.
    """
    pinned = pins(constraints, target)
    asked = [str(requirement) for requirement in requirements]
    for _ in range(ROUNDS):
        wheels = (install or ask_pip)(target, asked, pinned)
        refused = [
            f"{wheel.name} {wheel.version} needs Python {wheel.python}"
            for wheel in wheels
            if wheel.python and not SpecifierSet(wheel.python).contains(f"{target.python}.99")
        ]
        if refused:
            raise Unresolved("; ".join(refused))
        missing = not_resolved(target, wheels)
        if not missing:
            return wheels
        asked += missing
    raise Unresolved(f"still missing after {ROUNDS} rounds: {', '.join(missing)}")


def runtime_requirements(target: Target, distribution: str = "deblurgan-edge") -> list[Requirement]:
    """What the runtime with :data:`EXTRAS` depends on, without what is compiled there."""
    found: list[Requirement] = []
    for line in metadata.requires(distribution) or []:
        requirement = Requirement(line)
        if not target.applies(requirement.marker, EXTRAS):
            continue
        names = SOURCE_ONLY.get(requirement.name)
        requirement.marker = None
        found += [requirement] if names is None else [Requirement(name) for name in names]
    return found


def pins(constraints: str, target: Target) -> list[str]:
    """The lines of a constraints file that hold on ``target``, without their markers."""
    lines = [line.partition("#")[0].strip() for line in constraints.splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    return [
        f"{requirement.name}{requirement.specifier}"
        for requirement in requirements
        if target.applies(requirement.marker)
    ]


def not_resolved(target: Target, wheels: Sequence[Wheel]) -> list[str]:
    """What these wheels require on ``target`` and is not among them."""
    names = {canonicalize_name(wheel.name) for wheel in wheels}
    required = [Requirement(line) for wheel in wheels for line in wheel.requires]
    missing = {
        canonicalize_name(requirement.name): f"{requirement.name}{requirement.specifier}"
        for requirement in required
        if target.applies(requirement.marker) and canonicalize_name(requirement.name) not in names
    }
    return sorted(missing.values())


def ask_pip(target: Target, requirements: Sequence[str], pinned: Sequence[str]) -> list[Wheel]:
    """One dry run of ``pip install``."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        constraints.write_text("\n".join(pinned))
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed",
            "--only-binary", ":all:", "--ignore-requires-python", "--retries", "1",
            "--timeout", "20", "--disable-pip-version-check", "--report", str(report),
            "--constraint", str(constraints), "--target", str(Path(folder, "target")),
            "--implementation", "cp", "--python-version", target.python,
            *(f"--platform={platform}" for platform in target.platforms),
            *requirements,
        ]  # fmt: skip
        # Somebody else's pins are not what is asked about.
        environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE, env=environment,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unreachable(f"no answer in {PATIENCE} s") from None
        if done.returncode == 0:
            return read_report(json.loads(report.read_text()))
    raise explain(done.stderr)


def explain(said: str) -> Unreachable | Unresolved:
    if unreached := UNREACHED.search(said):
        return Unreachable(unreached[0].strip(" ("))
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    return Unresolved(" ".join(errors) or said.strip()[-500:] or "pip gave no reason")


def read_report(report: dict[str, Any]) -> list[Wheel]:
    """pip's installation report, version 1."""
    return [
        Wheel(
            name=entry["metadata"]["name"],
            version=entry["metadata"]["version"],
            file=entry["download_info"]["url"].rsplit("/", 1)[-1],
            python=entry["metadata"].get("requires_python") or "",
            requires=tuple(entry["metadata"].get("requires_dist") or ()),
        )
        for entry in report["install"]
    ]


def check(target: Target) -> tuple[bool, str]:
    """Whether it installs there as far as one can know, and what to tell."""
    title = f"{target.name} (Python {target.python}, glibc 2.{target.glibc})"
    constraints = (ROOT / "constraints.txt").read_text()
    try:
        wheels = resolve(target, runtime_requirements(target), constraints)
    except Unreachable as reason:
        return True, f"{title}: not checked, no package index answers here ({reason})"
    except Unresolved as reason:
        return False, f"{title}: no set of aarch64 wheels: {reason}"
    compiled = [f"{wheel.name} {wheel.version}" for wheel in wheels if wheel.is_compiled]
    return True, (
        f"{title}: {len(wheels)} wheels, {len(compiled)} of them for aarch64 "
        f"({', '.join(compiled)}); compiled on the device: {', '.join(SOURCE_ONLY)}"
    )


def main() -> None:
    with ThreadPoolExecutor(len(TARGETS)) as threads:
        results = list(threads.map(check, TARGETS))
    for _, told in results:
        print(told)
    raise SystemExit(0 if all(good for good, _ in results) else 1)


if __name__ == "__main__":
    main()
