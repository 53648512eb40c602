"""What a run leaves on the disk to go on from: its state, whole, at one step.

Random numbers need no place in it: the loop draws all of them from the seed
and the number of the step or the sample.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric import Fabric
from torch import nn

from deblurgan.runtime.disk import NO_LOCKS, writing_to
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.whole_file import write_whole
from deblurgan.train.recipe import Recipe, parse_recipe, recipe_differences, recipe_document
from deblurgan.train.step import Players

FORMAT = "deblurgan-run-1"
NAME = "state.pt"


@dataclass
class Progress:
    """How far a run has come. ``seconds`` are of training, over all starts;
    ``best`` is the largest gain on the held-out pairs so far, in dB.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -float("inf")
    best_step: int = 0
    validated: int = -1


@dataclass(frozen=True)
class Origin:
    """What a run is made of, and may not change when it is resumed."""

    recipe: Recipe
    data: list[str] = field(default_factory=list)
    files: str | None = None
    """A hash of the names and sizes of the data's files, the held-out ones too."""
    batch: int = 1
    started_from: str | None = None
    teacher: str | None = None
    """A hash of its weights."""

    def document(self) -> dict[str, Any]:
        return {
            "recipe": recipe_document(self.recipe),
            "data": self.data,
            "files": self.files,
            "batch": self.batch,
            "started_from": self.started_from,
            "teacher": self.teacher,
        }

    def digest(self) -> str:
        """A short hash of all of it."""
        text = json.dumps(self.document(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """As long as it is open no other process trains in ``folder``.

    Raises ``DeblurError`` where one does.
    """
    path = folder / ".lock"
    with ExitStack() as opened:
        while True:
            with writing_to(path):
                lock = opened.enter_context(path.open("w"))
            take_lock(lock, folder)
            if os.fstat(lock.fileno()).st_nlink:
                break  # and not one that its run has just removed
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def take_lock(lock: IO[str], folder: Path) -> None:
    try:
        # Unlike flock's it is not handed on to workers, which may outlive a killed run.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise DeblurError(
            folder,
            expected="a folder that no other process trains in",
            found="one that is trained in",
            remedy="wait for that run, or choose another --output",
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def has_state(folder: Path) -> bool:
    """Whether a run was begun there."""
    return (folder / NAME).exists()


def save_state(
    folder: Path, origin: Origin, progress: Progress, players: Players, fabric: Fabric
) -> None:
    """Write the run's state whole; an earlier one survives a full disk."""
    state = {
        "format": FORMAT,
        "origin": origin.document(),
        "progress": vars(progress),
        "precision": fabric.strategy.precision.state_dict(),
        **{name: part.state_dict() for name, part in parts(players).items()},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(folder / NAME, buffer.getvalue())


def resume_state(folder: Path, origin: Origin, players: Players, fabric: Fabric) -> Progress:
    """Put an earlier start's state into ``players`` and say how far it was.

    Without a state in the folder nothing changes and the progress is none.
    Raises ``DeblurError`` for a state of another run.
    """
    path = folder / NAME
    if fabric.is_global_zero:
        for left in folder.glob(".*.part"):  # by a start that was killed while it wrote
            left.unlink(missing_ok=True)
    if not has_state(folder):
        if (folder / "best.safetensors").exists():
            raise DeblurError(
                folder,
                expected=f"a new folder, or one with {NAME} to resume from",
                found="best.safetensors without it",
                remedy="choose another folder, and go on from these weights with "
                f"--start-from {folder / 'best.safetensors'}",
            )
        return Progress()
    state = read_state(path)
    check_origin(folder, state["origin"], origin)
    for name, part in parts(players).items():
        part.load_state_dict(state[name])
    fabric.strategy.precision.load_state_dict(state["precision"])
    return Progress(**state["progress"])


def parts(players: Players) -> dict[str, nn.Module | torch.optim.Optimizer]:
    """Everything that has a state of its own, by the name it is stored under."""
    found = {
        "generator": players.generator,
        "average": players.average,
        "optimiser": players.optimiser.optimizer,
    }
    if players.critic is not None:
        found |= {
            "critic": players.critic,
            "critic_optimiser": players.critic_optimiser.optimizer,
        }
    return found


def read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DeblurError(
            path,
            expected="the state of a run",
            found=(error.strerror or str(error)).lower(),
            remedy="make it a file that may be read, or start in another folder",
        ) from None
    except Exception as error:  # a damaged pickle raises anything
        raise DeblurError(
            path,
            expected="the state of a run",
            found=f"a damaged file of {path.stat().st_size:,} bytes",
            remedy="start in another folder, from the weights that are whole: --start-from "
            f"{path.with_name('last.safetensors')}",
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DeblurError(
            path,
            expected=f"the format {FORMAT}",
            found=str(state.get("format")) if isinstance(state, dict) else type(state).__name__,
            remedy="use the version that wrote it, or start in another folder",
        )
    return state


def check_origin(folder: Path, before: dict[str, Any], now: Origin) -> None:
    """A resumed run must be the run that was begun."""
    # A setting that came after the run was begun has its default: what was done before.
    begun = recipe_document(parse_recipe(before["recipe"], str(folder)))
    changes = recipe_differences(now.recipe, begun)
    for name in ("data", "batch", "started_from", "teacher"):
        new, old = getattr(now, name), before.get(name)
        if new != old:
            shown = [
                value if not isinstance(value, list) else summary(value) for value in (new, old)
            ]
            changes.append(f"{name} is {shown[0]}, was {shown[1]}")
    # A run that was begun before these were written down has none.
    if not changes and before.get("files", now.files) != now.files:
        changes.append("other files under the same names, or other ones held out")
    if changes:
        raise DeblurError(
            folder,
            expected="the run that was begun there, which resuming continues",
            found="another: " + "; ".join(changes[:6]),
            remedy="give the same recipe and data, or another --output, with --start-from "
            f"{folder / 'last.safetensors'} to keep the weights",
        )


def summary(names: list[str]) -> str:
    return f"{len(names)} files from {names[0]} to {names[-1]}" if names else "no files"
