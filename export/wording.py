"""Values as a person reads them, in commands' output and in reports."""

from __future__ import annotations

from typing import Any

LONGEST_LIST = 12
"""Longer lists are shown by their first and last item."""

DEEPEST_TABLE = 1
"""Tables nested deeper, as those of the runs before the last one, are named alone."""


def plain(value: Any, depth: int = 0) -> str:
    """JSON as a person reads it: ``channels 48, blocks 2, data (photos 45)``."""
    if isinstance(value, dict) and depth > DEEPEST_TABLE:
        return "…"
    if isinstance(value, dict):
        said = ", ".join(
            f"{key} {plain(item, depth + 1)}"
            for key, item in value.items()
            if item is not None  # a setting left to the network's own rule
        )
        return f"({said})" if depth else said
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        return f"{plain(value[0])} … {plain(value[-1])} ({len(value)} in all)"
    if isinstance(value, list):
        return " ".join(plain(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
