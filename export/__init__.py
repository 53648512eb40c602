"""From a checkpoint to a model file, checked against PyTorch on the way.

>>> from deblurgan.export import export_onnx, load_checkpoint
>>> report = export_onnx(load_checkpoint(Path("best.safetensors")), Path("best.onnx"))
>>> print(report.difference)

Any PyTorch module from pictures to pictures in [-1, 1] goes the same way:

>>> export_onnx(foreign_checkpoint(net, name="mine", stride=8), Path("mine.onnx"))

All of these need the extra ``export``; importing this package alone needs neither
PyTorch nor onnx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deblurgan.export.foreign import foreign_checkpoint
    from deblurgan.export.onnx_export import ExportReport, export_onnx
    from deblurgan.export.proof import prove
    from deblurgan.train.checkpoint import load_checkpoint

__all__ = ["ExportReport", "export_onnx", "foreign_checkpoint", "load_checkpoint", "prove"]

HOMES = {
    "ExportReport": "deblurgan.export.onnx_export",
    "export_onnx": "deblurgan.export.onnx_export",
    "foreign_checkpoint": "deblurgan.export.foreign",
    "load_checkpoint": "deblurgan.train.checkpoint",
    "prove": "deblurgan.export.proof",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
