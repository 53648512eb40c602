"""The training loop: pixel loss on pairs made on the fly, within a time limit."""

from __future__ import annotations

import copy
import csv
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.blur import KERNEL_SIZE, SMALLEST_PICTURE, BlurRecipe
from deblurgan.train.checkpoint import load_checkpoint, save_checkpoint
from deblurgan.train.data import PairPool, read_photos
from deblurgan.train.evaluation import EVAL_V1, psnr, restore
from deblurgan.train.networks import Generator, build_generator


@dataclass(frozen=True)
class PixelRecipe:
    """What a pixel-loss run is made of. Times in seconds, crops in pixels."""

    generator: str = "edge"
    time_limit: float = 1200.0
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    warm_up: int = 200
    ema: float = 0.999
    validate_every: float = 120.0
    reuse: int = 32
    seed: int = 1


def train_pixels(
    photos: Path,
    output: Path,
    recipe: PixelRecipe,
    blur: BlurRecipe,
    *,
    device: torch.device,
    start_from: Path | None = None,
) -> Path:
    """Train until the time limit, SIGTERM or Ctrl-C; return the best checkpoint.

    One photograph in nine is held out; "best" is the mean gain in PSNR over
    the blurred input on these, under ``eval-v1``. ``output`` receives
    ``best.safetensors``, ``last.safetensors`` and ``log.csv``.
    """
    torch.manual_seed(recipe.seed)
    make_folder(output)
    best_path = output / "best.safetensors"
    if best_path.exists() and start_from is None:
        raise DeblurError(
            output,
            expected="a folder without an earlier run",
            found=best_path.name,
            remedy=f"choose another, or go on with --start-from {best_path}",
        )
    if start_from:
        generator = load_checkpoint(start_from).generator
        recipe = replace(recipe, generator=generator.name)
    else:
        generator = build_generator(recipe.generator, {})
    pictures = read_photos(photos, smallest=max(recipe.crop, SMALLEST_PICTURE))
    held_out = validation_pairs(pictures[::9])
    pool = PairPool(
        [p for i, p in enumerate(pictures) if i % 9] or pictures,
        blur,
        seed=recipe.seed,
        device=device,
        reuse=recipe.reuse,
        region=min(max(384, recipe.crop), *(min(p.shape[-2:]) for p in pictures)),
    )

    generator = generator.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = copy.deepcopy(generator).eval()
    optimiser = torch.optim.AdamW(
        generator.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.9), weight_decay=1e-4
    )
    # Warming up makes good weights worse for a while; that must not pass for the best.
    best = mean_gain(average, held_out) if start_from else -math.inf
    if start_from and not best_path.exists():
        save_checkpoint(best_path, average, {"started_from": start_from.name})
    step, start = 0, time.monotonic()
    next_validation = start + recipe.validate_every

    with (output / "log.csv").open("a", newline="") as log, stop_on_signal() as stopped:
        rows = csv.writer(log)
        if not log.tell():
            rows.writerow(["seconds", "crops", "loss", "gain_db"])
        running = 0.0
        while True:
            progress = min(1.0, (time.monotonic() - start) / recipe.time_limit)
            done = progress >= 1.0 or stopped()
            if done or time.monotonic() >= next_validation:
                gain = mean_gain(average, held_out)
                seconds = round(time.monotonic() - start)
                history = {
                    "recipe": asdict(recipe),
                    "blur": asdict(blur),
                    "steps": step,
                    "crops": step * recipe.batch,
                    "seconds": seconds,
                    "gain_db": round(gain, 4),
                    "started_from": start_from.name if start_from else None,
                }
                save_checkpoint(output / "last.safetensors", average, history)
                if gain > best:
                    best = gain
                    save_checkpoint(best_path, average, history)
                rows.writerow([seconds, step * recipe.batch, f"{running:.5f}", f"{gain:.4f}"])
                log.flush()
                print(
                    f"{seconds} s  {step * recipe.batch} crops  loss {running:.5f}  "
                    f"gain {gain:+.3f} dB",
                    flush=True,
                )
                next_validation = time.monotonic() + recipe.validate_every
            if done:
                return best_path

            for group in optimiser.param_groups:
                warm = min(1.0, (step + 1) / recipe.warm_up)
                group["lr"] = recipe.learning_rate * warm * cosine(progress)
            blurred, sharp = pool.batch(recipe.batch, recipe.crop)
            blurred = blurred.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                restored = generator(blurred)
            loss = charbonnier(restored.float(), sharp)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
            optimiser.step()
            step += 1
            follow(average, generator, min(recipe.ema, step / (step + 10)))
            if not math.isfinite(loss.item()):
                raise DeblurError(
                    "training",
                    expected="a finite loss",
                    found=f"{loss.item()} after {step} steps",
                    remedy=f"start again at a lower --learning-rate; what was good is in {output}",
                )
            running += (loss.item() - running) * max(0.01, 1 / step)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeblurError(
            folder,
            expected="a folder, or a place to make one",
            found=(error.strerror or str(error)).lower(),
            remedy="choose another with --output",
        ) from None


def charbonnier(restored: Tensor, sharp: Tensor, epsilon: float = 1e-3) -> Tensor:
    """A smooth L1: ``mean(sqrt(d^2 + epsilon^2))``."""
    return ((restored - sharp).square() + epsilon**2).sqrt().mean()


def cosine(progress: float, floor: float = 0.01) -> float:
    """From 1 at the start to ``floor`` at the end."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def follow(average: Generator, generator: Generator, decay: float) -> None:
    """Move the exponential moving average a step towards the generator."""
    for slow, fast in zip(average.parameters(), generator.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
    for old, new in zip(average.buffers(), generator.buffers(), strict=True):
        old.copy_(new)


def validation_pairs(photos: list[Tensor], side: int = 512) -> list[tuple[Tensor, Tensor]]:
    """Blurred and sharp centres, ``side`` pixels wide; each photo at all lengths."""
    pairs = []
    for index, photo in enumerate(photo for photo in photos for _ in EVAL_V1.lengths):
        photo = centre(photo, side + 2 * KERNEL_SIZE)
        pairs.append((centre(EVAL_V1.blur(photo, index), side), centre(photo, side)))
    return pairs


def centre(picture: Tensor, side: int) -> Tensor:
    """The middle of ``[3, H, W]``, ``side`` pixels or less a side."""
    height, width = picture.shape[-2:]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return picture[:, top : top + side, left : left + side]


def mean_gain(generator: Generator, pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Mean PSNR gain in dB over the blurred input."""
    gains = [
        psnr(restore(generator, blurred), sharp) - psnr(blurred, sharp) for blurred, sharp in pairs
    ]
    return sum(gains) / len(gains)


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
