"""Checkpoints: weights in a safetensors file, with the settings that rebuild
the network in its metadata.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from deblurgan.train.networks import Generator, build_generator, describe_generator

FORMAT = "deblurgan-checkpoint-1"


def save_checkpoint(path: Path, generator: Generator, training: dict[str, Any]) -> None:
    """Write a checkpoint atomically; ``training`` tells how it came about (JSON)."""
    metadata = {
        "format": FORMAT,
        "generator": json.dumps(describe_generator(generator)),
        "training": json.dumps(training),
    }
    weights = {k: v.detach().cpu().contiguous() for k, v in generator.state_dict().items()}
    part = path.with_name(path.name + ".part")
    save_file(weights, part, metadata)
    os.replace(part, path)


def load_checkpoint(path: Path) -> Generator:
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["generator"])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    generator = build_generator(description["name"], description["settings"])
    generator.load_state_dict(weights)
    return generator.eval()
