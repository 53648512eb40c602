"""``deblur-export``: checkpoints to model files, and what a model file says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from deblurgan.runtime.console import messages, new_app, parse_size, require, run
from deblurgan.runtime.contract import Model, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.onnx_file import read_onnx

if TYPE_CHECKING:
    from deblurgan.export.onnx_export import ExportReport

app = new_app(
    "Turns checkpoints into model files: one ONNX file with frames in and frames out, "
    "checked against PyTorch before it gets its name. Exit status: 0 done, 2 bad input, "
    "1 a failure of ours."
)


@app.command("onnx", no_args_is_help=True)
def onnx_command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint of this project (.safetensors) or of the original release (.pth).",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="MODEL.onnx",
            help="The model file. Default: the checkpoint's name with .onnx or -fp16.onnx.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16",
            help="fp16 halves weights and activations, for GPUs; CPUs gain nothing from it.",
        ),
    ] = "fp32",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Freeze the frame size, in pixels. Without it the model takes any size.",
        ),
    ] = None,
    skip: Annotated[
        str,
        typer.Option(
            metavar="clamp|average|none",
            help="Original release only: how the blurred picture is added to the output; "
            "clamp is its --learn_residual, none is without.",
        ),
    ] = "clamp",
    statistics: Annotated[
        str,
        typer.Option(
            metavar="image|tracked",
            help="Original release only: norms see each picture's own statistics, as the "
            "release runs, or those tracked in training.",
        ),
    ] = "image",
    no_dropout: Annotated[
        bool,
        typer.Option(
            "--no-dropout", help="Original release only: it was trained with --no_dropout."
        ),
    ] = False,
    licence: Annotated[
        str, typer.Option(help="The weights' licence, to be carried in the file.")
    ] = "",
    quality: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json",
            help="Figures to carry in the file: what deblur-bench quality --json wrote. "
            "May be given several times.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace MODEL.onnx if it exists.")
    ] = False,
) -> None:
    """Write a checkpoint's generator as a model file.

    The file is compared with PyTorch on two pictures before it gets its name;
    one that makes another picture is not kept. Takes about half a minute.

    Example: deblur-export onnx best.safetensors -o edge-fp16.onnx --precision fp16
    """
    check_choice("--precision", precision, ("fp32", "fp16"))
    check_choice("--skip", skip, ("clamp", "average", "none"))
    check_choice("--statistics", statistics, ("image", "tracked"))
    frozen = None if size is None else parse_size(size)
    ending = ".onnx" if precision == "fp32" else f"-{precision}.onnx"
    measured = {path.stem: read_mean(path) for path in quality or []}
    target = output or checkpoint.with_name(checkpoint.stem + ending)
    require("export", "torch", "safetensors", "onnx", "onnxscript")
    # Here and not above: `info` works where neither PyTorch nor onnx is installed.
    from deblurgan.export.onnx_export import check_target, export_onnx
    from deblurgan.train.checkpoint import load_checkpoint
    from deblurgan.train.release import ReleaseOptions

    check_target(target, overwrite)
    options = ReleaseOptions(
        skip=cast(Literal["clamp", "average", "none"], skip),
        statistics=cast(Literal["image", "tracked"], statistics),
        trained_with_dropout=not no_dropout,
    )
    loaded = load_checkpoint(checkpoint, options)
    if loaded.recognised:
        typer.echo(f"recognised  {loaded.recognised}")
    with messages.status("exporting and comparing with PyTorch"):
        report = export_onnx(
            loaded,
            target,
            cast(Literal["fp32", "fp16"], precision),
            frozen,
            licence=licence,
            quality=measured,
            overwrite=overwrite,
        )
    echo_rows(report_rows(report))


@app.command("info", no_args_is_help=True)
def info_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A model file (.onnx).")],
) -> None:
    """Print what a model file says of itself: generator, precision, frames, origin.

    Needs neither PyTorch nor onnx.

    Example: deblur-export info edge-fp16.onnx
    """
    echo_rows(model_rows(open_model(file)))


def main() -> None:
    """The entry point of ``deblur-export``."""
    raise SystemExit(run(app))


def report_rows(report: ExportReport) -> list[tuple[str, str]]:
    difference = report.difference
    psnr = f"{difference.psnr:.1f} dB" if difference.largest else "infinite"
    return [
        ("written", f"{report.path}, {megabytes(report.size)}, {report.card.precision}"),
        ("against PyTorch", f"largest difference {difference.largest}, mean "
         f"{difference.mean:.4f} levels of 255; PSNR {psnr}"),
    ]  # fmt: skip


def model_rows(model: Model) -> list[tuple[str, str]]:
    card, file = model.card, read_onnx(model.path)
    settings = plain(card.generator.get("settings", {}))
    smallest = f"{card.minimum_size}x{card.minimum_size}"
    frames = (
        f"{model.size[0]}x{model.size[1]} and no other" if model.size
        else f"any size from {smallest}, padded inside to a multiple of {card.stride}"
    )  # fmt: skip
    rows = [
        ("file", f"{model.path}, {megabytes(model.path.stat().st_size)}"),
        ("contract", f"version {card.contract}"),
        ("generator", f"{card.generator.get('name', 'not said')} ({settings})"),
        ("precision", card.precision),
        ("frames", frames),
        ("weights sha256", card.weights_sha256),
        ("licence", card.licence or "not said"),
        *story_rows("trained", card.training),
        *story_rows("quality", card.quality),
    ]
    if card.calibration_sha256:
        rows.append(("calibration sha256", card.calibration_sha256))
    return [*rows, ("onnx", f"opset {file.opset}, by {file.producer or 'nobody named'}")]


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


def echo_rows(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f"{name:{width}}  {value}")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def read_mean(path: Path) -> dict[str, float]:
    """The means in a result of ``deblur-bench quality --json``, rounded."""
    try:
        mean = json.loads(path.read_text())["mean"]
        return {key: round(value, 4) for key, value in mean.items() if isinstance(value, float)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DeblurError(
            path,
            expected="figures that deblur-bench wrote",
            found="something else" if path.exists() else "no such file",
            remedy=f"make them with: deblur-bench quality --photos PHOTOS --json {path}",
        ) from None


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DeblurError(
            option,
            expected=f"one of {', '.join(choices)}",
            found=repr(value),
            remedy=f"for example {option} {choices[0]}",
        )
