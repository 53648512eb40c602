"""``deblur-train``: the command line of training."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError

if TYPE_CHECKING:
    from deblurgan.train.evaluation import Report

app = console.new_program("Train generators that make blurred pictures sharp.")

table = Console(highlight=False, soft_wrap=True)

SECONDS = {"s": 1, "m": 60, "h": 3600}
MODULES = (
    "torch", "lightning_fabric", "pydantic", "safetensors", "skimage", "tensorboardX",
)  # fmt: skip

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA",
        help="Folders: GOPRO_Large as unpacked; A/ and B/; blur/ and sharp/; combined:FOLDER of "
        "A|B pictures; or sharp photographs and clips, which are blurred on the fly.",
    ),
]


class Size(str, Enum):
    """The sizes that pictures are evaluated at."""

    full = "full"
    half = "half"
    both = "both"


class Method(str, Enum):
    """What blurs a synthetic pair."""

    trajectory = "trajectory"
    shake = "shake"
    both = "both"
    frames = "frames"


@app.command(no_args_is_help=True)
def run(
    data: Data,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where everything of the run goes."),
    ],
    recipe: Annotated[
        str, typer.Option(help="edge, paper or keras, or a TOML file like theirs.")
    ] = "edge",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change a value of the recipe."),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Stop and save after 90s, 20m, 2h; for a recipe without epochs, as edge is, "
            "the length of the run.",
        ),
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Begin with these weights.")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Learn this generator's pictures as well, be it a larger one or the same: how "
            "much of them, the recipe's table teacher says.",
        ),
    ] = None,
    vgg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="VGG's weights, where torchvision has none at hand."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="How many of them; torchrun decides for several machines.")
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that read and blur: by default one, beside a GPU up to 12; "
            "0 blurs on the GPU.",
        ),
    ] = None,
) -> None:
    """Train, or go on with the run in FOLDER when it holds one.

    The same command again resumes exactly where the last state was saved,
    whatever stopped it: a signal (exit status 130), the time limit (0), a power cut.
    Held-out pictures are deblurred now and then: best.safetensors is what gained most.

    Examples: deblur-train run photos/ -o runs/edge --time-limit 2h

    deblur-train run GOPRO_Large photos/ -o runs/comb --recipe paper --set data.mixture=[1,2]
    """
    console.require("train", *MODULES)
    seconds = None if time_limit is None else parse_time(time_limit)
    from deblurgan.train.devices import Devices
    from deblurgan.train.loop import Ending, Run, train
    from deblurgan.train.recipe import load_recipe

    loaded = load_recipe(recipe, changes or ())
    if not loaded.loss.content:
        console.refuse_idle({"--vgg": vgg}, "a content loss", "loss.content=0")
    ending = train(
        loaded,
        Run(data, output, Devices(device, devices), workers, seconds, vgg, start_from, teacher),
    )
    if ending is None:
        return  # the first process speaks for all
    if ending is not Ending.FINISHED:
        console.messages.print(f"not finished: {ending.value}; the same command goes on with it")
    best = output / "best.safetensors"
    if best.exists():
        typer.echo(f"best: {best}; make a model of it with: deblur-export onnx {best}")
    if ending is Ending.STOPPED:
        raise typer.Exit(console.INTERRUPTED)


@app.command(no_args_is_help=True)
def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors or .pth file.")
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder as for run, of which test/ counts where it has one; photographs are "
            "blurred by eval-v1.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="For tables and a sheet of the worst cases, in place of an earlier call's.",
        ),
    ] = None,
    size: Annotated[Size, typer.Option(help="Size of the pictures.")] = Size.both,
    worst: Annotated[
        int | None, typer.Option(min=0, help="How many cases the sheet shows (4).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Measure only so many pictures, evenly spread.")
    ] = None,
    gamma: Annotated[bool, typer.Option("--gamma", help="Take GoPro's blur_gamma.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """PSNR, SSIM and CW-SSIM before and after, for each picture and in the mean.

    Example: deblur-train evaluate best.safetensors GOPRO_Large -o evaluation
    """
    console.require("train", *MODULES)

    if output is None:
        console.refuse_idle({"--worst": worst}, "a folder for the sheet", "none", "-o FOLDER")
    from deblurgan.train.devices import find_device
    from deblurgan.train.report import evaluate_checkpoint, report_table

    heard: list[Report] = []
    try:
        with console.watching("measured") as watch:
            evaluate_checkpoint(
                checkpoint,
                data,
                output,
                sizes=("full", "half") if size is Size.both else (size.value,),
                limit=limit,
                worst=4 if worst is None else worst,
                gamma=gamma,
                device=find_device(device),
                progress=watch,
                hear=heard.append,
            )
    finally:
        for report in heard:
            table.print(report_table(report))


@app.command(no_args_is_help=True)
def blur(
    photos: Annotated[
        str, typer.Argument(metavar="PHOTOS", help="A folder of sharp photographs or clips.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="A new folder, for blur/ and sharp/.")
    ],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many pairs.")],
    method: Annotated[
        Method,
        typer.Option(
            help="trajectory is the paper's; shake, a camera that moves and turns; both, by "
            "turns; frames, those of clips without cuts, averaged over time as GoPro's pairs are."
        ),
    ] = Method.both,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 1,
    preview: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Draw kernels and pairs of the set, too."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", "-y", help="Replace a picture of --preview that is there."),
    ] = False,
) -> None:
    """Write a set of synthetic pairs: sharp photographs, and what a shaken camera makes of them.

    Examples: deblur-train blur photos/ set/ --count 2000 --preview set.png

    deblur-train blur clips/ set/ --count 200 --method frames
    """
    console.require("train", *MODULES)
    from deblurgan.runtime.image_file import save_image
    from deblurgan.runtime.whole_file import check_new_file
    from deblurgan.train.layouts import check_not_read, find_source
    from deblurgan.train.preview import preview as draw
    from deblurgan.train.synthesis import write_pair_set

    if preview is None:
        console.refuse_idle(
            {"--overwrite": overwrite or None},
            "a picture to replace", "none", "--preview PICTURE",
        )  # fmt: skip
    else:
        check_preview(preview)
    source = find_source(photos, "train")
    if preview is not None:
        check_not_read(preview, source)
        check_new_file(preview, preview.suffix, overwrite)
    with console.watching("written") as watch:
        write_pair_set(source, output, count=count, seed=seed, method=method.value, watch=watch)
    if preview is not None:
        sheet = draw(source, seed=seed, method=method.value, rows=min(count, 4))
        save_image(preview, sheet.flip(0).permute(1, 2, 0).numpy())
    drawn = "" if preview is None else f", drawn in {preview}"
    typer.echo(f"{output}: {count} pair{'s' if count > 1 else ''}{drawn}")


@app.command(no_args_is_help=True)
def organize(
    gopro: Annotated[Path, typer.Argument(metavar="GOPRO_LARGE", help="As it was unpacked.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="For train/ and test/.")],
    link: Annotated[
        bool, typer.Option("--link", help="Make hard links: no copies, the same disk.")
    ] = False,
) -> None:
    """Put GoPro's pictures into {train,test}/{A,B}/, as the Keras article has them.

    Training does not need it: deblur-train run takes GOPRO_Large as it is.

    Example: deblur-train organize GOPRO_Large organized/
    """
    console.require("train", *MODULES)
    from deblurgan.train.organize import organize as place_files

    with console.watching("placed") as watch:
        place_files(gopro, output, link=link, watch=watch)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="edge, paper, keras, or a TOML file.")] = "edge",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change a value of the recipe."),
    ] = None,
) -> None:
    """Print a recipe whole, every value explained.

    Example: deblur-train recipe paper > mine.toml
    """
    console.require("train", *MODULES)
    from deblurgan.train.recipe import load_recipe, render_recipe

    typer.echo(render_recipe(load_recipe(name, changes or ())), nl=False)


def check_preview(picture: Path) -> None:
    """Before the set is written, not after it."""
    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise DeblurError(
            picture,
            expected="a picture's name ending in .png, .jpg or .webp",
            found=picture.suffix or "no ending",
            remedy=f"write --preview {picture.with_suffix('.png')}",
        )


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


def main() -> None:
    raise SystemExit(console.run(app))
