"""Our own checkpoints survive saving, loading and failing disks; what is none is told."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import (
    FORMAT,
    load_checkpoint,
    rebuild,
    save_checkpoint,
    weights_sha256,
)
from deblurgan.train.networks import (
    EdgeGenerator,
    EdgeSettings,
    Generator,
    ResNetGenerator,
    ResNetSettings,
)

TINY = ResNetSettings(channels=4, blocks=2)
TINY_EDGE = EdgeSettings(channels=4, blocks=2, deep_blocks=1)


def picture() -> Tensor:
    return torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


def error_of(path: Path) -> DeblurError:
    with pytest.raises(DeblurError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    "generator",
    [
        ResNetGenerator(TINY),
        ResNetGenerator(replace(TINY, norm="batch", convolutions=1, padding="zeros")),
        ResNetGenerator(replace(TINY, norm="batch", alignment="tensorflow")),
        ResNetGenerator(replace(TINY, affine=True, tracked=True, bias=False, skip="average")),
        EdgeGenerator(TINY_EDGE),
    ],
    ids=["paper", "batch-zeros", "tensorflow", "tracked", "edge"],
)
def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path, generator: Generator) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, generator.train(), {"steps": 7, "recipe": {"seed": 1}})
    checkpoint = load_checkpoint(path)
    assert checkpoint.generator.settings == generator.settings
    assert not checkpoint.generator.training
    assert checkpoint.training == {"steps": 7, "recipe": {"seed": 1}}
    assert checkpoint.recognised is None
    assert weights_sha256(checkpoint.generator) == weights_sha256(generator)
    with torch.no_grad():
        assert torch.equal(checkpoint.generator(picture()), generator.eval()(picture()))
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]


def test_the_hash_tells_weights_names_and_shapes_apart_but_not_memory_layouts() -> None:
    generator = EdgeGenerator(TINY_EDGE)
    before = weights_sha256(generator)
    assert len(before) == 64
    for weight in generator.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    assert weights_sha256(generator) == before
    next(generator.parameters()).data[0, 0, 0, 0] += 1e-6
    assert weights_sha256(generator) != before
    assert weights_sha256(generator.half()) != before
    assert weights_sha256(ResNetGenerator(TINY)) != before


def test_a_failing_disk_leaves_the_earlier_checkpoint_and_nothing_half_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, EdgeGenerator(TINY_EDGE), {"steps": 1})
    program = f"""
import resource
from pathlib import Path
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import save_checkpoint
from deblurgan.train.networks import EdgeGenerator, EdgeSettings
generator = EdgeGenerator(EdgeSettings(channels=8, blocks=2, deep_blocks=1))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_checkpoint(Path({str(path)!r}), generator, {{"steps": 2}})
except DeblurError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "file too large" in told.stdout, told.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]
    assert load_checkpoint(path).training == {"steps": 1}


def test_an_interrupted_write_leaves_no_part_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "best.safetensors", EdgeGenerator(TINY_EDGE), {})
    assert not list(tmp_path.iterdir())


def test_saving_into_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeblurError, match="no such file"):
        save_checkpoint(tmp_path / "runs" / "best.safetensors", EdgeGenerator(TINY_EDGE), {})


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert error_of(tmp_path / "best.safetensors").found == "No such file or directory"
    assert error_of(tmp_path).found == "Is a directory"


@pytest.mark.parametrize("kept", [12, 400, -1])
def test_a_truncated_checkpoint_is_told(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, EdgeGenerator(TINY_EDGE), {})
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged" in error_of(path).found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "begins with '<!DOCTYPE html>"),
    ],
    ids=["empty", "text"],
)
def test_a_file_of_another_kind_is_told(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    error = error_of(path)
    assert found in error.found
    for ending in (".safetensors", ".pth", ".h5"):
        assert ending in error.expected
        assert ending in error.remedy


def test_a_checkpoint_from_before_a_setting_was_there_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    generator = ResNetGenerator(TINY)
    settings = {key: value for key, value in vars(TINY).items() if key != "alignment"}
    described = json.dumps({"name": "resnet", "settings": settings})
    metadata = {"format": FORMAT, "generator": described, "training": "{}"}
    safetensors.torch.save_file(generator.state_dict(), path, metadata)
    assert load_checkpoint(path).generator.settings == TINY


def test_safetensors_without_our_metadata_are_told(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"model.1.weight": torch.zeros(1)}, path)
    assert FORMAT in error_of(path).expected


EDGE = {"name": "edge", "settings": {"channels": 4, "blocks": 2, "deep_blocks": 1}}
RESNET = {"name": "resnet", "settings": {"channels": 4, "blocks": 2}}


@pytest.mark.parametrize(
    ("description", "found"),
    [
        (EDGE | {"name": "transformer"}, "transformer"),
        (EDGE | {"settings": {"heads": 8}}, "heads"),
        (EDGE | {"settings": {"channels": "4"}}, "TypeError"),
        (EDGE | {"settings": None}, "null"),
        (RESNET | {"settings": {"norm": "layer"}}, "norm is 'layer'"),
        (["edge"], "edge"),
    ],
    ids=["generator", "setting", "type", "no settings", "choice", "list"],
)
def test_a_generator_that_this_version_does_not_know_is_told(
    tmp_path: Path, description: object, found: str
) -> None:
    path = tmp_path / "best.safetensors"
    metadata = {"format": FORMAT, "generator": json.dumps(description), "training": "{}"}
    safetensors.torch.save_file({}, path, metadata)
    assert found in error_of(path).found


def test_metadata_that_is_not_json_are_told(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    metadata = {"format": FORMAT, "generator": "resnet", "training": "{}"}
    safetensors.torch.save_file({}, path, metadata)
    assert "JSON" in error_of(path).expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_told(tmp_path: Path, value: float) -> None:
    generator = EdgeGenerator(TINY_EDGE)
    with torch.no_grad():
        generator.tail[0].bias[3] = value
    save_checkpoint(tmp_path / "best.safetensors", generator, {})
    error = error_of(tmp_path / "best.safetensors")
    assert error.expected == "weights that are finite numbers"
    assert "tail.0.bias" in error.found


def test_weights_that_do_not_fit_the_settings_are_told_by_key_and_shape(tmp_path: Path) -> None:
    weights = EdgeGenerator(TINY_EDGE).state_dict()
    with pytest.raises(DeblurError, match=r"\[48, 4, 3, 3\], found \[48, 5, 3, 3\]"):
        rebuild(tmp_path, EDGE, {**weights, "tail.0.weight": torch.zeros(48, 5, 3, 3)})
    with pytest.raises(DeblurError, match=r"tail\.0\.bias \[48\], found no such key"):
        rebuild(tmp_path, EDGE, {k: w for k, w in weights.items() if k != "tail.0.bias"})
    with pytest.raises(DeblurError, match=r"no other keys than the network's, found gate"):
        rebuild(tmp_path, EDGE, {**weights, "gate": torch.zeros(1)})
