"""``deblur-bench latency``: how long a frame takes, next to PyTorch, the machine and the paper."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement

from deblurgan.benchmarks.commands.options import (
    JsonOption,
    check_drawn_target,
    check_json_target,
    check_threads,
    output,
)
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import backends, console
from deblurgan.runtime.contract import PRECISIONS
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT, find_model
from deblurgan.runtime.targets import check_all_apart
from deblurgan.runtime.whole_file import write_whole

Repeated = list[str] | None
SIZE = "1280x720"


@dataclass(frozen=True)
class Files:
    """What is written; ``pictures`` by what they show."""

    json: Path | None
    csv: Path | None
    action: Path | None
    pictures: dict[str, Path | None]


def latency_command(
    model: Annotated[
        Repeated,
        typer.Option(
            help="A shipped model's name, or a model file; may be repeated. "
            f"Default: {DEFAULT}; none with --precision."
        ),
    ] = None,
    backend: Annotated[
        Repeated,
        typer.Option(
            help=f"One of {', '.join(backends.NAMES)}; may be repeated. Default: {backends.AUTO}."
        ),
    ] = None,
    checkpoint: Annotated[
        Repeated,
        typer.Option(
            metavar="FILE|paper",
            help="Also run this generator in PyTorch; paper is the paper's, untrained. "
            "May be repeated.",
        ),
    ] = None,
    precision: Annotated[
        Repeated,
        typer.Option(
            help=f"Export every --checkpoint in it and measure that too: {', '.join(PRECISIONS)}. "
            "May be repeated.",
        ),
    ] = None,
    size: Annotated[
        Repeated,
        typer.Option(metavar="WIDTHxHEIGHT", help=f"Frame size; may be repeated. Default: {SIZE}."),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, max=256, help="Frames at once; may be repeated. Default: 1."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Of the processor; all by default; may be repeated."),
    ] = None,
    peer: Annotated[
        Repeated,
        typer.Option(
            help="A way to run PyTorch: eager, channels-last, compiled, bf16, fp16, compiled-fp16, "
            "cuda-graph (fp16); may be repeated. Default: all that this device has "
            "instructions for.",
        ),
    ] = None,
    peers: Annotated[bool, typer.Option(help="Measure PyTorch beside the engines.")] = True,
    stream: Annotated[
        bool, typer.Option(help="Also measure frames that follow each other.")
    ] = True,
    runs: Annotated[int, typer.Option(min=10, help="Runs of a row.")] = 30,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="A row ends after this time, or its runs.")
    ] = 20.0,
    clip: Annotated[
        Path | None,
        typer.Option(help="Also the whole job on a video, with the first model and backend."),
    ] = None,
    json_file: JsonOption = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE.csv", help="Also write the rows there.")
    ] = None,
    action: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="For github-action-benchmark, smaller is better."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw latency by frame size.")
    ] = None,
    roofline: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the rows under the peaks.")
    ] = None,
    scaling: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw time against pixels, frames and threads."),
    ] = None,
) -> None:
    """How long a frame takes: in the engine, host to host, and in flight; next to the paper's
    generator in PyTorch, to what this machine can do at most, and to the paper's 0.85 s.

    Example: deblur-bench latency --size 640x360 --size 1280x720 --json latency.json
    """
    console.require("bench", "torch", "matplotlib")
    from deblurgan.benchmarks.gate_work import count_frames
    from deblurgan.benchmarks.latency import Budget, measure_latency
    from deblurgan.benchmarks.latency_choice import (
        PEERS,
        Choice,
        Costs,
        choose_device,
        choose_peers,
        choose_workloads,
        export_models,
        load_generators,
    )
    from deblurgan.benchmarks.peak import choose_peaks
    from deblurgan.benchmarks.workload import PAPER

    pictures = {"plot": plot, "roofline": roofline, "scaling": scaling}
    check_drawn_target(csv_file, ".csv")
    check_drawn_target(action, ".json")
    for path in pictures.values():
        check_drawn_target(path, ".png")
    check_json_target(json_file)
    check_all_apart(json_file, csv_file, action, *pictures.values())
    check_names("--backend", backend or [], backends.NAMES)
    check_names("--precision", precision or [], PRECISIONS)
    check_names("--peer", peer or [], PEERS)
    if precision and not checkpoint:
        raise DeblurError(
            "--precision",
            expected="a --checkpoint to export in it",
            found="none",
            remedy="add --checkpoint FILE, or --checkpoint paper; a model's is in its file",
        )
    if not peers:
        in_pytorch = {"--peer": peer, "--checkpoint": None if precision else checkpoint}
        console.refuse_idle(in_pytorch, "PyTorch to be measured", "--no-peers", "--peers")
    if 1 not in (batch or [1]):
        one_at_a_time = {"--plot": plot, "--roofline": roofline}
        console.refuse_idle(one_at_a_time, "frames one at a time", "--batch", "--batch 1")
    if clip is not None:
        count_frames(clip, 1)
    chosen_backends = backend or [backends.AUTO]
    device = choose_device(chosen_backends)
    sizes = [console.parse_size(text) for text in size or [SIZE]]
    most = backends.available_threads()
    for count in threads or []:
        check_threads(count, most)
    generators = list(dict.fromkeys([*([PAPER] if peers else []), *(checkpoint or [])]))
    check_rows_differ("--checkpoint", {(Path(n), Path(n).stem): n for n in generators})
    checkpoints = load_generators(generators)
    with tempfile.TemporaryDirectory(prefix="deblurgan-") as folder:
        models = model or ([] if precision else [DEFAULT])
        check_rows_differ("--model", {row_of_model(name): name for name in models})
        exported = {name: checkpoints[name] for name in checkpoint or []}
        models = [*models, *export_models(exported, precision or [], Path(folder))]
        choice = Choice(
            models,
            chosen_backends,
            sizes,
            batch or [1],
            threads or [most],
            generators if peers else [],
            choose_peers(peer or [], device),
            stream,
        )
        workloads = choose_workloads(choice, device)
        peaks = choose_peaks(list(dict.fromkeys(("cpu", device))), choice.threads)
        with console.watching("turns") as watch:
            found = measure_latency(
                workloads, peaks, Budget(runs, seconds), Costs(checkpoints), watch
            )
        files = Files(json_file, csv_file, action, pictures)
        try:
            video = clip and measure_video(clip, models[0], chosen_backends[0])
        except BaseException:
            tell(found, None, files)
            raise
        failures = tell(found, video, files)
        if failures:
            raise failures[0]
    if not any(row.frame is not None for row in found.rows):
        raise typer.Exit(console.OUR_FAILURE)


def tell(found: Any, video: Any, files: Files) -> list[DeblurError]:
    """Write and show all that can be: what took so long to measure is not to be lost to a
    full disk, or to a picture without a row for it. What could not be written comes back.
    """
    from deblurgan.benchmarks.latency_tables import to_action, to_csv

    tables = ((files.csv, to_csv), (files.action, to_action))
    writers = [
        partial(write_result, files.json, "latency", figures(found, video)),
        *(partial(write_table, found, path, made) for path, made in tables if path is not None),
        *(partial(draw, found, name, path) for name, path in files.pictures.items() if path),
    ]
    failures = []
    for write in writers:
        try:
            write()
        except DeblurError as failure:
            failures.append(failure)
    show(found, video)
    return failures


def write_table(found: Any, path: Path, made: Callable[[Any], str]) -> None:
    write_whole(path, made(found.rows).encode())


def draw(found: Any, name: str, path: Path) -> None:
    from deblurgan.benchmarks.drawing import to_png
    from deblurgan.benchmarks.latency_plots import draw_latency, draw_scaling
    from deblurgan.benchmarks.roofline import draw_roofline

    drawn = {
        "plot": lambda: draw_latency(found.rows),
        "roofline": lambda: draw_roofline(found.rows, found.peaks),
        "scaling": lambda: draw_scaling(found.rows),
    }
    write_whole(path, to_png(drawn[name]()))


def show(found: Any, video: Any) -> None:
    from deblurgan.benchmarks.latency_tables import (
        compare_with_published,
        latency_table,
        peaks_table,
        remarks,
    )

    table = latency_table(found.rows)
    # A narrow terminal breaks lines, which reads better than cells that are cut.
    natural = Measurement.get(output, output.options.update(max_width=1000), table).maximum
    wide = Console(
        file=output.file, width=max(output.width, natural), highlight=False, markup=False
    )
    wide.print(table)
    for remark in remarks(found.rows):
        output.print(remark)
    output.print(peaks_table(found.peaks))
    for reason in found.missing:
        output.print(f"missing: {reason}")
    engines = [
        row for row in found.rows if row.frame is not None and not row.engine.startswith("pytorch")
    ]
    if engines:
        largest = max(engines, key=lambda row: (row.width * row.height, -row.frame.p50))
        output.print(compare_with_published(largest))
    if video is not None:
        output.print(
            f"the whole video job: {video.frames} frames in {video.wall:.2f} s, "
            f"{video.frames_a_second:.3g} frames/s; deblur-bench video tells more"
        )


def figures(found: Any, video: Any) -> dict[str, Any]:
    from deblurgan.benchmarks.paper import PAPER_TIME
    from deblurgan.benchmarks.video import as_figures

    return {
        **asdict(found),
        "published": asdict(PAPER_TIME),
        "video": video and as_figures(video),
    }


def measure_video(clip: Path, model: str, backend: str) -> Any:
    from deblurgan.benchmarks.video import measure
    from deblurgan.runtime.deblurrer import Deblurrer

    with Deblurrer(model, backend=backend) as deblurrer:
        return measure(clip, deblurrer)


def check_names(option: str, given: list[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise DeblurError(
                option,
                expected=f"one of {', '.join(known)}",
                found=name,
                remedy="leave it out for the default",
            )


def row_of_model(name: str) -> tuple[Path, object]:
    """A model's file, and what its rows go by."""
    model = find_model(name)
    return model.path, (model.path.stem, model.path.suffix, model.card.precision)


def check_rows_differ(option: str, files: dict[tuple[Path, object], str]) -> None:
    """Refuse files whose rows would have one name."""
    rows = dict[object, str]()
    for (_, row), name in files.items():
        other = rows.setdefault(row, name)
        if other != name:
            raise DeblurError(
                option,
                expected="files whose names differ, as rows go by these",
                found=f"{other} and {name}",
                remedy="name one of them otherwise",
            )
