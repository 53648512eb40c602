"""``deblur-train``: the command line of training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError

if TYPE_CHECKING:
    import torch

app = console.new_app("Train generators that make blurred pictures sharp.")

SECONDS = {"s": 1, "m": 60, "h": 3600}


@app.callback()
def commands() -> None:
    """Train generators that make blurred pictures sharp."""


@app.command(no_args_is_help=True)
def run(
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="A folder of sharp photographs.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where checkpoints and log go."),
    ],
    generator: Annotated[
        str, typer.Option(help="edge, for devices, or resnet, the paper's.")
    ] = "edge",
    start_from: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Go on from these weights.")
    ] = None,
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="When to stop and save: 90s, 20m, 2h.")
    ] = "20m",
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 8,
    crop: Annotated[int, typer.Option(min=32, help="Pixels a side of a crop.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of AdamW, at its highest.")] = 1e-3,
    reuse: Annotated[int, typer.Option(min=1, help="Crops from each region that is blurred.")] = 32,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; cuda computes in bf16.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of weights and blur.")] = 1,
) -> None:
    """Train on sharp photographs, blurred on the fly, with a pixel loss.

    One photograph in nine is held out. Every two minutes, and at the end, the
    gain over the blurred input on these is printed, and best.safetensors and
    last.safetensors are written to FOLDER. Ctrl-C and SIGTERM save and stop.

    Example: deblur-train run photos/ -o runs/edge --time-limit 2h
    """
    console.require("train", "torch", "safetensors")
    from deblurgan.train.blur import BlurRecipe
    from deblurgan.train.loop import PixelRecipe, train_pixels
    from deblurgan.train.networks import GENERATORS

    if generator not in GENERATORS:
        raise DeblurError(
            "--generator",
            expected=" or ".join(GENERATORS),
            found=generator,
            remedy="leave it out for edge",
        )
    recipe = PixelRecipe(
        generator=generator,
        time_limit=parse_time(time_limit),
        batch=batch,
        crop=crop,
        learning_rate=learning_rate,
        reuse=reuse,
        seed=seed,
    )
    best = train_pixels(
        photos, output, recipe, BlurRecipe(), device=find_device(device), start_from=start_from
    )
    typer.echo(f"best: {best}; make a model of it with: deblur-export onnx {best}")


def parse_time(text: str) -> float:
    """``90s``, ``20m`` or ``2h`` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or float(match[1]) == 0:
        raise DeblurError(
            "--time-limit",
            expected="a number above 0 and s, m or h",
            found=text,
            remedy="for example --time-limit 20m",
        )
    return float(match[1]) * SECONDS[match[2]]


def find_device(name: str) -> torch.device:
    """The named device; ``auto`` is CUDA where it works."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("neither cpu nor cuda")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeblurError(
            "--device",
            expected="a device that is there",
            found=f"{name} ({str(error).splitlines()[0]})",
            remedy="leave it out, or use --device cpu",
        ) from None
    return device


def main() -> None:
    raise SystemExit(console.run(app))
