"""What the commands share: options, the terminal, and results as JSON."""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deblurgan.benchmarks.environment import describe_environment
from deblurgan.runtime import backends
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole

SCHEMA = 1  # of the files that results are written to

output = Console(highlight=False, soft_wrap=True)

ModelOption = Annotated[
    str, typer.Option(help="A shipped model's name, or a file that deblur-export wrote.")
]
BackendOption = Annotated[str, typer.Option(help=f"The engine: {', '.join(backends.NAMES)}.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures there.")
]


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
        "command": shlex.join(Path(word).name if "/" in word else word for word in sys.argv),
        "environment": asdict(describe_environment()),
        "figures": figures,
    }
    text = json.dumps(without_infinity(result), indent=2, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_infinity(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_json_target(path: Path | None) -> None:
    """Before the measurement, not after it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise DeblurError(
            path,
            expected="a folder that exists",
            found="no such folder",
            remedy=f"make it with: mkdir -p {path.parent}",
        )
