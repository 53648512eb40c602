"""The training loop, from the first sample to the last checkpoint.

All randomness is drawn from the recipe's seed and the number of the step or
sample, never from how far some generator has been turned: a run that is
resumed at step n computes what the uninterrupted one computed there.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import make_folder
from deblurgan.train.checkpoint import weights_sha256
from deblurgan.train.devices import (
    Devices,
    check_alike,
    make_fabric,
    settle_precision,
    together,
    total,
)
from deblurgan.train.evaluation import EVAL_V1, EvaluationPair, evaluation_pairs
from deblurgan.train.journal import Journal
from deblurgan.train.keeper import Keeper
from deblurgan.train.layouts import (
    REMOVE,
    PairSource,
    Source,
    check_source,
    find_source,
    hash_files,
    hold_out,
    left_out,
    picture_names,
)
from deblurgan.train.recipe import Recipe, ScheduleSettings
from deblurgan.train.samples import BATCHES_OF_LANES, Samples, batches, seeded
from deblurgan.train.start import check_start, starting_weights
from deblurgan.train.state import Origin, alone_in, has_state, resume_state
from deblurgan.train.step import follow, load_content_weights, set_up_players, train_step
from deblurgan.train.teacher import draw_orientations, load_teacher

VALIDATION_SIDE = 512


@dataclass(frozen=True)
class Run:
    """What a start of a run is given besides its recipe. ``time_limit`` is in seconds."""

    data: list[str]
    output: Path
    devices: Devices = field(default_factory=Devices)
    workers: int | None = None
    time_limit: float | None = None
    vgg: Path | None = None
    start_from: Path | None = None
    teacher: Path | None = None


class Ending(Enum):
    """Why a start of a run ended."""

    FINISHED = "the schedule is over"
    TIME_IS_UP = "the time limit was reached"
    STOPPED = "it was asked to by a signal"


def train(recipe: Recipe, run: Run) -> Ending | None:
    """Train, or go on with the run in ``run.output``; of several processes, the first
    returns how it ended.

    A run ends when its schedule does. The time limit, SIGTERM and Ctrl-C stop
    it before, with everything saved that going on needs. ``output`` receives
    ``best.safetensors`` (largest gain in PSNR over the blurred input on
    held-out pairs) and ``last.safetensors``, both of the moving average;
    ``state.pt`` to resume from; ``log.csv``, ``tensorboard/`` and ``sheets/``.
    """
    fabric = make_fabric(run.devices, recipe.training)
    with ExitStack() as held:
        with together(fabric):
            check_end(recipe.schedule, run.time_limit)
            check_start(recipe, run.start_from)
            make_folder(run.output)
            if fabric.is_global_zero:
                held.enter_context(alone_in(run.output))
        return go_on(fabric, recipe, run)


def go_on(fabric: Fabric, recipe: Recipe, run: Run) -> Ending | None:
    """From where an earlier start came to, in a folder that is this one's alone."""
    # What auto stands for is part of the run, which another machine must not change half-way.
    precision = settle_precision(recipe.training.precision, fabric.device.type)
    recipe = replace(recipe, training=replace(recipe.training, precision=precision))
    with together(fabric):
        vgg = load_content_weights(recipe, run.vgg)
        teacher = load_teacher(recipe, run.teacher)
        data = open_data(fabric, recipe, run.data)
    batch = recipe.training.batch * fabric.world_size
    steps_an_epoch = math.ceil(data.samples.epoch / batch)
    last_step = recipe.schedule.steps or recipe.schedule.epochs * steps_an_epoch or None
    validate_every = recipe.training.validate_every or steps_an_epoch

    torch.manual_seed(recipe.training.seed)
    players = set_up_players(fabric, recipe, vgg, teacher)
    started_from = run.start_from.name if run.start_from else None
    taught_by = weights_sha256(teacher)[:12] if teacher else None
    origin = Origin(recipe, data.names, data.files, batch, started_from, taught_by)
    if run.start_from is not None:
        weights = None
        with together(fabric):
            if not has_state(run.output):
                weights = starting_weights(fabric, recipe, run.start_from, data.samples)
        # New ones are one process's: no two need round alike.
        if (weights := fabric.broadcast(weights)) is not None:
            for network in (players.generator, players.average):
                network.load_state_dict(weights)
    with together(fabric):
        progress = resume_state(run.output, origin, players, fabric)
    facts = {"training.precision": precision, "step": progress.step, "run": origin.digest()}
    check_alike(fabric, run.output, facts)
    clock = Clock(fabric, progress.seconds, run.time_limit, by_time=last_step is None)
    # Often enough to look alive, seldom enough for a GPU not to wait for it.
    look_every = 1 if fabric.device.type == "cpu" else 10
    workers = usual_workers(fabric.device) if run.workers is None else run.workers

    with ExitStack() as stack:
        signalled = stack.enter_context(stop_on_signal())
        journal = None
        with together(fabric):
            if fabric.is_global_zero:
                journal = stack.enter_context(Journal(run.output, step=progress.step))
        coming = batches(
            data.samples,
            batch=recipe.training.batch,
            first=progress.step,
            rank=fabric.global_rank,
            world=fabric.world_size,
            workers=workers,
        )
        stack.enter_context(closing(coming))
        keeper = Keeper(fabric, run.output, origin, data.held_out, players, progress, journal)
        if not has_state(run.output):
            keeper.save()
        if run.start_from is not None and progress.step == 0:
            # Warming up makes good weights worse for a while; that must not pass for the best.
            keeper.validate()
        next_save = progress.seconds + recipe.training.save_every

        for step in itertools.count(begun := progress.step):
            if step % look_every == 0 or step == begun:
                progress.seconds, asked = clock.look(signalled())
            done = step / last_step if last_step else clock.share(progress.seconds)
            if asked or done >= 1 or clock.is_up(progress.seconds):
                break

            rate = recipe.optimiser.learning_rate * schedule_factor(recipe.schedule, step, done)
            players.set_rate(rate)
            pairs = next(coming).to(fabric.device, non_blocking=True)
            first = step * batch + fabric.global_rank * recipe.training.batch
            mix = draw_mix(recipe, first).to(fabric.device)
            torch.manual_seed(seeded(recipe.training.seed, "step", step, fabric.global_rank))
            views = draw_orientations(recipe, step)
            losses = train_step(fabric, recipe, players, pairs, mix, views)
            follow(players.average, players.generator, min(recipe.training.ema, step / (step + 10)))
            progress.step = step + 1

            if progress.step % look_every == 0:
                values = keeper.check_losses(losses)
                if journal is not None:
                    journal.note(progress, batch, values, learning_rate=rate, done=done)
            due = progress.step % validate_every == 0
            if due:
                keeper.validate()
            if due or progress.seconds >= next_save:
                next_save = progress.seconds + recipe.training.save_every
                keeper.save()

        keeper.save()
        # Who sends a signal may not wait for a validation.
        if not asked and progress.validated != progress.step:
            keeper.validate()
            keeper.save()
    if not fabric.is_global_zero:
        return None
    if asked:
        return Ending.STOPPED
    return Ending.FINISHED if done >= 1 else Ending.TIME_IS_UP


