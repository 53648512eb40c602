"""Several models are told apart, whatever their files are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from deblurgan.benchmarks.commands.models import open_models
from deblurgan.runtime.contract import ModelCard
from deblurgan.runtime.errors import DeblurError


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def write(
    write_negative: Callable[..., Path], card: ModelCard, tmp_path: Path
) -> Callable[[str, str], str]:
    def write_model(name: str, precision: str = "fp32") -> str:
        path = tmp_path / f"{name}.onnx"
        path.parent.mkdir(exist_ok=True)
        card_ = replace(card, precision=precision)
        return str(write_negative(path, metadata=card_.to_metadata()))

    return write_model


def test_models_go_by_their_files_names(write: Callable[..., str], opened: ExitStack) -> None:
    models = open_models(opened, [write("edge"), write("paper")], "auto")
    assert list(models) == ["edge", "paper"]
    assert Path(models["paper"].model.path).name == "paper.onnx"


def test_precision_and_then_the_folder_tell_apart_what_has_one_name(
    write: Callable[..., str], opened: ExitStack
) -> None:
    files = [write("a/edge"), write("b/edge", "int8"), write("c/edge", "int8"), write("d/other")]
    assert list(open_models(opened, files, "auto")) == [
        "edge fp32", "b/edge int8", "c/edge int8", "other",
    ]  # fmt: skip


def test_a_model_is_not_mistaken_for_what_it_is_compared_with(
    write: Callable[..., str], opened: ExitStack
) -> None:
    assert list(open_models(opened, [write("sharp")], "auto")) == ["sharp model"]


def test_the_same_model_twice_is_told(write: Callable[..., str], opened: ExitStack) -> None:
    model = write("edge")
    with pytest.raises(DeblurError, match="edge fp32 twice"):
        open_models(opened, [model, model], "auto")
