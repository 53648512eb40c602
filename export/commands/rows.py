"""What commands print: rows of a name and what is said of it."""

from __future__ import annotations

from typing import Any

import typer

from deblurgan.export.wording import megabytes, plain
from deblurgan.runtime.console import one_line

__all__ = ["echo_rows", "megabytes", "plain", "story_rows"]


def echo_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:{width}}  {one_line(value)}")


def story_rows(name: str, story: dict[str, Any]) -> list[tuple[str, str]]:
    """What is nested in it follows on rows of its own."""
    nested = {key: value for key, value in story.items() if isinstance(value, dict)}
    rest = plain({key: value for key, value in story.items() if key not in nested})
    rows = [(f"  {key}", plain(value)) for key, value in nested.items()]
    return [(name, rest or ("" if rows else "not said")), *rows]
