"""The ladder: one checkpoint in every precision, each measured on every engine here.

:func:`climb` writes the model files, ``ladder.json`` (:mod:`.report` documents it) and
``ladder.html`` into one folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, cast

from deblurgan.export.calibration import FEWEST
from deblurgan.export.frames import Precision
from deblurgan.export.ladder.folders import PairFolder, open_folders, to_frame, write_blurred
from deblurgan.export.ladder.machine import describe_machine
from deblurgan.export.ladder.page import draw_page
from deblurgan.export.ladder.plans import build_plans
from deblurgan.export.ladder.report import (
    SCHEMA,
    LadderReport,
    Run,
    Rung,
    Speed,
    Subject,
    Timing,
    Worst,
)
from deblurgan.export.ladder.runs import Eager, Runner, find_runners
from deblurgan.export.ladder.scores import Scores, score
from deblurgan.export.ladder.target import HTML, JSON, check_target, file_name, publish, staging
from deblurgan.export.ladder.timing import measure_speed
from deblurgan.export.onnx_export import check_size, export_onnx
from deblurgan.export.search import MOST_PAIRS, QuantisationRequest
from deblurgan.runtime.contract import PRECISIONS, Model, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole
from deblurgan.train.checkpoint import Checkpoint, weights_sha256
from deblurgan.train.networks import count_parameters, describe_generator
from deblurgan.train.picture_files import fit_picture

MOST_CALIBRATION = 64  # pictures of the first pairs, where nothing else is given

Method = Literal["auto", "min-max", "entropy", "percentile"]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Measuring:
    """How much is measured: ``size`` is of the frames that are timed, in pixels,
    ``seconds`` go to each engine, over ``rounds``; of each folder at most
    ``pictures`` are deblurred (None: all), ``with_pytorch`` of these in PyTorch as
    well, which takes long, and the ``crops`` worst places are shown.
    """

    size: tuple[int, int] = (1280, 720)
    seconds: float = 10.0
    rounds: int = 3
    pictures: int | None = None
    with_pytorch: int = 2
    crops: int = 3


USUAL = Measuring()

__all__ = ["HTML", "JSON", "Measuring", "climb"]


def climb(
    checkpoint: Checkpoint,
    pairs: Sequence[str | Path],
    calibration: Path | None,
    folder: Path,
    *,
    tune: Path | None = None,
    title: str | None = None,
    note: str = "",
    licence: str = "",
    precisions: Sequence[str] = PRECISIONS,
    method: Method = "auto",
    max_drop: float = 0.1,
    max_ssim_drop: float = 0.002,
    show: str | Path | None = None,
    measuring: Measuring = USUAL,
    overwrite: bool = False,
    tell: Tell = lambda _step: None,
) -> LadderReport:
    """Export every precision, measure each, and write the report into ``folder``.

    ``pairs`` are folders in any layout that training takes, each reported on its own;
    ``sharp:FOLDER`` is blurred by ``eval-v1``. Where ``calibration`` (pictures or a
    clip) or ``tune`` (pairs that the int8 search is judged by) is None, the first pairs
    serve, and the report says so. ``show`` is the one of ``pairs`` whose pictures are in
    the page, where others must not be passed on. ``note`` stands on top of the page;
    ``title`` is the generator's name if it is None, and files are named after it.
    ``tell`` hears what is being done.

    Raises :class:`DeblurError` for bad pairs, for a folder that cannot be written or
    that holds a report already, and where an export fails; nothing is left then.
    """
    title = title or str(describe_generator(checkpoint.generator)["name"])
    precisions = ("fp32", *(precision for precision in precisions if precision != "fp32"))
    check_size(measuring.size, checkpoint.generator.minimum_size)
    check_target(folder, title, precisions, overwrite)
    check_shown(show, pairs)
    folders = open_folders(pairs, checkpoint.generator.minimum_size, measuring.pictures)
    shown = folders if show is None else [folders[[str(f) for f in pairs].index(str(show))]]
    with staging(folder) as stage:
        request, calibrated, tuned = None, "", ""
        if any(precision.startswith("int8") for precision in precisions):
            check_enough(calibration, folders[0], pairs[0])
            calibrated = say_what(calibration, folders[0], "blurred pictures", MOST_CALIBRATION)
            tuned = say_what(tune, folders[0], "pairs", MOST_PAIRS)
            request = QuantisationRequest(
                calibration=calibration
                or write_blurred(folders[0], stage / "calibration", MOST_CALIBRATION),
                pairs=tune or Path(pairs[0]),
                method=method,
                max_drop=max_drop,
                max_ssim_drop=max_ssim_drop,
            )
        models, warnings = export_all(checkpoint, stage, title, precisions, request, licence, tell)
        runners, missing = find_runners(models)
        plans, reasons = build_plans(models, folders, measuring.size, tell)
        runners += plans
        compared = pick_compared(runners)
        speed, scores = measure(checkpoint, folders, shown, runners, compared, measuring, tell)
        timing, speeds = speed
        report = LadderReport(
            schema=SCHEMA,
            made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            title=title,
            note=note,
            subject=describe_subject(checkpoint),
            machine=describe_machine(),
            timing=timing,
            folders=tuple(scores.folders),
            calibrated=calibrated,
            tuned=tuned,
            warnings=name_source(warnings, request, calibration, folders[0].name),
            rungs=make_rungs(models, runners, speeds, scores, compared[0]),
            missing=(*missing, *reasons),
            worst=describe_worst(runners, compared, scores),
        )
        write_whole(stage / JSON, report.to_json().encode())
        # Names of files may be no Unicode.
        write_whole(stage / HTML, draw_page(report, scores).encode("utf-8", "replace"))
        publish(stage, folder)
    return report


def export_all(
    checkpoint: Checkpoint,
    stage: Path,
    title: str,
    precisions: Sequence[str],
    request: QuantisationRequest | None,
    licence: str,
    tell: Tell,
) -> tuple[list[Model], tuple[str, ...]]:
    """A file of every precision, in their order, and what the exports warn of.

    int8 comes first: what it reads is then refused before any other work.
    """
    models, choice, warnings = {}, None, list[str]()
    for precision in sorted(precisions, key=lambda name: not name.startswith("int8")):
        tell(f"exporting {precision}")
        path = stage / file_name(title, precision)
        exported = export_onnx(
            checkpoint,
            path,
            cast(Precision, precision),
            quantisation=request if precision.startswith("int8") else None,
            choice=choice,
            licence=licence,
            progress=lambda done, total, what: tell(f"{what}, {done} of {total}"),
        )
        choice = choice or exported.choice
        warnings += exported.warnings
        models[precision] = open_model(path)
    return [models[precision] for precision in precisions], tuple(dict.fromkeys(warnings))


def measure(
    checkpoint: Checkpoint,
    folders: Sequence[PairFolder],
    shown: Sequence[PairFolder],
    runners: Sequence[Runner],
    compared: tuple[int, int],
    measuring: Measuring,
    tell: Tell,
) -> tuple[tuple[Timing, list[Speed | None]], Scores]:
    """How fast all runners are on the first blurred picture, and how good on all."""
    width, height = measuring.size
    tell(f"timing frames of {width}x{height}")
    first = next(folders[0].read()).blurred
    speed = measure_speed(
        runners,
        checkpoint.generator,
        to_frame(fit_picture(first, height, width)),
        measuring.seconds,
        measuring.rounds,
    )
    scores = score(
        folders,
        runners,
        Eager(checkpoint.generator),
        compared=compared,
        with_pytorch=measuring.with_pytorch,
        shown={folder.name for folder in shown},
        crops=measuring.crops,
        tell=tell,
    )
    return speed, scores


def pick_compared(runners: Sequence[Runner]) -> tuple[int, int]:
    """fp32, and what is shown beside it: int8, or the last rung where that was not asked
    for, or nothing else.
    """
    names = [runner.precision for runner in runners]
    others = [index for index, name in enumerate(names) if name != "fp32"]
    return 0, names.index("int8") if "int8" in names else max(others, default=0)


def make_rungs(
    models: Sequence[Model],
    runners: Sequence[Runner],
    speeds: Sequence[Speed | None],
    scores: Scores,
    base: int,
) -> tuple[Rung, ...]:
    def runs(precision: str) -> Iterator[Run]:
        for runner, speed, tally in zip(runners, speeds, scores.tallies, strict=True):
            if runner.precision == precision:
                yield Run(
                    runner.engine,
                    tally.description,
                    runner.plan,
                    speed,
                    runner.untimed,
                    tally.fidelity(),
                    tuple(tally.quality(f.name, scores.tallies[base]) for f in scores.folders),
                )

    return tuple(
        Rung(
            model.card.precision,
            model.path.name,
            model.path.stat().st_size,
            hashlib.sha256(model.path.read_bytes()).hexdigest(),
            model.card.quantisation,
            tuple(runs(model.card.precision)),
        )
        for model in models
    )


def describe_worst(
    runners: Sequence[Runner], compared: tuple[int, int], scores: Scores
) -> Worst | None:
    base, other = (runners[index] for index in compared)
    crops = tuple(shown.crop for shown in scores.crops)
    return Worst(base.precision, other.precision, other.engine, crops) if crops else None


def describe_subject(checkpoint: Checkpoint) -> Subject:
    description = describe_generator(checkpoint.generator)
    return Subject(
        description["name"],
        description["settings"],
        count_parameters(checkpoint.generator),
        weights_sha256(checkpoint.generator),
        checkpoint.training,
    )


def say_what(given: Path | None, first: PairFolder, kind: str, most: int) -> str:
    """What int8 was calibrated or searched on, in words for a reader of the report."""
    if given is not None:
        return f"{given.resolve().name}, given for it"
    number = f"the {first.of}" if first.of <= most else f"{most} of the {first.of}"
    return f"{number} {kind} of {first.name}, which the rungs are measured on as well"


def name_source(
    warnings: Sequence[str],
    request: QuantisationRequest | None,
    calibration: Path | None,
    first: str,
) -> tuple[str, ...]:
    """With the name of what int8 was calibrated on in place of its path: a report is
    passed on, and pictures that were made for it are gone.
    """
    if request is None:
        return tuple(warnings)
    source = f"{request.calibration} "
    name = f"{first if calibration is None else calibration.resolve().name} "
    return tuple(
        name + warning.removeprefix(source) if warning.startswith(source) else warning
        for warning in warnings
    )


def check_enough(calibration: Path | None, first: PairFolder, given: str | Path) -> None:
    if calibration is None and first.of < FEWEST:
        raise DeblurError(
            given,
            expected=f"at least {FEWEST} pairs, whose blurred pictures int8 is calibrated on",
            found="one",
            remedy="name others with --calibration FOLDER, or a clip",
        )


def check_shown(show: str | Path | None, pairs: Sequence[str | Path]) -> None:
    if show is not None and str(show) not in map(str, pairs):
        raise DeblurError(
            "--show",
            expected=f"one of --pairs, {' or '.join(map(str, pairs))}",
            found=str(show),
            remedy="name it as --pairs does, or leave it out",
        )
