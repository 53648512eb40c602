"""The settings of networks and blur, as recipe files see them: every value is
explained, and what cannot be is refused.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from deblurgan.train.blur import BlurRecipe
from deblurgan.train.networks import (
    DISCRIMINATORS,
    GENERATORS,
    DenseSettings,
    EdgeSettings,
    PatchSettings,
    ResNetSettings,
    UNetSettings,
)

ALL = [settings for _, settings in (*GENERATORS.values(), *DISCRIMINATORS.values())] + [BlurRecipe]


@pytest.mark.parametrize("kind", ALL)
def test_every_value_is_explained(kind: type[Any]) -> None:
    properties = TypeAdapter(kind).json_schema()["properties"]
    assert list(properties) == [field.name for field in fields(kind)]
    explanations = {name: value.get("description", "") for name, value in properties.items()}
    assert all(text.endswith(".") for text in explanations.values()), explanations
    assert len(set(explanations.values())) == len(explanations)


@pytest.mark.parametrize("kind", ALL)
def test_the_defaults_can_be_and_come_back(kind: type[Any]) -> None:
    adapter = TypeAdapter(kind)
    assert adapter.validate_python({}) == kind()
    assert adapter.validate_python(adapter.dump_python(kind(), mode="json")) == kind()


@pytest.mark.parametrize("kind", ALL)
def test_unknown_keys_and_wrong_types_are_refused(kind: type[Any]) -> None:
    adapter = TypeAdapter(kind)
    with pytest.raises(ValidationError, match="colour"):
        adapter.validate_python({"colour": 1})
    for field in fields(kind):
        with pytest.raises(ValidationError, match=field.name):
            adapter.validate_python({field.name: "a great deal"})


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (ResNetSettings, {"channels": 0}, "channels must be at least 1, not 0"),
        (ResNetSettings, {"blocks": -1}, "blocks must be at least 0, not -1"),
        (ResNetSettings, {"dropout": 1.0}, "dropout must lie from 0 up to, not at, 1"),
        (ResNetSettings, {"dropout": float("nan")}, "dropout must lie"),
        (UNetSettings, {"channels": -4}, "channels must be at least 1"),
        (UNetSettings, {"downs": 1}, "downs must be at least 2"),
        (UNetSettings, {"dropout": -0.1}, "it is -0.1"),
        (EdgeSettings, {"channels": 0}, "channels must be at least 1"),
        (EdgeSettings, {"blocks": -1}, "blocks must be at least 0"),
        (EdgeSettings, {"deep_blocks": -1}, "deep_blocks must be at least 0"),
        (PatchSettings, {"channels": 0}, "channels must be at least 1"),
        (PatchSettings, {"layers": 0}, "layers must be at least 1"),
        (DenseSettings, {"channels": 0}, "channels must be at least 1"),
        (DenseSettings, {"hidden": 0}, "hidden must be at least 1"),
        (BlurRecipe, {"shake_share": 1.5}, "shake_share must lie from 0 to 1; it is 1.5"),
        (BlurRecipe, {"noise_share": -0.5}, "noise_share must lie from 0 to 1"),
        (BlurRecipe, {"length": (9.0, 3.0)}, "length must rise .* it is from 9.0 to 3.0"),
        (BlurRecipe, {"length": (-1.0, 3.0)}, "length must rise from at least 0 to at most 512"),
        (BlurRecipe, {"gamma": (0.0, 2.2)}, "gamma must rise from at least 0.1"),
        (BlurRecipe, {"noise": (0.0, 256.0)}, "noise must rise .* at most 255"),
        (BlurRecipe, {"quality": (0.0, 50.0)}, "quality must rise from at least 1"),
        (BlurRecipe, {"quality": (50.0, float("nan"))}, "quality must rise"),
    ],
)
def test_what_cannot_be_is_refused(kind: type[Any], values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**values)
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(kind).validate_python(values)


@pytest.mark.parametrize(
    "settings",
    [
        ResNetSettings(channels=1, blocks=0, dropout=0.0),
        UNetSettings(channels=1, downs=2, dropout=0.99),
        EdgeSettings(channels=1, blocks=0, deep_blocks=0),
        BlurRecipe(length=(0.0, 0.0), gamma=(10.0, 10.0), shake_share=0, sharp_share=1),
    ],
)
def test_what_just_can_be_is_taken(settings: Any) -> None:
    kind = type(settings)
    assert TypeAdapter(kind).validate_python(vars(settings)) == settings
