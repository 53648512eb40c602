"""The file that a command's figures are written to, with what they were measured with."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from deblurgan.benchmarks.environment import describe_environment
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole

SCHEMA = 1
LARGEST = 1 << 24  # bytes; samples of an hour's measuring are some hundred thousand numbers


@dataclass(frozen=True)
class Result:
    """What stands in a file: ``figures`` as the ``kind`` has them, not looked at yet, and the
    ``environment`` as it was written.
    """

    path: Path
    kind: str
    date: str
    command: str
    environment: dict[str, Any]
    figures: dict[str, Any]


def write_result(path: Path | None, kind: str, figures: dict[str, Any]) -> None:
    """What was measured, by ``kind``, with what it was measured with, if ``path`` is given.
    JSON has no infinity; a figure that is infinite is null.
    """
    if path is None:
        return
    result = {
        "schema": SCHEMA,
        "kind": kind,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        # Where somebody keeps their files is nobody's business.
        "command": shlex.join(map(without_folders, sys.argv)),
        "environment": asdict(describe_environment()),
        "figures": figures,
    }
    text = json.dumps(without_infinity(result), indent=2, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def without_folders(word: str) -> str:
    """``--json=results/a.json`` as ``--json=a.json``."""
    option, equals, value = word.partition("=")
    if not option.startswith("--"):
        option, equals, value = "", "", word
    return option + equals + (Path(value).name if "/" in value else value)


def without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_infinity(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_result(path: Path) -> Result:
    """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything but a result, and
    ``OSError``: see :func:`refusing_damage`.
    """
    if path.is_file() and path.stat().st_size > LARGEST:
        raise ValueError("a file of another kind")
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant,
                         parse_float=finite)  # fmt: skip
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']!r}")
    words = (content[name] for name in ("kind", "date", "command"))
    tables = (content[name] for name in ("environment", "figures"))
    return Result(path, *(of_kind(str, word) for word in words),
                  *(of_kind(dict, table) for table in tables))  # fmt: skip


def finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits:.40}, which is too large a number")
    return number


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which JSON has not")


def of_kind(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value


@contextmanager
def refusing_damage(path: Path, expected: str, remedy: str) -> Iterator[None]:
    """What reading a file raises that lacks something, or is another one, as one line."""
    try:
        yield
        return
    except OSError as error:
        found = (error.strerror or str(error)).lower()
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        found = f"a file that lacks something ({type(error).__name__}: {error})"
    except (ValueError, ArithmeticError, RecursionError) as error:
        found = f"a file that is none ({str(error).splitlines()[0]})"
    raise DeblurError(path, expected=expected, found=found, remedy=remedy)
