"""``deblur-bench gate``: stops a regression in CI."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import math
import re
import shlex
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from deblurgan.benchmarks.baseline import KIND, Subject, read_baseline, to_figures
from deblurgan.benchmarks.commands.options import (
    JsonOption,
    ModelOption,
    check_json_target,
    check_threads,
    output,
)
from deblurgan.benchmarks.earlier import is_free_or_result
from deblurgan.benchmarks.environment import describe_environment
from deblurgan.benchmarks.gate import CONFIDENCE, Comparison, Outcome, collect, settle
from deblurgan.benchmarks.gate_work import Work, count_frames, measure_in_process
from deblurgan.benchmarks.reference import ENGINE, KINDS
from deblurgan.benchmarks.result_file import write_result
from deblurgan.runtime import console
from deblurgan.runtime.backends import AUTO, available_threads
from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.model_store import DEFAULT, find_model

ENGINES = ("openvino", "onnxruntime")
SIZE = "320x180"
FRAMES = 12
PROCESS = 1.0  # seconds of measuring in each process; its start takes another


def gate_command(
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with this one.")
    ] = None,
    write_baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure a baseline and write it there.")
    ] = None,
    max_regression: Annotated[
        str, typer.Option(metavar="PERCENT", help="How much slower is allowed.")
    ] = "5%",
    budget: Annotated[
        float,
        typer.Option(
            min=1,
            help="Seconds to measure for; a baseline takes all of them, and more if it has to.",
        ),
    ] = 60,
    model: ModelOption = DEFAULT,
    backend: Annotated[str, typer.Option(help=f"auto, {' or '.join(ENGINES)}.")] = AUTO,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help=f"Frame size, best one that takes some tens of ms; default: {SIZE}.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Of the engine and of the reference; one is steadiest.")
    ] = 1,
    reference: Annotated[
        str,
        typer.Option(
            help="engine: convolutions in the same engine, holds on other processors as well. "
            "processor: matrix products, sees an engine's new version too."
        ),
    ] = ENGINE,
    clip: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="The whole video job of its first frames.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=2, help=f"Of the clip ({FRAMES}).")] = None,
    plant: Annotated[
        str, typer.Option(metavar="PERCENT", help="Do so much more work, to try the gate out.")
    ] = "0%",
    json_file: JsonOption = None,
) -> None:
    """Stop a regression in CI: is the model slower than its baseline, against a reference
    measured in turns with it?

    Ends with 0: no slower than allowed. 3: slower. 4: the budget did not suffice to tell.
    (1 and 2 are errors.)

    A slowdown of the machine slows the reference as well and changes nothing. The 99 % interval
    of the change has to lie below --max-regression, or above; until then it measures on.

    Example: deblur-bench gate --write-baseline base.json

    Example: deblur-bench gate --baseline base.json --max-regression 5%
    """
    if (baseline is None) == (write_baseline is None):
        raise DeblurError(
            "deblur-bench gate",
            expected="one of --baseline and --write-baseline",
            found="both" if baseline else "neither",
            remedy="see deblur-bench gate --help",
        )
    is_baseline = json_file and baseline and json_file.resolve() == baseline.resolve()
    if json_file is not None and (write_baseline is not None or is_baseline):
        raise DeblurError(
            "--json",
            expected="a name of its own, for what --baseline is compared with",
            found=str(json_file) if write_baseline is None else "--write-baseline",
            remedy="leave it out" if write_baseline else "choose another name",
        )
    most = parse_percent("--max-regression", max_regression)
    if reference not in KINDS:
        raise DeblurError("--reference", expected=f"one of {', '.join(KINDS)}",
                          found=reference, remedy="leave it out for engine")  # fmt: skip
    if not math.isfinite(budget):
        raise DeblurError("--budget", expected="a number of seconds", found=str(budget),
                          remedy="write it like --budget 60")  # fmt: skip
    planted = parse_percent("--plant", plant)
    if write_baseline is not None:
        console.refuse_idle(
            {"--plant": plant if planted else None},
            "--baseline, which it is to be slower than", "--write-baseline",
        )  # fmt: skip
    if clip is None:
        console.refuse_idle({"--frames": frames}, "a clip", "none", "--clip CLIP")
    else:
        console.refuse_idle({"--size": size}, "single frames", "--clip, whose size it has")
    check_threads(threads, available_threads())
    check_json_target(write_baseline, KIND)
    check_json_target(json_file)
    found = find_model(model)
    engine = choose_engine(found, backend)
    found = found.best_for(engine)
    width, height = choose_size(found, size)
    work = Work(model, engine, width, height, threads, reference, planted=planted)
    if clip is not None:
        work = replace(work, clip=clip, frames=check_clip(clip, frames or FRAMES, planted))
    subject = describe(work, found)
    digest = hashlib.sha256(found.path.read_bytes()).hexdigest()
    measure = partial(measure_in_process, work, PROCESS)
    again = rewrite_command(name_baseline(baseline or Path("base.json")), work, size)
    if baseline is not None:
        before = read_baseline(baseline, again)
        before.check(baseline, subject, again)
        for note in before.notes(describe_environment(), digest):
            console.say(note)
    with console.watching("seconds") as watch:

        def tell(spent: float) -> None:
            console.check_interrupted()
            watch(min(round(spent), round(budget)), round(budget))

        if baseline is None:
            processes = collect(measure, budget, watch=tell)
            write_result(write_baseline, KIND, to_figures(subject, digest, processes))
            output.print(f"{write_baseline}: {len(processes)} processes measured {subject}")
            return
        result, processes = settle(before.processes, measure, most, budget, watch=tell)
    output.print(say(result, most, len(processes)))
    figures = to_figures(subject, digest, processes)
    compared = {**asdict(result), "outcome": result.outcome.name.lower(), "most": most,
                "planted": planted}  # fmt: skip
    write_result(json_file, "gate", {"comparison": compared, **figures})
    raise typer.Exit(result.outcome.value)


def say(result: Comparison, most: float, processes: int) -> str:
    change, low, high = (f"{value - 1:+.1%}" for value in (result.change, result.low, result.high))
    words = {
        Outcome.PASS: "pass",
        Outcome.REGRESSION: "regression",
        Outcome.INCONCLUSIVE: "inconclusive",
    }[result.outcome]
    said = f"{words}: a frame takes {change} next to the baseline, {CONFIDENCE:.0%} interval "
    said += f"{low} to {high}, {most:.1%} allowed; {processes} processes"
    if result.outcome is Outcome.INCONCLUSIVE:
        said += "; a greater --budget for this and for the baseline narrows it, a smaller --size "
        said += "where few processes were measured"
    return said


def parse_percent(option: str, text: str) -> float:
    """``5%`` as 0.05."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)\s*%", text.strip())
    if match is None or not math.isfinite(float(match[1])):
        raise DeblurError(
            option, expected="a percentage", found=repr(text), remedy=f"write it like {option} 5%"
        )
    return float(match[1]) / 100


