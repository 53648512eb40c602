"""What a run must not lose: the best weights, the last, its state, its figures."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import save_checkpoint
from deblurgan.train.contact_sheet import contact_sheet
from deblurgan.train.devices import together, told_once, total
from deblurgan.train.evaluation import EvaluationPair, restore, spread
from deblurgan.train.journal import Journal
from deblurgan.train.metrics import psnr
from deblurgan.train.state import Origin, Progress, save_state
from deblurgan.train.step import Players

SHEET_ROWS = 6
PERFECT = 100.0  # dB


class Keeper:
    """Validates, saves, and stops a run that has gone wrong; one in each process."""

    def __init__(
        self,
        fabric: Fabric,
        output: Path,
        origin: Origin,
        held_out: list[EvaluationPair],
        players: Players,
        progress: Progress,
        journal: Journal | None,
    ) -> None:
        self.fabric, self.output, self.origin = fabric, output, origin
        self.held_out, self.players = held_out, players
        self.progress, self.journal = progress, journal

    def validate(self) -> None:
        """Measure the moving average on the held-out pairs; keep it if it is the best."""
        self.check_weights()
        progress, fabric = self.progress, self.fabric
        mine = self.held_out[fabric.global_rank :: fabric.world_size]
        restored = [restore(self.players.average, pair.blurred) for pair in mine]
        sums = total(
            fabric,
            [
                float(len(mine)),
                sum(decibels(pair.blurred, pair) for pair in mine),
                sum(map(decibels, restored, mine)),
            ],
        )
        before, after = sums[1] / sums[0], sums[2] / sums[0]
        figures = {"psnr_blurred": before, "psnr": after, "gain_db": after - before}
        progress.validated = progress.step
        if self.journal is not None:
            pairs, pictures = zip(
                *spread(list(zip(mine, restored, strict=True)), SHEET_ROWS), strict=True
            )
            sheet = contact_sheet(pairs, pictures)
            self.journal.validated(progress, self.origin.batch, figures, sheet)
        gain = figures["gain_db"]
        allowed = self.origin.recipe.training.collapse
        if allowed and gain < progress.best - allowed:
            raise self.stopped(
                f"pictures at most {allowed} dB worse than at step {progress.best_step}",
                f"{gain:+.2f} dB where it was {progress.best:+.2f}: the game has collapsed",
            )
        if gain > progress.best:
            progress.best, progress.best_step = gain, progress.step
            self.write("best.safetensors", gain)

    def save(self) -> None:
        """Write the state that a resumed run starts from, and the last weights."""
        self.check_weights()
        with together(self.fabric):
            if self.fabric.is_global_zero:
                save_state(self.output, self.origin, self.progress, self.players, self.fabric)
                self.write("last.safetensors", None)

    def check_weights(self) -> None:
        """Raise for weights that are not finite, before they are measured or saved."""
        for network in (self.players.generator, self.players.average):
            if not all(bool(p.isfinite().all()) for p in network.parameters()):
                raise self.stopped("finite weights", "NaN or infinity among them")

    def write(self, name: str, gain: float | None) -> None:
        if not self.fabric.is_global_zero:
            return
        history = {
            **self.origin.document(),
            "steps": self.progress.step,
            "samples": self.progress.step * self.origin.batch,
            "seconds": round(self.progress.seconds),
            "gain_db": None if gain is None else round(gain, 4),
        }
        save_checkpoint(self.output / name, self.players.average, history)

    def check_losses(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """The losses, averaged over the processes; raises for what is not finite."""
        sums = total(self.fabric, torch.stack(list(losses.values())).tolist())
        values = dict(zip(losses, (s / self.fabric.world_size for s in sums), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise self.stopped("finite losses", f"{name} {value}")
        return values

    def stopped(self, expected: str, found: str) -> BaseException:
        best = self.output / "best.safetensors"
        kept = f"the last good checkpoint is {best}" if best.exists() else "nothing is saved yet"
        error = DeblurError(
            f"training, step {self.progress.step}",
            expected=expected,
            found=found,
            remedy=f"{kept}; start in another folder with a lower rate "
            "(--set optimiser.learning_rate=…)"
            + (f" and --start-from {best}" if best.exists() else ""),
        )
        return told_once(self.fabric, error)


def decibels(picture: Tensor, pair: EvaluationPair) -> float:
    """PSNR; a picture equal to the sharp one has no finite one, and would be all of a mean."""
    return min(psnr(picture, pair.sharp), PERFECT)
