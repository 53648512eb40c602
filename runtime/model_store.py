"""The models that the package ships, by name, and others by their path.

A shipped model is there in several precisions, one file each, and each engine
gets the one that is meant for it. ``edge-int8`` names a single one of them.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from deblurgan.runtime.contract import PRECISIONS, Model, open_model
from deblurgan.runtime.errors import DeblurError

FOLDER = Path(__file__).parent / "models"
CHECKSUMS = "SHA256SUMS"
DEFAULT = "edge"
REFERENCE = "fp32"  # what the other precisions are held against
# By engine; the others get the reference. ONNX Runtime's int8 is slower than its fp32 on
# processors.
MEANT_FOR = {
    "tensorrt": "fp16",
    "tensorrt-rtx": "fp16",
    "onnxruntime-cuda": "fp16",
    "openvino": "int8",
}
# Where OpenVINO's int8 has been measured.
MEASURED = ("x86_64", "AMD64")
FILE = re.compile(rf"(.+)-({'|'.join(sorted(PRECISIONS, key=len, reverse=True))})")


@dataclass(frozen=True)
class ShippedFile(Model):
    """A shipped model in one precision, ``edge-int8`` for example."""

    name: str

    @property
    def reference(self) -> str:
        return self.name


@dataclass(frozen=True)
class ShippedModel(ShippedFile):
    """A shipped model in all its precisions; by itself it is the fp32 file."""

    def best_for(self, engine: str) -> Model:
        precision = MEANT_FOR.get(engine, REFERENCE)
        if precision == "int8" and platform.machine() not in MEASURED:
            precision = REFERENCE
        return self.in_precision(precision)

    def in_precision(self, precision: str) -> Model:
        return open_shipped(f"{self.name}-{precision}")


def find_model(name: str | Path = DEFAULT) -> Model:
    """Open a shipped model by its name, or a contract file or a plan by its path.

    A plan is a model for one backend and for the sizes that it was built for; its sidecar
    has to be beside it. Raises :class:`DeblurError` where there is no such model.
    """
    if Path(name).suffix == ".plan":
        from deblurgan.runtime.tensorrt.plan_model import open_plan_model

        return open_plan_model(Path(name))
    if Path(name).suffix:
        return open_model(Path(name))
    files = [match for path in FOLDER.glob("*.onnx") if (match := FILE.fullmatch(path.stem))]
    names = sorted({match[1] for match in files})
    stems = sorted(match[0] for match in files)
    if str(name) in names:
        model = open_shipped(f"{name}-{REFERENCE}")
        return ShippedModel(model.path, model.card, model.size, str(name))
    if str(name) in stems:
        return open_shipped(str(name))
    raise DeblurError(
        "--model",
        expected=f"a shipped model ({', '.join(names)}, or in one precision "
        f"{', '.join(stems)}) or a path of an .onnx or .plan file",
        found=str(name),
        remedy="leave it out for the default",
    )


def open_shipped(stem: str) -> ShippedFile:
    """A single file; raises :class:`DeblurError` where it is not the one that was shipped."""
    path, checksums = FOLDER / f"{stem}.onnx", FOLDER / CHECKSUMS
    try:
        wanted = dict(line.split("  ")[::-1] for line in checksums.read_text().splitlines())
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no list of checksums"
        raise damaged(checksums, said.lower()) from None
    try:
        stamp = path.stat().st_mtime_ns
        return open_checked(path, wanted.get(path.name, ""), stamp)
    except OSError as error:
        raise damaged(path, (error.strerror or str(error)).lower()) from None


@functools.lru_cache
def open_checked(path: Path, wanted: str, _stamp: int) -> ShippedFile:
    """Read once for as long as it stays the same: every size and every engine ask for it."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted:
        raise damaged(path, f"another, with SHA-256 {found[:12]}…")
    model = open_model(path)
    return ShippedFile(path, model.card, model.size, path.stem)


def damaged(path: Path, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected="the file that the package ships",
        found=found,
        remedy="install the package again",
    )
