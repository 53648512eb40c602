"""Checkpoints: weights in a safetensors file, with the settings that rebuild
the network in its metadata. The files of the original release and of the Keras
article are read as well.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole
from deblurgan.train.keras_file import refuse_archive
from deblurgan.train.keras_weights import read_keras
from deblurgan.train.networks import (
    GENERATORS,
    Generator,
    build_generator,
    describe_generator,
)
from deblurgan.train.release import ReleaseOptions, read_release

FORMAT = "deblurgan-checkpoint-1"
EXPECTED = (
    "a checkpoint of this project (.safetensors), of the original release (.pth) "
    "or of the Keras article (.h5)"
)
RETRAIN = "copy the file again, or train anew"


@dataclass(frozen=True)
class Checkpoint:
    """A generator in eval mode and how it came about.

    ``training`` is what :func:`save_checkpoint` was given, empty for a foreign
    file; ``recognised`` is a sentence about what was recognised in a foreign
    file, ``None`` for one of our own.
    """

    generator: Generator
    training: dict[str, Any]
    recognised: str | None = None


def save_checkpoint(path: Path, generator: Generator, training: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all; ``training`` tells how it came about (JSON).

    Raises ``DeblurError`` where there is no room or no permission; an earlier
    checkpoint under this name is then untouched.
    """
    metadata = {
        "format": FORMAT,
        "generator": json.dumps(describe_generator(generator)),
        "training": json.dumps(training),
    }
    weights = {k: v.detach().cpu().contiguous() for k, v in generator.state_dict().items()}
    write_whole(path, safetensors.torch.save(weights, metadata))


def load_checkpoint(path: Path, options: ReleaseOptions | None = None) -> Checkpoint:
    """Load our own checkpoint, the original release's or the Keras article's, told by content.

    ``options`` say what a file of the original release leaves open, and count
    for these alone. Raises ``DeblurError`` for anything that is not a whole
    checkpoint of a generator that this version knows.
    """
    start = read_start(path)
    if start[8:9] == b"{":
        return load_own(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        refuse_archive(path)
        release = read_release(path, options or ReleaseOptions())
        generator = rebuild(path, release.description, release.weights)
        return Checkpoint(generator, {}, release.recognised)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        article = read_keras(path)
        description = {"name": "resnet", "settings": asdict(article.settings)}
        generator = rebuild(path, description, article.weights)
        return Checkpoint(generator, {}, article.recognised)
    found = repr(start.decode(errors="replace"))
    raise DeblurError(
        path,
        expected=EXPECTED,
        found=f"a file that begins with {found}" if start else "an empty file",
        remedy="give the .safetensors, .pth or .h5 file itself, downloaded or copied whole",
    )


def weights_sha256(generator: Generator) -> str:
    """A hash over names, types, shapes and bytes of all weights and buffers, in
    the order of their names: it stays the same through saving and loading.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(generator.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_start(path: Path) -> bytes:
    """The first bytes of a file, enough to tell formats apart."""
    try:
        with path.open("rb") as file:
            return file.read(32)
    except OSError as error:
        raise DeblurError(
            path, expected=EXPECTED, found=error.strerror or str(error), remedy="check the path"
        ) from error


def load_own(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DeblurError(
            path,
            expected="a whole safetensors file",
            found=f"a damaged one of {path.stat().st_size:,} bytes ({error})",
            remedy=RETRAIN,
        ) from error
    if metadata.get("format") != FORMAT:
        raise DeblurError(
            path,
            expected=f"the format {FORMAT} in the metadata",
            found=metadata.get("format", "no format: weights that do not say of which network"),
            remedy="load the weights into a generator and write it with save_checkpoint()",
        )
    try:
        description = json.loads(metadata["generator"])
        training = dict(json.loads(metadata["training"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DeblurError(
            path,
            expected="generator and training as JSON in the metadata",
            found=f"{type(error).__name__}: {error}",
            remedy=RETRAIN,
        ) from error
    return Checkpoint(rebuild(path, description, weights), training)


def rebuild(path: Path, description: Any, weights: dict[str, Tensor]) -> Generator:
    """Build the generator described and give it the weights, each and no other."""
    try:
        name, settings = description["name"], description["settings"]
        check_choices(GENERATORS[name][1], settings)
        # Without memory first: settings may be wrong in any way, and big.
        with torch.device("meta"):
            expected = build_generator(name, settings).state_dict()
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise DeblurError(
            path,
            expected=f"a generator that this version builds ({', '.join(GENERATORS)})",
            found=f"{json.dumps(description)} ({type(error).__name__}: {error})",
            remedy="use the version that wrote the file, or a newer one",
        ) from error
    for key, weight in expected.items():
        found = list(weights[key].shape) if key in weights else "no such key"
        if found != list(weight.shape):
            raise misfit(path, f"{key} {list(weight.shape)}", str(found))
    foreign = sorted(weights.keys() - expected.keys())
    if foreign:
        raise misfit(path, "no other keys than the network's", ", ".join(foreign[:4]))
    broken = [key for key, weight in weights.items() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise DeblurError(
            path,
            expected="weights that are finite numbers",
            found=f"others in {', '.join(broken[:4])}: a training that broke",
            remedy="take an earlier checkpoint of it, or train anew",
        )
    generator = build_generator(name, settings)
    generator.load_state_dict(weights)
    return generator.eval()


def check_choices(settings_type: type[Any], settings: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a value that is not among a setting's choices:
    a network would be built all the same, and another than was saved.
    """
    hints = get_type_hints(settings_type)
    for name, value in settings.items():
        hint = hints.get(name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ValueError(f"{name} is {value!r} and not one of {get_args(hint)}")


def misfit(path: Path, expected: str, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected=expected,
        found=found,
        remedy="the file is incomplete or of another network: download or copy it again",
    )
