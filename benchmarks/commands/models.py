"""Several models side by side: opened together, and told apart by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from deblurgan.benchmarks.labels import tell_apart
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError

ModelsOption = Annotated[
    list[str],
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A shipped model's name, or a file that deblur-export wrote; once for each of "
        "several that are to be compared.",
    ),
]
TAKEN = ("blurred", "sharp")  # the names of what models are compared with


def open_models(opened: ExitStack, models: Sequence[str], backend: str) -> dict[str, Deblurrer]:
    """The models by what tells them apart: their own or their file's name, and where that
    is not enough their precision, and then their folder's name.

    ``opened`` closes them. Raises ``DeblurError`` for one that is no model, or given twice.
    """
    deblurrers = [opened.enter_context(Deblurrer(model, backend=backend)) for model in models]
    paths = [Path(deblurrer.model.path).resolve() for deblurrer in deblurrers]
    stems = [Path(deblurrer.model.reference).stem for deblurrer in deblurrers]
    names = [f"{stem} model" if stem in TAKEN else stem for stem in stems]
    precisions = [deblurrer.model.card.precision for deblurrer in deblurrers]
    names = tell_apart(names, [f"{n} {p}" for n, p in zip(names, precisions, strict=True)])
    names = tell_apart(names, [f"{p.parent.name}/{n}" for p, n in zip(paths, names, strict=True)])
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DeblurError(
            "--model",
            expected="each model once",
            found=f"{twice[0]} twice",
            remedy="leave one out, or give one of the files another name",
        )
    return dict(zip(names, deblurrers, strict=True))
