"""``deblur-train evaluate``: a checkpoint measured on a data set, and what is shown of it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Column, Table
from rich.text import Text

from deblurgan.runtime import console
from deblurgan.runtime.disk import writing_to
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.image_file import save_image
from deblurgan.runtime.whole_file import make_folder, write_whole
from deblurgan.train.blur import SMALLEST_PICTURE
from deblurgan.train.checkpoint import load_checkpoint, weights_sha256
from deblurgan.train.contact_sheet import contact_sheet
from deblurgan.train.evaluation import (
    EVAL_V1,
    SCALES,
    Report,
    Score,
    Size,
    evaluate,
    evaluation_pairs,
)
from deblurgan.train.layouts import (
    PhotoSource,
    check_gamma,
    check_source,
    find_source,
    picture_names,
)
from deblurgan.train.metrics import SSIM_WINDOW

SHEET = "worst.png"
LISTED = 60  # scores; a longer table shows the means alone, the files have the rest

Progress = Callable[[int, int], None]


def evaluate_checkpoint(
    checkpoint: Path,
    data: str,
    output: Path | None = None,
    *,
    sizes: Sequence[Size] = ("full",),
    limit: int | None = None,
    worst: int = 4,
    gamma: bool = False,
    device: torch.device | None = None,
    progress: Progress | None = None,
    hear: Callable[[Report], None] | None = None,
) -> Report:
    """Measure a checkpoint on the test part of ``data``; photographs are blurred by
    ``eval-v1``. ``progress`` hears how many of how many scores are done.

    ``output`` receives the files of :func:`write_report`, after ``hear`` has the report: what
    took long is not to be lost to a full disk. Raises ``DeblurError``
    for data with a picture too small for the generator, before any is deblurred.
    """
    loaded = load_checkpoint(checkpoint)
    generator = loaded.generator.to(device or "cpu")
    source = find_source(data, "test", gamma=gamma)
    if gamma:
        check_gamma(source)
    names = picture_names(source)
    trained_on = loaded.training.get("data")
    known = set(names).intersection(trained_on if isinstance(trained_on, list) else ())
    if known:
        console.say(
            f"{checkpoint.name} was trained on pictures of {len(known)} of these {len(names)} "
            "names: if they are the same pictures, its figures flatter it"
        )
    smallest = max(generator.minimum_size, SSIM_WINDOW)
    smallest = math.ceil(smallest / min(SCALES[size] for size in sizes))
    is_photos = isinstance(source, PhotoSource)
    check_source(source, max(smallest, SMALLEST_PICTURE) if is_photos else smallest)
    if output is not None:
        make_folder(output)
        check_own(output)
    total = len(sizes) * min(len(names), limit or len(names))
    done = 0

    def count(score: Score) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    report = evaluate(
        generator, evaluation_pairs(source, limit=limit), sizes=sizes, worst=worst, progress=count
    )
    if hear is not None:
        hear(report)
    if output is not None:
        facts = {
            "checkpoint": checkpoint.name,
            "weights_sha256": weights_sha256(generator),
            "data": data,
            "blur": EVAL_V1.name if is_photos else None,
        }
        write_report(report, output, facts)
    return report


def check_own(folder: Path) -> None:
    """Raise ``DeblurError`` where files of the report's names are there that none wrote."""
    names = ["scores.csv", *(f"{size}.json" for size in SCALES), SHEET]
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not any(is_report(folder / f"{size}.json") for size in SCALES):
        raise DeblurError(
            folder,
            expected="a folder of its own, or an earlier call's",
            found=f"another's {', '.join(there)}",
            remedy="choose another folder",
        )


def is_report(path: Path) -> bool:
    try:
        return "weights_sha256" in json.loads(path.read_text())
    except (OSError, ValueError, TypeError):
        return False


def write_report(report: Report, folder: Path, facts: dict[str, Any]) -> list[Path]:
    """Write ``full.json`` and ``half.json`` with ``facts``, scores and mean, in which an
    infinite figure is null; ``scores.csv``; and ``worst.png``, the worst cases'
    contact sheet. Each is whole or not there; the paths come back.
    """
    text = io.StringIO()
    rows = csv.DictWriter(text, [*(field.name for field in fields(Score)), "gain"])
    rows.writeheader()
    rows.writerows({**asdict(score), "gain": score.gain} for score in report.scores)
    written = []
    for size in report.sizes:
        document = {
            **facts,
            "pictures": [finite(score) for score in report.of_size(size)],
            "mean": finite(report.mean(size)),
        }
        written.append(folder / f"{size}.json")
        write_whole(written[-1], (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    written.append(folder / "scores.csv")
    write_whole(written[-1], text.getvalue().encode(errors="replace"))
    if report.worst:
        pairs = [
            replace(case.pair, name=f"{case.pair.name}, {case.score.size} size")
            for case in report.worst
        ]
        sheet = contact_sheet(pairs, [case.restored for case in report.worst])
        written.append(folder / SHEET)
        save_image(written[-1], np.ascontiguousarray(sheet.permute(1, 2, 0).numpy()[:, :, ::-1]))
    # What an earlier call left there is of another checkpoint, or of other pictures.
    for name in (*(f"{size}.json" for size in SCALES), SHEET):
        if folder / name not in written:
            with writing_to(folder / name):
                (folder / name).unlink(missing_ok=True)
    return written


def report_table(report: Report) -> Table:
    """Figures before and after, of each picture while there are few, and the means."""
    numbers = ("px", "PSNR", "gain", "SSIM", "CW-SSIM")
    table = Table(
        Column("picture", overflow="ellipsis", no_wrap=True),
        Column("size", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in numbers),
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    rows = list(report.scores) if len(report.scores) <= LISTED else []
    means = [report.mean(size) for size in report.sizes]
    for place, score in enumerate([*rows, *means]):
        table.add_row(
            Text(console.one_line(score.name)),
            score.size,
            "" if score.length is None else f"{score.length:g}",
            f"{score.psnr_before:.2f} → {score.psnr_after:.2f}",
            f"{score.gain:+.2f}",
            f"{score.ssim_before:.3f} → {score.ssim_after:.3f}",
            ""
            if score.cw_ssim_before is None or score.cw_ssim_after is None
            else f"{score.cw_ssim_before:.3f} → {score.cw_ssim_after:.3f}",
            end_section=place == len(rows) - 1,
        )
    return table


def finite(score: Score) -> dict[str, Any]:
    """A score as JSON has it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(score).items()
    }
