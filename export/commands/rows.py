"""What commands print: rows of a name and what is said of it."""

from __future__ import annotations

from typing import Any

import typer


def echo_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:{width}}  {value}")


def story_rows(name: str, story: dict[str, Any]) -> list[tuple[str, str]]:
    """What is nested in it follows on rows of its own."""
    nested = {key: value for key, value in story.items() if isinstance(value, dict)}
    rest = plain({key: value for key, value in story.items() if key not in nested})
    rows = [(f"  {key}", plain(value)) for key, value in nested.items()]
    return [(name, rest or ("" if rows else "not said")), *rows]


def plain(value: Any) -> str:
    """JSON as a person reads it: ``channels 48, blocks 2, data (photos 45)``."""
    if isinstance(value, dict):
        return ", ".join(
            f"{key} ({plain(item)})" if isinstance(item, dict) else f"{key} {plain(item)}"
            for key, item in value.items()
            if item is not None  # a setting left to the network's own rule
        )
    if isinstance(value, list):
        return " ".join(plain(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
