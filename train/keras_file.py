"""Weights in the HDF5 files that Keras writes, layer by layer: ``save_weights`` and
``save`` of Keras 2 and its followers (``generator.h5``), and Keras 3's ``.weights.h5``.
"""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deblurgan.runtime.console import require
from deblurgan.runtime.errors import DeblurError

if TYPE_CHECKING:
    import h5py

CONVOLUTION = ("kernel", "bias")
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# Keras 3 has numbers for the weights of a layer, and the layer's kind for its name.
WEIGHTS_OF_KINDS = {
    "conv2d": CONVOLUTION,
    "conv2d_transpose": CONVOLUTION,
    "batch_normalization": NORM,
}
EPSILON = 1e-3  # of Keras' batch norm, unless it is built with another
ARCHIVED = "model.weights.h5"
EXPECTED = "the Keras article's generator, as it comes out of Keras"
REMEDY = "give the generator.h5 that the article's train.py saves"


@dataclass(frozen=True)
class KerasLayer:
    """A layer that has weights, by Keras' names for them and in its layouts;
    ``epsilon`` is what a batch norm adds to the variance.
    """

    name: str
    weights: Mapping[str, NDArray[Any]]
    epsilon: float = EPSILON

    @property
    def is_convolution(self) -> bool:
        kernel = self.weights.get("kernel")
        return kernel is not None and kernel.ndim == 4 and kernel.size > 0

    @property
    def is_norm(self) -> bool:
        return "gamma" in self.weights


def read_layers(path: Path) -> list[KerasLayer]:
    """The layers that have weights, in the order of the model.

    Keras 3 writes the order within each kind alone; of the other, only the
    article's generator is known: norms between convolutions, transposed ones
    before the last. Raises ``DeblurError`` for a damaged file, for models within
    the model, and for what is not Keras'.
    """
    require("export", "h5py")
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)  # there in files of whole models
            if "layers" in root and "layer_names" not in root.attrs:
                return in_order(path, numbered_layers(path, root["layers"]))
            layers = named_layers(path, root, configured_epsilons(file))
            return [layer for layer in layers if layer.weights]
    # h5py raises any of these for what is cut off, overwritten or not what it says.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise DeblurError(
            path,
            expected="a whole HDF5 file, as Keras writes it",
            found=f"a damaged one of {path.stat().st_size:,} bytes ({error})",
            remedy="download or copy it again",
        ) from error


def refuse_archive(path: Path) -> None:
    """Raise ``DeblurError`` for Keras 3's ``.keras``, a zip file as PyTorch's are."""
    with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if ARCHIVED not in archive.namelist():
            return
        raise DeblurError(
            path,
            expected=f"{EXPECTED}, in an HDF5 file",
            found=f"an archive with {ARCHIVED} in it",
            remedy=f"take it out, and give that: unzip {path} {ARCHIVED}",
        )


def named_layers(path: Path, root: h5py.Group, epsilons: dict[str, float]) -> list[KerasLayer]:
    """Layers as Keras 2 writes them: attributes name them, and their weights, in order."""
    names = attribute(root, "layer_names")
    if not names:
        raise not_the_articles(path, f"an HDF5 file of {', '.join(list(root)[:4]) or 'nothing'}")
    if texts(root.attrs.get("backend", "")) == ["theano"]:
        raise DeblurError(
            path,
            expected="weights that Keras saved with TensorFlow",
            found="Theano's, whose kernels are turned round",
            remedy="load and save them once in a Keras that runs on TensorFlow",
        )
    layers = []
    for name in names:
        group = look_up(path, root, name)
        weights: dict[str, NDArray[Any]] = {}
        for full_name in attribute(group, "weight_names"):
            short = full_name.rsplit("/", 1)[-1].removesuffix(":0")
            if short in weights:
                raise nested(path, name)
            weights[short] = look_up(path, group, full_name)[()]
        layers.append(KerasLayer(name, weights, epsilons.get(name, EPSILON)))
    return layers


