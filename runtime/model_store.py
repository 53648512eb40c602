"""The models that the package ships, by name, and others by their path.

A shipped model is there in several precisions, one file each, and each engine
gets the one that it is fastest with. ``edge-int8`` names a single one of them.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.errors import DeblurError

FOLDER = Path(__file__).parent / "models"
CHECKSUMS = "SHA256SUMS"
DEFAULT = "edge"
REFERENCE = "fp32"  # what the other precisions are held against
# By engine. ONNX Runtime's int8 is slower than its fp32 on processors.
FASTEST = {
    "tensorrt": "fp16",
    "tensorrt-rtx": "fp16",
    "onnxruntime-cuda": "fp16",
    "openvino": "int8",
}
# Where OpenVINO's int8 has been measured.
MEASURED = ("x86_64", "AMD64")


@dataclass(frozen=True)
class ShippedModel(Model):
    """A shipped model in all its precisions; by itself it is the fp32 file."""

    name: str

    @property
    def reference(self) -> str:
        return self.name

    def best_for(self, engine: str) -> Model:
        precision = FASTEST.get(engine, REFERENCE)
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
    files = sorted(path.stem for path in FOLDER.glob("*.onnx"))
    names = sorted({file.rpartition("-")[0] for file in files})
    if name in names:
        model = open_shipped(f"{name}-{REFERENCE}")
        return ShippedModel(model.path, model.card, model.size, str(name))
    if name in files:
        return open_shipped(str(name))
    raise DeblurError(
        "--model",
        expected=f"a shipped model ({', '.join(names)}, or in one precision "
        f"{', '.join(files)}) or a path of an .onnx or .plan file",
        found=str(name),
        remedy="leave it out for the default",
    )


def open_shipped(stem: str) -> Model:
    """A single file; raises :class:`DeblurError` where it is not the one that was shipped."""
    path = FOLDER / f"{stem}.onnx"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        lines = (FOLDER / CHECKSUMS).read_text().splitlines()
    except OSError as error:
        raise damaged(path, (error.strerror or str(error)).lower()) from None
    wanted = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    if found != wanted.get(path.name):
        raise damaged(path, f"another, with SHA-256 {found[:12]}…")
    return open_model(path)


def damaged(path: Path, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected="the file that the package ships",
        found=found,
        remedy="install the package again",
    )
