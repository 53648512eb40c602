"""``deblur-export triton``: a model repository for Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblurgan.export.commands.rows import echo_rows


def triton_command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file (.onnx) or a plan (.plan).")
    ],
    repository: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="REPOSITORY", help="The folder that Triton is started with."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The model's name there. Default: the file's.")
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most frames that Triton puts together. Default: 8, or what a plan takes."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace the model if it is there.")
    ] = False,
) -> None:
    """Write a model into a Triton model repository: its configuration and the file itself.

    Frames are put into batches as they arrive, and may be of any size that the model takes.

    Example: deblur-export triton edge-fp16.onnx -o repository
    """
    from deblurgan.export.triton import write_repository

    folder = write_repository(
        model, repository, name=name, max_batch=max_batch, overwrite=overwrite
    )
    echo_rows(
        [("written", str(folder)), ("serve with", f"tritonserver --model-repository={repository}")]
    )
