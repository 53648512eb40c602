"""``deblur-bench training``: a training step next to a plain one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deblurgan.benchmarks.commands.options import (
    JsonOption,
    check_json_target,
    output,
)
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import console


def training_command(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA", help="Folders, as deblur-train run has them.")
    ],
    recipe: Annotated[str, typer.Option(help="edge, paper, keras, or a TOML file.")] = "paper",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change a value of the recipe."),
    ] = None,
    vgg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="VGG's weights, as for deblur-train run.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make pairs.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Steps to time.")] = 3,
    json_file: JsonOption = None,
) -> None:
    """One training step next to a plain one of the paper's, and the share spent waiting for pairs.

    Example: deblur-bench training photos/
    """
    console.require("bench", "torch", "lightning_fabric", "pydantic", "safetensors")
    from deblurgan.benchmarks.training import measure_training
    from deblurgan.train.recipe import load_recipe

    check_json_target(json_file)
    result = measure_training(
        load_recipe(recipe, changes or ()), data, vgg, workers=workers, rounds=rounds
    )
    said = f"{result.batch} x {result.crop}x{result.crop} on {result.device}: a step takes "
    said += f"{result.seconds:.2f} s, {result.waiting:.1%} of the loop's time waits for pairs"
    if result.ratio is not None:
        said += f"; a plain step {result.plain_seconds:.2f} s, {result.ratio:.2f} times as long"
    output.print(said)
    write_result(json_file, "training", asdict(result))
