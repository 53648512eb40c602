"""``deblur-bench``: how good and how fast a model is on this machine."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from deblurgan.runtime import backends, console
from deblurgan.runtime.contract import Model
from deblurgan.runtime.deblurrer import Deblurrer
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT, find_model

app = console.new_app("Measure how good and how fast a model is on this machine.")
output = Console(highlight=False, soft_wrap=True)

ModelOption = Annotated[
    str, typer.Option(help="A shipped model's name, or a file that deblur-export wrote.")
]
BackendOption = Annotated[str, typer.Option(help=f"The engine: {', '.join(backends.NAMES)}.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures there.")
]


@app.command(no_args_is_help=True)
def quality(
    pairs: Annotated[
        Path | None,
        typer.Option(help="A folder with blur/ and sharp/, partners named alike."),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of sharp photographs, to be blurred by eval-v1.")
    ] = None,
    sharp: Annotated[
        Path | None,
        typer.Option(help="A folder of sharp photographs, to be deblurred as they are."),
    ] = None,
    model: ModelOption = DEFAULT,
    backend: BackendOption = backends.AUTO,
    json_file: JsonOption = None,
) -> None:
    """PSNR and SSIM before and after, for each picture and in the mean.

    Example: deblur-bench quality --photos kodak24/
    """
    console.require("bench", "torch", "safetensors", "skimage")
    from deblurgan.benchmarks.quality import (
        Score,
        blur_photos,
        leave_sharp,
        mean_score,
        read_pairs,
        score,
    )

    check_json_target(json_file)
    kinds = {read_pairs: pairs, blur_photos: photos, leave_sharp: sharp}
    given = [(read, folder) for read, folder in kinds.items() if folder is not None]
    if len(given) != 1:
        raise DeblurError(
            "deblur-bench quality",
            expected="one of --pairs, --photos and --sharp",
            found=str(len(given)),
            remedy="see deblur-bench quality --help",
        )
    read, folder = given[0]
    scores: list[Score] = []
    with Deblurrer(model, backend=backend) as deblurrer:
        for pair in read(folder):
            scores.append(score(pair, deblurrer))
    table = Table(
        Column("picture", no_wrap=True), "px", "PSNR", "after", "gain", "SSIM", "after", "shift"
    )
    for row in [*scores, mean_score(f"mean of {len(scores)}", scores)]:
        table.add_row(
            row.name,
            "" if row.length is None else f"{row.length:g}",
            f"{row.psnr_before:.2f}",
            f"{row.psnr_after:.2f}",
            f"{row.psnr_after - row.psnr_before:+.2f}",
            f"{row.ssim_before:.4f}",
            f"{row.ssim_after:.4f}",
            f"{row.colour_shift:.2f}",
        )
    output.print(table)
    output.print("px: length of the blur; shift: of the mean of a colour channel, in levels of 255")
    write_json(json_file, {"pictures": [asdict(s) for s in scores],
                           "mean": asdict(mean_score("mean", scores))})  # fmt: skip


@app.command()
def speed(
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Frame size.")] = "1280x720",
    model: ModelOption = DEFAULT,
    backend: BackendOption = backends.AUTO,
    json_file: JsonOption = None,
) -> None:
    """The engine's frames a second next to the paper's generator in PyTorch.

    Example: deblur-bench speed --size 640x360
    """
    console.require("bench", "torch")
    from deblurgan.benchmarks.speed import compare_with_paper

    check_json_target(json_file)
    width, height = console.parse_size(size)
    with Deblurrer(model, backend=backend) as deblurrer:
        engine = deblurrer.engine(width, height, overlap=True)
        result = compare_with_paper(engine, width, height)
        output.print(
            f"{width}x{height}: {deblurrer.model.path.stem} on {engine.description} "
            f"{result.engine_seconds:.3f} s a frame, the paper's generator in PyTorch "
            f"{result.paper_seconds:.2f} s: {result.ratio:.1f} times as fast"
        )
    write_json(json_file, asdict(result))


@app.command(no_args_is_help=True)
def video(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video.")],
    frames: Annotated[int, typer.Option(min=1, help="How many of its frames.")] = 100,
    model: ModelOption = DEFAULT,
    backend: BackendOption = backends.AUTO,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a CPU engine; all by default.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """The whole video job's wall time next to what its parts cost alone.

    Example: deblur-bench video clip.mp4 --frames 50
    """
    console.require("bench", "torch")
    from deblurgan.benchmarks.video import measure

    check_json_target(json_file)
    with Deblurrer(model, backend=backend, threads=threads) as deblurrer:
        result = measure(clip, deblurrer, frames)
    output.print(
        f"{result.frames} frames: decode {result.decode:.2f}, engine {result.engine:.2f}, "
        f"encode {result.encode:.2f} CPU seconds alone; {result.wall:.2f} s together on "
        f"{result.cores} cores: {result.ratio:.3f} of the ideal; frames from memory without an "
        f"encoder at {result.in_memory:.1%} of the engine's own rate"
    )
    write_json(json_file, {**asdict(result), "ratio": result.ratio})


@app.command(no_args_is_help=True)
def training(
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
    write_json(json_file, asdict(result))


@app.command()
def gpu(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|CHECKPOINT",
            help="Models by name or file, and checkpoints, which are taken in every precision. "
            "Default: the model that is shipped.",
        ),
    ] = None,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Frame size.")] = "1280x720",
    runs: Annotated[int, typer.Option(min=1, help="Runs to time of each plan.")] = 200,
    tests: Annotated[
        Path | None,
        typer.Option(metavar="CHECKOUT", help="Run the tests marked gpu of a checkout first."),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(metavar="CLIP", help="Also deblur a video, with the first of the models."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """All that only a GPU shows: the gpu tests, then every model on every engine for GPUs, its
    plan built, its picture verified, frames timed one at a time and in flight; and a video.

    Ends with 1 when a test, a model or the video fails, or no engine is here.

    Example: deblur-bench gpu train/checkpoints/edge.safetensors --tests .
    --clip examples/shaky.mp4 --json gpu.json
    """
    from deblurgan.benchmarks.gpu import measure_models, tables
    from deblurgan.benchmarks.plans import export_all, require_gpu, run_gpu_tests

    check_json_target(json_file)
    width, height = console.parse_size(size)
    device = require_gpu()
    if clip is not None and not clip.is_file():
        raise DeblurError(
            clip, expected="a video", found="no such file", remedy="check the path, or leave it out"
        )
    tested = None if tests is None else run_gpu_tests(tests)
    with tempfile.TemporaryDirectory(prefix="deblurgan-") as folder:
        chosen: list[Model] = []
        for name in models or [DEFAULT]:
            is_checkpoint = Path(name).suffix in (".safetensors", ".pth", ".h5")
            chosen += export_all(Path(name), Path(folder)) if is_checkpoint else [find_model(name)]
        found = measure_models(
            chosen, (width, height), runs, clip, console.watching, console.complain
        )
    output.print(f"{device.description}, {width}x{height}")
    for table in tables(found):
        output.print(table)
    for reason in found.missing.values():
        output.print(f"missing: {reason}")
    if tested is not None:
        output.print(f"tests: {tested.said}")
    result = {
        "device": asdict(device),
        "size": [width, height],
        "tests": tested and asdict(tested),
        **asdict(found),
    }
    write_json(json_file, result)
    if found.failed or not found.engines or (tested is not None and not tested.passed):
        raise typer.Exit(console.OUR_FAILURE)


@app.command(no_args_is_help=True)
def curves(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders that deblur-train run made.")
    ],
    picture: Annotated[
        Path, typer.Option("--output", "-o", metavar="PICTURE", help="A PNG file to draw to.")
    ],
) -> None:
    """Draw how training runs went: their loss, and the gain on held-out pairs.

    Example: deblur-bench curves runs/mine -o curves.png
    """
    console.require("bench", "matplotlib")
    from deblurgan.benchmarks.curves import draw_curves
    from deblurgan.runtime.whole_file import write_whole

    write_whole(picture, draw_curves(runs))


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """JSON has no infinity; a figure that is infinite is null."""
    if path is not None:
        text = json.dumps(without_infinity(result), indent=2, allow_nan=False)
        path.write_text(text + "\n")


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


def main() -> None:
    raise SystemExit(console.run(app))
