"""The loop trains, validates, keeps the best, and stops when it is told to."""

from __future__ import annotations

import copy
import csv
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import loop
from deblurgan.train.blur import BlurRecipe
from deblurgan.train.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from deblurgan.train.data import PairPool, list_pictures, read_picture
from deblurgan.train.evaluation import EVAL_V1, psnr, restore
from deblurgan.train.loop import (
    PixelRecipe,
    charbonnier,
    cosine,
    follow,
    mean_gain,
    stop_on_signal,
    train_pixels,
    validation_pairs,
)
from deblurgan.train.networks import (
    EdgeGenerator,
    EdgeSettings,
    Generator,
    ResNetGenerator,
    ResNetSettings,
)

QUICK = {"time_limit": 0.4, "validate_every": 60.0, "batch": 1, "crop": 32, "warm_up": 5}

Train = Callable[..., Path]


class Clock:
    """Ten milliseconds pass whenever the time is asked for: twice a step."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now


@pytest.fixture
def train(
    photos: Path, tmp_path: Path, tiny_edge: EdgeGenerator, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """Trains the tiny generator on made photos for a moment, by :class:`Clock`."""
    monkeypatch.setattr(loop, "time", Clock())
    monkeypatch.setattr(loop, "build_generator", lambda name, settings: tiny_edge)

    def run(start_from: Path | None = None, **changes: Any) -> Path:
        return train_pixels(
            photos,
            tmp_path / "run",
            PixelRecipe(**{**QUICK, **changes}),
            BlurRecipe(length=(1.0, 8.0)),
            device=torch.device("cpu"),
            start_from=start_from,
        )

    return run


def read_log(folder: Path) -> list[list[float]]:
    """Seconds, crops, loss and gain, a row for each validation."""
    with (folder / "log.csv").open(newline="") as log:
        return [[float(cell) for cell in row] for row in csv.reader(log) if row[0].isdigit()]


def test_a_run_writes_both_checkpoints_and_a_log(train: Train, tiny_edge: EdgeGenerator) -> None:
    before = weights_sha256(tiny_edge)
    best = train(time_limit=2.0, validate_every=0.7)
    assert best.name == "best.safetensors"
    assert {p.name for p in best.parent.iterdir()} == {
        "best.safetensors",
        "last.safetensors",
        "log.csv",
    }
    rows = read_log(best.parent)
    assert [row[0] for row in rows] == [1, 1, 2]
    assert all(a[1] < b[1] for a, b in itertools.pairwise(rows))

    last = load_checkpoint(best.with_name("last.safetensors"))
    assert last.generator.settings == EdgeSettings(channels=8, blocks=2, deep_blocks=1)
    assert weights_sha256(last.generator) != before
    assert last.training["recipe"]["seed"] == 1
    assert last.training["blur"]["length"] == [1.0, 8.0]
    assert last.training["crops"] == last.training["steps"] == rows[-1][1]
    assert last.training["gain_db"] == rows[-1][3]
    assert last.training["started_from"] is None
    assert load_checkpoint(best).training["gain_db"] == max(row[3] for row in rows)


def test_best_stays_the_best_while_last_goes_on(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gains() -> Iterator[float]:
        yield from (1.0, 3.0)
        while True:
            yield 2.0

    told = gains()
    monkeypatch.setattr(loop, "mean_gain", lambda generator, pairs: next(told))
    best = train(validate_every=0.0)
    assert len(read_log(best.parent)) > 2
    assert load_checkpoint(best).training["gain_db"] == 3.0
    assert load_checkpoint(best.with_name("last.safetensors")).training["gain_db"] == 2.0


def test_training_starts_from_given_weights(train: Train, photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    given = EdgeGenerator(EdgeSettings(channels=6, blocks=0, deep_blocks=1)).eval()
    nn.init.normal_(given.tail[0].weight, 0, 0.01)
    start = tmp_path / "earlier.safetensors"
    save_checkpoint(start, given, {})
    best = train(start_from=start, validate_every=0.0)

    held_out = [read_picture(path) for path in list_pictures(photos)[::9]]
    expected = mean_gain(given, validation_pairs(held_out))
    assert expected < -0.01  # not the identity, which gains nothing
    assert read_log(best.parent)[0][1] == 0
    assert read_log(best.parent)[0][3] == pytest.approx(expected, abs=2e-3)
    last = load_checkpoint(best.with_name("last.safetensors"))
    assert last.generator.settings == given.settings
    assert last.training["started_from"] == "earlier.safetensors"


def test_one_photo_in_nine_is_never_trained_on(
    train: Train, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Tensor] = []
    validated: list[Tensor] = []

    def pool(photos: list[Tensor], *others: Any, **settings: Any) -> PairPool:
        trained.extend(photos)
        return PairPool(photos, *others, **settings)

    def pairs(photos: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        validated.extend(photos)
        return validation_pairs(photos)

    monkeypatch.setattr(loop, "PairPool", pool)
    monkeypatch.setattr(loop, "validation_pairs", pairs)
    train()
    pictures = [read_picture(path) for path in list_pictures(photos)]
    assert (len(trained), len(validated)) == (8, 2)
    for index, picture in enumerate(pictures):
        used = validated if index % 9 == 0 else trained
        assert any(torch.equal(picture, other) for other in used)


def test_the_learning_rate_warms_up_and_then_falls(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    class Recording(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    train(time_limit=1.0, learning_rate=0.01, warm_up=10)
    expected = [
        0.01 * min(1, (step + 1) / 10) * cosine(0.01 * (2 * step + 1)) for step in range(len(rates))
    ]
    assert len(rates) == 50
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_in_time(number: int, photos: Path, tmp_path: Path) -> None:
    words = ["run", photos, "-o", tmp_path / "run", "--time-limit", "10m"]
    words += ["--batch", "1", "--crop", "32", "--device", "cpu"]
    training = subprocess.Popen(
        [sys.executable, "-c", "from deblurgan.train.app import main; main()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "log.csv").exists():  # written once the loop begins
            assert training.poll() is None, training.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
        asked = time.monotonic()
        training.send_signal(number)
        out, err = training.communicate(timeout=30)
    finally:
        training.kill()
    assert time.monotonic() - asked < 20
    assert (training.returncode, err) == (0, "")
    assert "gain" in out
    assert len(read_log(tmp_path / "run")) == 1
    for name in ("best", "last"):
        checkpoint = load_checkpoint(tmp_path / "run" / f"{name}.safetensors")
        assert checkpoint.training["steps"] > 0


def test_signals_are_as_before_when_training_has_ended() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with suppress(ValueError), stop_on_signal() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGTERM)
        assert stopped()
        raise ValueError
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_charbonnier_is_the_smooth_distance_by_hand() -> None:
    random = torch.Generator().manual_seed(1)
    restored, sharp = torch.randn(2, 2, 3, 5, 7, generator=random)
    pairs = zip(restored.flatten().tolist(), sharp.flatten().tolist(), strict=True)
    terms = [math.sqrt((a - b) ** 2 + 1e-6) for a, b in pairs]
    assert charbonnier(restored, sharp).item() == pytest.approx(math.fsum(terms) / len(terms))
    assert charbonnier(sharp, sharp).item() == pytest.approx(1e-3)
    same = sharp.clone().requires_grad_()
    charbonnier(same, sharp).backward()
    assert same.grad is not None
    assert not same.grad.any()  # smooth at zero, where L1 is not


def test_the_cosine_goes_from_one_to_its_floor() -> None:
    assert cosine(0.0) == 1.0
    assert cosine(0.5) == pytest.approx(0.505)
    assert cosine(1.0) == pytest.approx(0.01)
    assert cosine(1.0, floor=0.2) == pytest.approx(0.2)


def test_the_average_follows_by_its_decay() -> None:
    slow, fast = (EdgeGenerator(EdgeSettings(4, 0, 1)) for _ in range(2))
    before = [p.detach().clone() for p in slow.parameters()]
    follow(slow, fast, 0.9)
    for old, new, target in zip(before, slow.parameters(), fast.parameters(), strict=True):
        assert torch.allclose(new, 0.9 * old + 0.1 * target, atol=1e-7)
    follow(slow, fast, 0.0)
    assert weights_sha256(slow) == weights_sha256(fast)


def test_the_average_carries_the_statistics_of_batch_norm() -> None:
    fast = ResNetGenerator(ResNetSettings(channels=4, blocks=1, norm="batch"))
    slow = copy.deepcopy(fast).eval()
    for _ in range(200):
        fast.train()(torch.rand(2, 3, 16, 16) - 0.2)
        follow(slow, fast, 0.5)
    for (name, ours), theirs in zip(slow.named_buffers(), fast.buffers(), strict=True):
        if "running" in name:
            assert torch.allclose(ours, theirs, atol=0.02), name


def test_validation_pairs_are_centres_blurred_as_a_whole(picture: Tensor) -> None:
    pairs = validation_pairs([picture], side=64)
    assert len(pairs) == len(EVAL_V1.lengths)
    for index, (blurred, sharp) in enumerate(pairs):
        assert torch.equal(sharp, picture[:, 16:80, 48:112])
        assert torch.equal(blurred, EVAL_V1.blur(picture, index)[:, 16:80, 48:112])
    blurred, sharp = validation_pairs([picture], side=512)[0]
    assert blurred.shape == sharp.shape == picture.shape


@pytest.mark.parametrize("count", [1, 3, 2])
def test_each_photo_is_validated_at_all_lengths(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []

    class Recording:
        lengths = EVAL_V1.lengths

        def blur(self, photo: Tensor, index: int) -> Tensor:
            seen.append((int(photo[0, 0, 0]), EVAL_V1.length(index)))
            return photo

    monkeypatch.setattr(loop, "EVAL_V1", Recording())
    validation_pairs([torch.full((3, 8, 8), i, dtype=torch.uint8) for i in range(count)])
    assert sorted(seen) == [(photo, n) for photo in range(count) for n in EVAL_V1.lengths]


def test_the_mean_gain_is_what_a_generator_adds_in_decibels(
    picture: Tensor, tiny_edge: EdgeGenerator
) -> None:
    pairs = validation_pairs([picture], side=64)
    assert mean_gain(tiny_edge, pairs) == 0  # the identity
    nn.init.constant_(tiny_edge.tail[0].bias, 0.2)
    gains = [psnr(restore(tiny_edge, b), s) - psnr(b, s) for b, s in pairs]
    assert mean_gain(tiny_edge, pairs) == pytest.approx(sum(gains) / 4)
    assert mean_gain(tiny_edge, pairs) < 0


def test_a_small_generator_learns_two_pairs_by_heart(picture: Tensor) -> None:
    torch.manual_seed(1)
    generator: Generator = EdgeGenerator(EdgeSettings(channels=16, blocks=2, deep_blocks=1))
    whole = EVAL_V1.blur(picture, 1)
    places = [(slice(None), slice(y, y + 32), slice(x, x + 32)) for y, x in ((16, 24), (40, 84))]
    pairs = [(whole[place], picture[place]) for place in places]
    assert max(psnr(*pair) for pair in pairs) < 20
    blurred, sharp = (torch.stack(side).float() / 127.5 - 1 for side in zip(*pairs, strict=True))
    optimiser = torch.optim.AdamW(generator.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        loss = charbonnier(generator(blurred), sharp)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert min(psnr(restore(generator, b), s) for b, s in pairs) > 30


def test_a_second_run_does_not_overwrite_the_first(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"precious")
    with pytest.raises(DeblurError, match="--start-from"):
        train_pixels(photos, tmp_path, PixelRecipe(), BlurRecipe(), device=torch.device("cpu"))
    assert (tmp_path / "best.safetensors").read_bytes() == b"precious"
