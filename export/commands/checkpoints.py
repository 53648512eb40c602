"""Options that go with a checkpoint, and how commands load one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from deblurgan.runtime import console
from deblurgan.runtime.contract import PRECISIONS
from deblurgan.runtime.errors import DeblurError

if TYPE_CHECKING:
    from deblurgan.export.calibration import Method
    from deblurgan.export.search import QuantisationRequest
    from deblurgan.train.checkpoint import Checkpoint

CheckpointArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A checkpoint of this project (.safetensors), of the original release (.pth) "
        "or of the Keras article (.h5).",
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER|CLIP",
        help="int8: pictures or a clip like those to be deblurred, to take its ranges from.",
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|min-max|entropy|percentile",
        help="int8: how ranges are taken. Default: auto, the nearest to fp32 of the three.",
    ),
]
SkipOption = Annotated[
    str | None,
    typer.Option(
        metavar="clamp|average|none",
        help="Original release only: how the blurred picture is added to the output; "
        "clamp (the default) is its --learn_residual, none is without.",
    ),
]
StatisticsOption = Annotated[
    str | None,
    typer.Option(
        metavar="image|tracked",
        help="Original release only: norms see each picture's own statistics, as the "
        "release runs (the default), or those tracked in training.",
    ),
]
DropoutOption = Annotated[
    bool,
    typer.Option("--no-dropout", help="Original release only: it was trained with --no_dropout."),
]
METHODS = ("auto", "min-max", "entropy", "percentile")


def read_checkpoint(
    path: Path, skip: str | None = None, statistics: str | None = None, no_dropout: bool = False
) -> Checkpoint:
    """Load a checkpoint and say what was recognised in a foreign one."""
    check_choice("--skip", skip or "clamp", ("clamp", "average", "none"))
    check_choice("--statistics", statistics or "image", ("image", "tracked"))
    console.require("export", "torch", "safetensors", "onnx", "onnxscript")
    # Here and not above: other commands work where PyTorch is not installed.
    from deblurgan.train.checkpoint import load_checkpoint
    from deblurgan.train.release import ReleaseOptions

    options = ReleaseOptions(
        skip=cast(Literal["clamp", "average", "none"], skip or "clamp"),
        statistics=cast(Literal["image", "tracked"], statistics or "image"),
        trained_with_dropout=not no_dropout,
    )
    loaded = load_checkpoint(path, options)
    if loaded.recognised:
        typer.echo(f"recognised  {loaded.recognised}")
    else:
        refuse_release_options(path, skip, statistics, no_dropout)
    return loaded


def refuse_release_options(
    path: Path, skip: str | None, statistics: str | None, no_dropout: bool
) -> None:
    """Refuse what says how to read a checkpoint of the original release, given another file."""
    console.refuse_idle(
        {"--skip": skip, "--statistics": statistics, "--no-dropout": no_dropout or None},
        "a checkpoint of the original release to go with it",
        str(path),
    )


def beside(source: Path, ending: str) -> Path:
    """The source's name with another ending; a folder's, which is told when it is read, in it."""
    return source.with_name(source.stem + ending) if source.name else source / f"model{ending}"


def read_request(
    precision: str,
    calibration: Path | None,
    pairs: Path | None = None,
    method: str | None = None,
    max_drop: float | None = None,
    max_ssim_drop: float | None = None,
) -> QuantisationRequest | None:
    """What int8 was asked to be like; None for a precision without it.

    Raises :class:`DeblurError` for a choice that does not exist, and for options
    that would change nothing.
    """
    check_choice("--precision", precision, PRECISIONS)
    chosen = check_method(method)
    if not precision.startswith("int8"):
        given = {"--calibration": calibration, "--pairs": pairs, "--method": method}
        console.refuse_idle(
            given | {"--max-drop": max_drop, "--max-ssim-drop": max_ssim_drop},
            "an int8 precision to go with it",
            f"--precision {precision}",
            "--precision int8 (CPUs) or int8-fp16 (TensorRT)",
        )
        return None
    if pairs is None:
        limits = {"--max-drop": max_drop, "--max-ssim-drop": max_ssim_drop}
        console.refuse_idle(limits, "pairs to measure the drop on", "none", "--pairs FOLDER")
    if calibration is None:
        raise DeblurError(
            "--precision",
            expected="pictures or a clip to take the ranges of int8 from",
            found="no --calibration",
            remedy="add --calibration FOLDER with blurred pictures like those to be deblurred"
            + (f", for example --calibration {pairs}/blur" if pairs else ""),
        )
    from deblurgan.export.search import QuantisationRequest

    usual = QuantisationRequest(calibration, pairs)
    return replace(
        usual,
        method=chosen,
        max_drop=usual.max_drop if max_drop is None else max_drop,
        max_ssim_drop=usual.max_ssim_drop if max_ssim_drop is None else max_ssim_drop,
    )


def check_method(method: str | None) -> Method | Literal["auto"]:
    """How int8's ranges are to be taken; :class:`DeblurError` for what is no way to."""
    if method is not None:
        check_choice("--method", method, METHODS)
    return cast('Method | Literal["auto"]', method or "auto")


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DeblurError(
            option,
            expected=f"one of {', '.join(choices)}",
            found=repr(value),
            remedy=f"for example {option} {choices[0]}",
        )
