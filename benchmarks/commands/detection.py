"""``deblur-bench detection``: does a detector find again what blur has hidden?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Column, Table

from deblurgan.benchmarks.commands.models import ModelsOption, open_models
from deblurgan.benchmarks.commands.options import (
    BackendOption,
    JsonOption,
    check_drawn_target,
    check_json_target,
    output,
)
from deblurgan.benchmarks.commands.pictures import (
    GammaOption,
    LimitOption,
    PairsOption,
    PhotosOption,
    choose_pictures,
)
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import backends, console
from deblurgan.runtime.model_store import DEFAULT

if TYPE_CHECKING:
    from deblurgan.benchmarks.detection import Counts, DetectionReport, View
    from deblurgan.benchmarks.yolox import Detector
    from deblurgan.train.evaluation import EvaluationPair


def detection_command(
    detector: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="An ONNX file of YOLOX's layout: float32 1x3xHxW, BGR 0 to 255, letterboxed "
            "with 114, to 1xNx(5 + classes), not decoded: x y (cells), log w h (cells), "
            "objectness, classes, of strides 8, 16, 32.",
        ),
    ],
    pairs: PairsOption = None,
    photos: PhotosOption = None,
    models: ModelsOption = [DEFAULT],  # noqa: B006
    backend: BackendOption = backends.AUTO,
    limit: LimitOption = None,
    gamma: GammaOption = False,
    score: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="The least objectness times class that counts."),
    ] = 0.3,
    nms: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Of boxes of one class with a larger IoU the best stays."
        ),
    ] = 0.45,
    pictures_folder: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="FOLDER", help="Draw the boxes, a PNG a picture."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Precision, recall and F1 of a detector in blurred and in deblurred pictures.

    The paper's test: what the detector finds in the sharp picture is the reference, and
    found again is what overlaps it with an IoU of 0.5 or more, class by class.

    Example: deblur-bench detection --pairs GOPRO_Large --detector yolox_s.onnx
    """
    console.require("bench", "torch", "safetensors", "skimage", "matplotlib")
    console.require("cpu", "onnxruntime")
    from deblurgan.benchmarks.detection import SCORES, measure_detection
    from deblurgan.benchmarks.detection_pictures import draw_detections
    from deblurgan.benchmarks.drawing import pixels_to_png
    from deblurgan.benchmarks.pictures import find_pictures
    from deblurgan.benchmarks.yolox import Detector
    from deblurgan.runtime.whole_file import make_folder, write_whole

    check_json_target(json_file)
    kind, folder = choose_pictures("detection", {"pairs": pairs, "photos": photos})
    pictures = find_pictures(kind, folder, limit=limit, gamma=gamma)
    detect = Detector(detector, score=min(score, *SCORES), overlap=nms)
    targets = []
    if pictures_folder is not None:
        make_folder(pictures_folder)
        # Numbered: two pictures may differ in their ending alone.
        for number, name in enumerate(pictures.names, 1):
            targets.append(pictures_folder / f"{number:04}-{Path(name).stem}.png")
            check_drawn_target(targets[-1], ".png")
    with ExitStack() as opened:
        deblurrers = open_models(opened, models, backend)
        with console.watching("checked") as watch:
            pictures.check(max(d.model.card.minimum_size for d in deblurrers.values()), watch)
        watch = opened.enter_context(console.watching("measured"))
        done = 0

        def hear(pair: EvaluationPair, views: list[View]) -> None:
            nonlocal done
            if targets:
                drawn = pixels_to_png(draw_detections(views, detect.classes))
                write_whole(targets[done], drawn, durable=False)
            done += 1
            watch(done, len(pictures))

        report = measure_detection(detect, deblurrers, pictures, score, hear)
        precisions = {name: d.model.card.precision for name, d in deblurrers.items()}
    figures = {
        "kind": pictures.kind,
        "folder": pictures.source.path.resolve().name,
        "blur": pictures.blur,
        "detector": as_detector(detect, score),
        "precisions": precisions,
        **as_figures(report, detect.classes),
    }
    try:
        write_result(json_file, "detection", figures)
    finally:
        show(report)
    if pictures_folder is not None:
        from deblurgan.benchmarks.detection_pictures import LEGEND

        output.print(f"{pictures_folder}: {LEGEND}")


def show(report: DetectionReport) -> None:
    from deblurgan.benchmarks.paper import DETECTION, DETECTION_NOTE

    names = ("right", "wrong", "missed", "precision", "recall", "F1")
    columns = [Column(name, justify="right") for name in names]
    table = Table("pictures", *columns, box=box.SIMPLE)
    for name, counts in report.totals.items():
        shares = (counts.precision, counts.recall, counts.f1)
        numbers = (counts.right, counts.wrong, counts.missed)
        table.add_row(name, *map(str, numbers), *map(as_text, shares))
    for row in DETECTION:
        shares = (row.precision, row.recall, row.f1)
        table.add_row(f"paper: {row.pictures}", "", "", "", *map(as_text, shares))
    output.print(table)
    output.print(
        f"{report.references} references in {len(report.pictures)} pictures: what the detector "
        "finds in the sharp ones, whose own row is a check"
    )
    for name in models_of(report):
        output.print(f"{name}: F1 over the blurred pictures' is {sureness(report.f1_gain(name))}")
    show_scores(report)
    output.print(DETECTION_NOTE)


def show_scores(report: DetectionReport) -> None:
    models = models_of(report)
    numbers = ("references", "blurred", *models)
    columns = [Column(name, justify="right") for name in numbers]
    table = Table("F1 by least score", *columns, box=box.SIMPLE)
    for score, totals in report.by_score.items():
        f1 = [as_text(totals[name].f1) for name in ("blurred", *models)]
        table.add_row(f"{score:g}", str(totals["sharp"].right), *f1)
    output.print(table)


def models_of(report: DetectionReport) -> list[str]:
    from deblurgan.benchmarks.detection import BLURRED, SHARP

    return [name for name in report.totals if name not in (BLURRED, SHARP)]


def sureness(gain: tuple[float, float] | None) -> str:
    if gain is None:
        return "of too few pictures to say how sure it is"
    verdict = "" if gain[0] > 0 or gain[1] < 0 else ", which is no proof of a change"
    return f"between {gain[0]:+.3f} and {gain[1]:+.3f} with 95 % confidence{verdict}"


def as_text(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def as_detector(detect: Detector, score: float) -> dict[str, Any]:
    return {
        "file": detect.path.name,
        "input": [detect.width, detect.height],
        "classes": detect.classes,
        "score": score,
        "nms": detect.overlap,
    }


def as_figures(report: DetectionReport, classes: int) -> dict[str, Any]:
    from deblurgan.benchmarks.coco import class_name

    return {
        "references": report.references,
        "f1_gain": {name: report.f1_gain(name) for name in models_of(report)},
        "totals": {name: with_shares(counts) for name, counts in report.totals.items()},
        "by_class": {
            name: {
                class_name(number, classes): asdict(counts)
                for number, counts in sorted(of_version.items())
            }
            for name, of_version in report.by_class.items()
        },
        "by_score": [
            {
                "score": score,
                "totals": {name: with_shares(counts) for name, counts in totals.items()},
            }
            for score, totals in report.by_score.items()
        ],
        "pictures": [asdict(picture) for picture in report.pictures],
    }


def with_shares(counts: Counts) -> dict[str, Any]:
    shares = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    return {**asdict(counts), **shares}