def choose_engine(model: Model, backend: str) -> str:
    """One on the processor: a GPU's speed and a processor's have nothing in common."""
    if model.backend is not None or backend not in (AUTO, *ENGINES):
        raise DeblurError(
            "deblur-bench gate",
            expected=f"an .onnx file and an engine on the processor: {', '.join(ENGINES)}",
            found=model.path.name if model.backend is not None else f"--backend {backend}",
            remedy="leave out --backend, and give the .onnx file that a plan was built of",
        )
    if backend != AUTO:
        return backend
    here = [name for name in ENGINES if importlib.util.find_spec(name) is not None]
    return here[0] if here else ENGINES[0]


def choose_size(model: Model, size: str | None) -> tuple[int, int]:
    """Raises :class:`DeblurError` for one that the model does not take."""
    if size is None and model.size is not None:
        return model.size
    width, height = console.parse_size(size or SIZE)
    model.check_frame(width, height)
    return width, height


def check_clip(clip: Path, frames: int, planted: float) -> int:
    """How many of its frames to take: as many as asked for, or as there are, and a planted
    share besides.
    """
    there = count_frames(clip, frames + math.ceil(frames * planted))
    taken = min(frames, math.floor(there / (1 + planted)))
    if taken < 2:
        raise DeblurError(clip, expected="a clip of 2 frames at least", found=str(there),
                          remedy="give a longer one")  # fmt: skip
    return taken


def describe(work: Work, model: Model) -> Subject:
    size, clip = f"{work.width}x{work.height}", ""
    if work.clip is not None:
        size, clip = "the clip's size", hashlib.sha256(work.clip.read_bytes()).hexdigest()
    return Subject(
        model.path.stem, model.card.precision, work.backend, size, work.threads,
        work.reference, clip, work.frames,
    )  # fmt: skip


def name_baseline(path: Path) -> Path:
    """``path`` where a baseline can be written there and nothing else is lost, or else a new
    name beside it, or in it.
    """
    if path.is_file() or not path.exists():
        if is_free_or_result(path, KIND):
            return path
        folder = path.parent
    else:
        folder = path if path.is_dir() else Path()
    names = (folder / f"base{f'-{n}' if n > 1 else ''}.json" for n in itertools.count(1))
    return next(name for name in names if not name.exists())


def rewrite_command(path: Path, work: Work, size: str | None) -> str:
    """What makes a baseline of this."""
    words = ["deblur-bench", "gate", "--write-baseline", str(path), "--model", work.model]
    words += ["--backend", work.backend, "--threads", str(work.threads)]
    words += ["--reference", work.reference]
    if work.clip is not None:
        words += ["--clip", str(work.clip), "--frames", str(work.frames)]
    elif size is not None:
        words += ["--size", size]
    return shlex.join(words)