@dataclass(frozen=True)
class Data:
    """Samples to train on, pairs to validate on, the names of the files to train on, and a hash
    of all files.
    """

    samples: Samples
    held_out: list[EvaluationPair]
    names: list[str]
    files: str


def check_end(schedule: ScheduleSettings, time_limit: float | None) -> None:
    if not (schedule.epochs or schedule.steps or time_limit):
        raise DeblurError(
            "the recipe's schedule",
            expected="an end",
            found="neither epochs nor steps, and no --time-limit",
            remedy="add --time-limit 2h, say, or --set schedule.epochs=100",
        )


def open_data(fabric: Fabric, recipe: Recipe, names: list[str]) -> Data:
    """Find and check all pictures; each process looks at its share of them.

    Raises ``DeblurError`` for the first that cannot be trained on.
    """
    found = [find_source(name, "train", gamma=recipe.data.gamma) for name in names]
    sources, held_out = zip(*map(hold_out, found), strict=True)
    samples = Samples(
        sources,
        recipe.data,
        recipe.blur,
        seed=recipe.training.seed,
        batch=recipe.training.batch * fabric.world_size,
        device=fabric.device,
    )
    for name, source in zip(names, found, strict=True):
        for line in left_out(source) if fabric.is_global_zero else ():
            console.say(line)
        with console.watching(f"pictures of {name} checked", fabric.is_global_zero) as watch:
            remedy = f"{REMOVE}, or train with a smaller data.crop"
            check_source(share(source, fabric), recipe.data.smallest(source), watch, remedy)
    limit = max(1, recipe.training.validation_pairs // len(held_out))
    pairs = [pair for source in held_out for pair in validation_pairs(source, recipe, limit)]
    trained_on = [name for source in sources for name in picture_names(source)]
    return Data(samples, pairs, trained_on, hash_files([*sources, *held_out]))


def validation_pairs(source: Source, recipe: Recipe, limit: int) -> Iterator[EvaluationPair]:
    """At most ``limit`` centres of held-out pairs; photographs come at all lengths of blur."""
    if isinstance(source, PairSource):
        scale = recipe.data.scale if recipe.data.fit == "crop" else 1.0
        return evaluation_pairs(source, side=VALIDATION_SIDE, scale=scale, limit=limit)
    limit = max(1, limit // len(EVAL_V1.lengths))
    return evaluation_pairs(source, side=VALIDATION_SIDE, limit=limit, all_lengths=True)


def share(source: Source, fabric: Fabric) -> Source:
    """Every world-size-th picture of a source, this process's own."""
    mine = slice(fabric.global_rank, None, fabric.world_size)
    if isinstance(source, PairSource):
        return replace(source, pairs=source.pairs[mine], held_out=source.held_out[mine])
    return replace(source, photos=source.photos[mine], held_out=source.held_out[mine])


def usual_workers(device: torch.device) -> int:
    """One beside a processor that has to train as well; for a GPU as many as there are
    cores, in a number that shares the lanes out (see :mod:`deblurgan.train.samples`).
    """
    if device.type == "cpu":
        return 1
    spare = (os.cpu_count() or 1) - 1
    return max(n for n in range(spare + 1) if n == 0 or BATCHES_OF_LANES % n == 0)


def schedule_factor(schedule: ScheduleSettings, step: int, done: float) -> float:
    """What the learning rate is multiplied with at ``step``, ``done`` of the run over."""
    warm = min(1.0, (step + 1) / schedule.warm_up) if schedule.warm_up else 1.0
    late = max(0.0, done - schedule.hold) / max(1e-9, 1 - schedule.hold)
    if schedule.decay == "linear":
        return warm * (1 - late)
    if schedule.decay == "cosine":
        return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * late)) / 2)
    return warm