def numbered_layers(path: Path, container: h5py.Group) -> dict[str, list[KerasLayer]]:
    """Layers with weights as Keras 3 writes them, by kind: ``conv2d``, ``conv2d_1``, ..."""
    kinds: dict[str, list[KerasLayer]] = defaultdict(list)
    for name in sorted(container, key=kind_and_number):
        kind, number = kind_and_number(name)
        if "layers" in container[name]:
            raise nested(path, name)
        stored = container[name].get("vars", {})
        if not len(stored):
            continue
        if kind in WEIGHTS_OF_KINDS and number != len(kinds[kind]):
            raise misfit(path, f"layers from {kind} on without a gap", f"none before {name}")
        called = dict(enumerate(WEIGHTS_OF_KINDS.get(kind, ())))
        weights = {called.get(int(key), key): stored[key][()] for key in stored}
        kinds[kind].append(KerasLayer(name, weights))
    return kinds


def in_order(path: Path, kinds: dict[str, list[KerasLayer]]) -> list[KerasLayer]:
    """The article's generator out of its layers by kind."""
    convolutions = kinds.get("conv2d", [])
    transposed = kinds.get("conv2d_transpose", [])
    norms = kinds.get("batch_normalization", [])
    convolutions = [*convolutions[:-1], *transposed, *convolutions[-1:]]
    if kinds.keys() - WEIGHTS_OF_KINDS or len(norms) != len(convolutions) - 1:
        layers = [layer for layers in kinds.values() for layer in layers]
        raise not_the_articles(path, describe_foreign(layers))
    pairs = itertools.zip_longest(convolutions, norms)
    return [layer for pair in pairs for layer in pair if layer is not None]


def configured_epsilons(file: h5py.File) -> dict[str, float]:
    """What each batch norm of a whole model adds to the variance, by the layer's name."""
    if "model_config" not in file.attrs:
        return {}
    configured = json.loads("".join(texts(file.attrs["model_config"])))["config"]["layers"]
    return {
        layer["config"]["name"]: float(layer["config"]["epsilon"])
        for layer in configured
        if layer["class_name"] == "BatchNormalization"
    }


def attribute(group: h5py.Group, name: str) -> list[str]:
    """A list of names; Keras cuts a long one into ``name0``, ``name1``, and so on."""
    if name in group.attrs:
        return texts(group.attrs[name])
    parts = (f"{name}{number}" for number in itertools.count())
    there = itertools.takewhile(lambda part: part in group.attrs, parts)
    return [text for part in there for text in texts(group.attrs[part])]


def texts(value: Any) -> list[str]:
    """Text, or an array of it, in whichever type the file has it."""
    values = np.atleast_1d(np.asarray(value)).tolist()
    return [item.decode() if isinstance(item, bytes) else str(item) for item in values]


def kind_and_number(name: str) -> tuple[str, int]:
    """``conv2d_10`` is the eleventh of its kind: ``("conv2d", 10)``."""
    match = re.fullmatch(r"(.+?)(?:_(\d+))?", name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def look_up(path: Path, group: h5py.Group, name: str) -> Any:
    if name not in group:
        raise misfit(path, f"{name} in {group.name}, as the file's own list has it", "nothing")
    return group[name]


def describe_foreign(layers: list[KerasLayer]) -> str:
    """Name the article's discriminator, or else what there is."""
    if any("dense" in layer.name for layer in layers):
        return "its discriminator, which has dense layers"
    convolutions = sum(layer.is_convolution for layer in layers)
    norms = sum(layer.is_norm for layer in layers)
    others = [layer.name for layer in layers if not (layer.is_convolution or layer.is_norm)]
    text = f"{convolutions} convolutions and {norms} batch norms"
    return text + (f" besides {', '.join(others[:4])}" if others else "")


def nested(path: Path, name: str) -> DeblurError:
    return DeblurError(
        path,
        expected=EXPECTED,
        found=f"a model within the model, {name}, as in the file of a whole GAN",
        remedy="save the generator alone: generator.save_weights('generator.h5')",
    )


def not_the_articles(path: Path, found: str) -> DeblurError:
    return DeblurError(path, expected=EXPECTED, found=found, remedy=REMEDY)


def misfit(path: Path, expected: str, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected=expected,
        found=found,
        remedy="the file is incomplete or of another network: download or copy it again",
    )
