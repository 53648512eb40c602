"""What TensorRT's Python API has, release by release, without TensorRT.

The bindings of every release load on libraries that hold nothing but the few
symbols they ask for. That is enough to list each class and what it has.

    python tests/runtime/tensorrt/stubs.py make     once; needs pip and gcc
    python tests/runtime/tensorrt/stubs.py names    what they have, as JSON
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Bindings are made for one version of Python.
FOLDER = Path(__file__).resolve().parents[3] / "build/bindings" / sys.implementation.cache_tag
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


@dataclass(frozen=True)
class Release:
    """``requirement`` brings the Python ``module``, which wants ``libraries``."""

    name: str
    requirement: str
    module: str
    libraries: tuple[str, ...]


def tensorrt(name: str, version: str) -> Release:
    major = name.split(".")[0]
    libraries = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
    return Release(
        name,
        f"tensorrt-cu12-bindings=={version}",
        "tensorrt_bindings",
        tuple(f"{library}.so.{major}" for library in libraries),
    )


RELEASES = (
    tensorrt("10.3", "10.3.0"),  # JetPack 6
    tensorrt("10.16", "10.16.1.11"),  # JetPack 7.2
    tensorrt("11.4", "11.4.0.106"),
    Release(
        "rtx-1.7",
        "tensorrt-rtx-cu13-bindings==1.7.1.116",
        "tensorrt_rtx_bindings",
        ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
    ),
)


def make(release: Release) -> None:
    """Put a release's bindings and its empty libraries into a folder of their own."""
    folder = FOLDER / release.name
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--target", str(part), release.requirement], check=True)
    stub = part / "stub.c"
    stub.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for library in release.libraries:
        compiler = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o"]
        subprocess.run([*compiler, str(part / library), str(stub)], check=True)
    part.rename(folder)


def read_names(release: Release) -> dict[str, dict[str, str]] | None:
    """As :func:`list_names`, from a process of its own; None where nothing was made."""
    folder = FOLDER / release.name
    if not folder.is_dir():
        return None
    printed = subprocess.run(
        [sys.executable, __file__, "list", release.module],
        env={**os.environ, "PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names: dict[str, dict[str, str]] = json.loads(printed)
    return names


def list_names(module: str) -> dict[str, dict[str, str]]:
    """Per class (``""`` is the module, nested ones with a dot): its attributes,
    each with the lines of its documentation that show how it is called.
    """
    found: dict[str, dict[str, str]] = {}

    def visit(name: str, thing: Any) -> None:
        found[name] = {}
        for key in dir(thing):
            value = getattr(thing, key, None)
            lines = (getattr(value, "__doc__", None) or "").splitlines()
            found[name][key] = "\n".join(line for line in lines if f"{key}(" in line)
            # Enumerations hold themselves as the class of each member.
            if isinstance(value, type) and not key.startswith("_") and name.count(".") < 1:
                visit(f"{name}.{key}".lstrip("."), value)

    visit("", importlib.import_module(module))
    return found


def main(arguments: list[str]) -> None:
    if arguments == ["make"]:
        for release in RELEASES:
            make(release)
    elif arguments == ["names"]:
        print(json.dumps({release.name: read_names(release) for release in RELEASES}))
    elif arguments[:1] == ["list"] and len(arguments) == 2:
        print(json.dumps(list_names(arguments[1])))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
