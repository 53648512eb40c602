"""What the settings of a recipe have in common, whoever they belong to."""

from __future__ import annotations

from typing import Any

# How pydantic, where recipes are read, sees settings: each field's docstring is
# its explanation, and what is not a field is an error.
DOCUMENTED: dict[str, Any] = {"use_attribute_docstrings": True, "extra": "forbid"}


def at_least(bound: float, settings: Any, *names: str) -> None:
    """Raise ``ValueError`` for the first of the settings named that is below, or no number."""
    for name in names:
        value = getattr(settings, name)
        if not bound <= value < float("inf"):
            raise ValueError(f"{name} must be at least {bound}, not {value}")
