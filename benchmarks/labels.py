"""Names that several things go by in one table or plot."""

from __future__ import annotations

from collections import Counter


def tell_apart(names: list[str], longer: list[str]) -> list[str]:
    """The longer names, of those that are not the only one of their name."""
    counts = Counter(names)
    return [long if counts[name] > 1 else name for name, long in zip(names, longer, strict=True)]