def draw_mix(recipe: Recipe, first: int) -> Tensor:
    """``[critic steps, batch, 1, 1, 1]`` in [0, 1), a row of draws for each sample's number,
    so that it does not matter which process has the sample. Nothing without a critic.
    """
    if not recipe.loss.adversarial:
        return torch.empty(0)
    draws = [
        torch.rand(
            recipe.loss.critic_steps,
            generator=torch.Generator().manual_seed(seeded(recipe.training.seed, "mix", index)),
        )
        for index in range(first, first + recipe.training.batch)
    ]
    return torch.stack(draws, 1)[..., None, None, None]


class Clock:
    """Training time, over all starts, in seconds; the first process's counts.

    The limit is that of one start, unless the run has no other length: then it
    is the run's.
    """

    def __init__(self, fabric: Fabric, before: float, limit: float | None, by_time: bool) -> None:
        self.fabric, self.before, self.limit, self.by_time = fabric, before, limit, by_time
        self.start = time.monotonic()

    def look(self, signalled: bool) -> tuple[float, bool]:
        """The time, and whether any process was asked to stop."""
        since = time.monotonic() - self.start
        mine = [since if self.fabric.is_global_zero else 0.0, float(signalled)]
        since, asked = total(self.fabric, mine)
        return self.before + since, bool(asked)

    def is_up(self, seconds: float) -> bool:
        if self.limit is None or self.by_time:
            return False
        return seconds - self.before >= self.limit

    def share(self, seconds: float) -> float:
        return seconds / self.limit if self.limit else 1.0


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """SIGTERM and Ctrl-C ask the loop to finish its step, save and stop."""
    asked: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda got, _: asked.append(got)) for number in signals]
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
