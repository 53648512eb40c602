"""The contract between a model file and everything that runs it, version 1.

Input ``frames`` and output ``deblurred``: uint8, ``[batch, height, width, 3]``,
RGB, full range. Scaling, padding, the generator, cropping and rounding are in
the graph, and so is the precision. Metadata under ``deblurgan.`` says the rest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.onnx_file import OnnxFile, Tensor, read_onnx

VERSION = 1
PREFIX = "deblurgan."
INPUT, OUTPUT = "frames", "deblurred"
Frames = NDArray[np.uint8]
PRECISIONS = ("fp32", "fp16", "int8", "int8-fp16")
# What TensorRT 11 reads, the engine here that knows the newest operators. Each one refuses
# what is too new for itself; beyond this nobody has said what the operators mean.
NEWEST_OPSET = 25
LARGEST_NUMBER = 1 << 14  # pixels, of a stride or of the smallest frame
EXPORT_AGAIN = "write one with: deblur-export onnx CHECKPOINT -o MODEL.onnx"

CARD_TYPES = (
    ("stride", int),
    ("minimum_size", int),
    ("generator", dict),
    ("training", dict),
    ("quality", dict),
    ("quantisation", dict),
    ("golden", dict),
)


@dataclass(frozen=True)
class ModelCard:
    """What a contract file says of itself, in its metadata.

    ``generator`` is ``{"name": …, "settings": …}``; ``training`` and
    ``quality`` are free-form; ``quantisation`` says which layers are int8 and
    why the others are not; ``golden`` is a :class:`~deblurgan.runtime.golden.Golden`;
    sizes are in pixels.
    """

    generator: dict[str, Any]
    stride: int
    minimum_size: int
    precision: str
    weights_sha256: str
    contract: int = VERSION
    licence: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    calibration_sha256: str = ""
    quantisation: dict[str, Any] = field(default_factory=dict)
    golden: dict[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """As ``metadata_props`` of an ONNX file: strings, the rest in JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            PREFIX + name: value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> ModelCard:
        """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything but a card."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            text = metadata.get(PREFIX + f.name)
            if text is not None:
                values[f.name] = text if f.type == "str" else json.loads(text)
        card = cls(**values)
        for name, kind in CARD_TYPES:
            if not isinstance(getattr(card, name), kind):
                raise ValueError(f"{PREFIX}{name} is not a {kind.__name__}")
        check_numbers(card)
        check_layers(card.quantisation.get("layers", []))
        check_golden(card.golden)
        return card


@dataclass(frozen=True)
class Model:
    """A contract file: where it lies, what it says, and which frames it takes.

    ``size`` is ``(width, height)`` when frozen at export, else None.
    """

    path: Path
    card: ModelCard
    size: tuple[int, int] | None

    @property
    def backend(self) -> str | None:
        """The only backend that runs this file; None for an ONNX file, which all of them read."""
        return None

    @property
    def reference(self) -> str | Path:
        """What :func:`~deblurgan.runtime.model_store.find_model` finds it by."""
        return self.path

    def best_for(self, engine: str) -> Model:
        """The file to run on a backend, of those that this model is there in."""
        return self

    def in_precision(self, precision: str) -> Model:
        """The same, of a precision that another process told."""
        return self

    def check_frame(self, width: int, height: int) -> None:
        """Raise :class:`DeblurError` for a frame that this model does not take."""
        smallest = self.card.minimum_size
        if self.size is not None and (width, height) != self.size:
            raise DeblurError(
                self.path,
                expected=f"frames of {self.size[0]}x{self.size[1]}, the size it was frozen at",
                found=f"{width}x{height}",
                remedy="export without --size: deblur-export onnx CHECKPOINT -o MODEL.onnx",
            )
        if min(width, height) < smallest:
            raise DeblurError(
                "frame",
                expected=f"at least {smallest}x{smallest} pixels",
                found=f"{width}x{height}",
                remedy="scale it up first",
            )


def open_model(path: Path) -> Model:
    """Read and check a contract file; raises :class:`DeblurError` when it is none."""
    file = read_onnx(path)
    problem = find_problem(file)
    if problem is None:
        try:
            card = ModelCard.from_metadata(file.metadata)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            problem = f"metadata that does not fit ({error})"
    if problem is not None:
        raise DeblurError(
            path,
            expected=f"a deblurring model (contract {VERSION}: uint8 RGB frames in and out)",
            found=problem,
            remedy=EXPORT_AGAIN,
        )
    check_readable(path, file)
    _, height, width, _ = file.inputs[0].shape
    size = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    return Model(path, card, size)


def find_problem(file: OnnxFile) -> str | None:
    """Why an ONNX file is not a contract file, or None when it is."""
    version = file.metadata.get(PREFIX + "contract")
    if version is None:
        return "an ONNX file without the contract's metadata"
    if version != str(VERSION):
        return f"contract version {version}"
    for tensors, name in ((file.inputs, INPUT), (file.outputs, OUTPUT)):
        if not any(fits(tensor, name) for tensor in tensors) or len(tensors) != 1:
            return f"no single {name} of uint8 [batch, height, width, 3]"
    _, height, width, _ = file.inputs[0].shape
    if isinstance(height, int) != isinstance(width, int):
        return "only one of height and width frozen"
    batch = file.inputs[0].shape[0]
    if isinstance(batch, int) and batch != 1:
        return f"a batch frozen at {batch}"
    if file.metadata.get(PREFIX + "precision") not in PRECISIONS:
        return f"precision {file.metadata.get(PREFIX + 'precision')!r}"
    return None


def check_readable(path: Path, file: OnnxFile) -> None:
    """Refuse what engines would fail on, each in words of its own, or read wrongly."""
    if file.weights:
        raise DeblurError(
            path,
            expected="one file with its weights inside",
            found=f"weights in {file.weights}",
            remedy="onnx.save_model(onnx.load(PATH), NEW, save_as_external_data=False) puts "
            "them inside, or export it again",
        )
    if file.opset > NEWEST_OPSET:
        raise DeblurError(
            path,
            expected=f"ONNX opset {NEWEST_OPSET} or older",
            found=f"opset {file.opset}",
            remedy=EXPORT_AGAIN,
        )


def check_numbers(card: ModelCard) -> None:
    """Raises ``ValueError`` for sizes that no network has: others are computed from them."""
    for name, smallest in (("stride", 1), ("minimum_size", 0)):
        number = getattr(card, name)
        if isinstance(number, bool) or not smallest <= number <= LARGEST_NUMBER:
            raise ValueError(f"{PREFIX}{name} is not {smallest} to {LARGEST_NUMBER}")


def check_layers(layers: Any) -> None:
    """Raises ``ValueError`` for anything but a list of layers and why they are int8 or not."""
    if not isinstance(layers, list):
        raise ValueError(f"{PREFIX}quantisation names no list of layers")
    for layer in layers:
        whole = (
            isinstance(layer, dict)
            and isinstance(layer.get("name"), str)
            and isinstance(layer.get("int8"), bool)
            and isinstance(layer.get("reason"), str)
            and isinstance(layer.get("cost_db"), int | float | None)
        )
        if not whole:
            raise ValueError(f"{PREFIX}quantisation has a layer without name, int8 and reason")


def check_golden(golden: dict[str, Any]) -> None:
    """Raises ``ValueError`` for a pair that does not say what it is of; its picture is read
    where it is compared.
    """
    kinds = (("width", int), ("height", int), ("engine", str))
    if golden and not all(isinstance(golden.get(name), kind) for name, kind in kinds):
        raise ValueError(f"{PREFIX}golden has no width, height and engine")


def fits(tensor: Tensor, name: str) -> bool:
    return (
        tensor.name == name
        and tensor.element_type == "uint8"
        and len(tensor.shape) == 4
        and tensor.shape[3] == 3
    )
