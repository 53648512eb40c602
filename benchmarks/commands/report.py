"""``deblur-bench report``: results as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurgan.benchmarks.commands.options import BackendOption, ModelOption, output
from deblurgan.runtime import backends, console
from deblurgan.runtime.model_store import DEFAULT
from deblurgan.runtime.targets import check_free

if TYPE_CHECKING:
    from deblurgan.benchmarks.report.page import Shown


def report_command(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT", help="Files that --json wrote, and folders of them (.json)."
        ),
    ],
    page: Annotated[
        Path, typer.Option("--output", "-o", metavar="PAGE", help="The page to write (.html).")
    ],
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURE", help="A blurred picture to show before and after, under a slider."
        ),
    ] = None,
    model: ModelOption = DEFAULT,
    backend: BackendOption = backends.AUTO,
    title: Annotated[str, typer.Option(help="The page's name.")] = "DeblurGAN for the edge",
    note: Annotated[str, typer.Option(help="A sentence to stand on top of the page.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace a page that is there.")
    ] = False,
) -> None:
    """One self-contained HTML page out of results: tables, plots, a before/after slider.

    Examples: deblur-bench report latency.json quality.json -o report.html

    deblur-bench report results/ -o report.html --picture blurred.jpg
    """
    console.require("bench", "torch", "skimage", "matplotlib", "jinja2")
    from deblurgan.benchmarks.report.figures import read_all
    from deblurgan.benchmarks.report.page import draw_page
    from deblurgan.runtime.whole_file import check_new_file, write_whole

    inside = [file for folder in results for file in folder.glob("*.json")]
    for given in (*results, *inside, *([picture] if picture is not None else [])):
        check_free(page, str(given), overwrite=True)
    check_new_file(page, ".html", overwrite)
    if picture is None:
        given_with_it = {"--model": model if model != DEFAULT else None}
        given_with_it["--backend"] = backend if backend != backends.AUTO else None
        console.refuse_idle(
            given_with_it, "a picture to deblur with it", "none", "--picture PICTURE"
        )
    readings = read_all(results, console.say)
    for other in readings.others:
        console.say(f"left out: {other.path}: a result of {other.kind} has no place on a page")
    shown = show(picture, model, backend) if picture is not None else None
    write_whole(page, draw_page(readings, title, note, shown).encode())
    count = len(readings.shown)
    output.print(f"{page}: {count} result{'s' if count > 1 else ''}")


def show(picture: Path, model: str, backend: str) -> Shown:
    from deblurgan.benchmarks.report.page import Shown
    from deblurgan.export.page import compare
    from deblurgan.runtime.deblurrer import Deblurrer
    from deblurgan.runtime.pictures import read_picture

    blurred = read_picture(picture, picture).pixels
    with Deblurrer(model, backend=backend) as deblur:
        return Shown(compare(blurred, deblur(blurred)), picture.name, deblur.model.path.stem)
