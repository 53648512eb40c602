"""The losses against values worked out in float64 by other means: by hand where
the critic is linear, by finite differences where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblurgan.train.losses import (
    ADVERSARIAL,
    Critic,
    Taught,
    charbonnier,
    critic_loss,
    generator_loss,
    gradient_penalty,
    negative_psnr,
)
from deblurgan.train.metrics import psnr
from deblurgan.train.networks import (
    DenseDiscriminator,
    DenseSettings,
    PatchDiscriminator,
    PatchSettings,
)

# Scores of three pictures, two patches each.
REAL = torch.tensor([[0.3, -1.2], [2.0, 0.1], [-0.4, 0.9]], dtype=torch.float64)
FAKE = torch.tensor([[-0.7, 0.2], [0.4, -2.5], [1.1, 0.0]], dtype=torch.float64)


class LinearCritic(nn.Module):
    """One score a picture, ``<w, x>``: its gradient is ``w`` everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, pictures: Tensor) -> Tensor:
        return (pictures * self.weight).flatten(1).sum(1, keepdim=True)


def noise(*shape: int, seed: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random pictures in [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=random, dtype=dtype) * 2 - 1


def mixing(*shares: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(shares, dtype=dtype).reshape(-1, 1, 1, 1)


def loud(discriminator: nn.Module) -> nn.Module:
    """Weights so large that slopes lie around 1, and in float64."""
    random = torch.Generator().manual_seed(8)
    for weight in discriminator.double().parameters():
        nn.init.normal_(weight, 0, 0.4, generator=random)
    return discriminator


def patch(norm: Any = "instance", channels: int = 3, layers: int = 2) -> nn.Module:
    return loud(PatchDiscriminator(PatchSettings(channels, layers, norm)))


def dense() -> nn.Module:
    return loud(DenseDiscriminator(DenseSettings(channels=2, hidden=5), crop=10))


def slope_by_differences(critic: nn.Module, picture: Tensor) -> float:
    """The norm of the gradient of a picture's mean score, pixel by pixel."""
    step = 1e-6
    total = 0.0
    with torch.no_grad():
        for index in range(picture.numel()):
            moved = picture.clone()
            moved.view(-1)[index] += step
            above = critic(moved[None]).mean()
            moved.view(-1)[index] -= 2 * step
            total += float((above - critic(moved[None]).mean()) / (2 * step)) ** 2
    return math.sqrt(total)


def test_charbonnier_is_a_smooth_distance() -> None:
    restored = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)
    sharp = torch.tensor([0.5, 0.25, 0.9], dtype=torch.float64)
    expected = np.mean([1e-3, math.hypot(0.5, 1e-3), math.hypot(0.1, 1e-3)])
    assert charbonnier(restored, sharp).item() == pytest.approx(expected, rel=1e-12)
    assert charbonnier(restored, restored, 0.2).item() == pytest.approx(0.2, rel=1e-12)


def test_negative_psnr_is_the_metrics_mean_over_pictures() -> None:
    random = np.random.default_rng(3)
    sharp = torch.from_numpy(random.integers(0, 256, (3, 3, 6, 7), dtype=np.uint8))
    noise = torch.from_numpy(random.integers(-9, 10, (3, 3, 6, 7)))
    restored = (sharp + noise * torch.tensor([1, 2, 4]).view(3, 1, 1, 1)).clamp(0, 255).byte()
    loss = negative_psnr(restored / 127.5 - 1, sharp / 127.5 - 1, 0.0).item()
    figures = [psnr(*pair) for pair in zip(restored, sharp, strict=True)]
    # Levels span 2 in [-1, 1]: 6.02 dB above the metric's span of 1.
    assert loss == pytest.approx(20 * math.log10(2) - np.mean(figures), abs=1e-4)


def test_negative_psnr_of_a_perfect_picture_is_finite_and_its_gradient_nothing() -> None:
    restored = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss = negative_psnr(restored, torch.zeros(1, 3, 4, 4))
    loss.backward()
    assert loss.item() == pytest.approx(-40)
    assert restored.grad is not None
    assert not restored.grad.any()


def test_negative_psnr_is_taken_in_single_precision() -> None:
    sharp = torch.zeros(2, 3, 64, 64)
    half = torch.full((2, 3, 64, 64), 0.01, dtype=torch.bfloat16)
    exact = 10 * math.log10(float(half[0, 0, 0, 0]) ** 2 + 1e-4)
    assert negative_psnr(half, sharp).item() == pytest.approx(exact, rel=1e-5)


def test_a_share_of_the_distance_is_to_what_is_taught() -> None:
    random = np.random.default_rng(8)
    restored, sharp, taught = torch.from_numpy(random.normal(0, 0.3, (3, 2, 3, 5, 4)))
    for distance in (charbonnier, negative_psnr):
        assert distance(restored, sharp, taught=Taught(taught, 0.0)) == distance(restored, sharp)
        assert distance(restored, sharp, taught=Taught(taught, 1.0)) == distance(restored, taught)
    mixed = 0.25 * charbonnier(restored, sharp) + 0.75 * charbonnier(restored, taught)
    assert charbonnier(restored, sharp, taught=Taught(taught, 0.75)) == pytest.approx(mixed)
    squared = [
        0.25 * np.mean((r - s) ** 2) + 0.75 * np.mean((r - t) ** 2)
        for r, s, t in zip(restored.numpy(), sharp.numpy(), taught.numpy(), strict=True)
    ]
    expected = np.mean(10 * np.log10(np.array(squared) + 1e-4))
    loss = negative_psnr(restored, sharp, taught=Taught(taught, 0.75)).item()
    assert loss == pytest.approx(expected, rel=1e-9)


def log_sigmoid(x: float) -> float:
    return math.log(1 / (1 + math.exp(-x)))


def by_hand(loss: str) -> tuple[float, float]:
    """The critic's and the generator's loss over REAL and FAKE."""
    real, fake = REAL.flatten().tolist(), FAKE.flatten().tolist()
    if loss == "lsgan":
        apart = [(r - 1) ** 2 for r in real] + [f**2 for f in fake]
        return sum(apart) / len(apart), float(np.mean([(f - 1) ** 2 for f in fake]))
    if loss == "gan":
        apart = [-log_sigmoid(r) for r in real] + [-log_sigmoid(-f) for f in fake]
        return sum(apart) / len(apart), float(np.mean([-log_sigmoid(f) for f in fake]))
    return float(np.mean(fake) - np.mean(real)), -float(np.mean(fake))


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_the_losses_are_those_worked_out_by_hand(loss: str) -> None:
    critics, generators = by_hand(loss)
    assert critic_loss(loss, REAL, FAKE).item() == pytest.approx(critics, rel=1e-12)
    assert generator_loss(loss, FAKE).item() == pytest.approx(generators, rel=1e-12)


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_scores_in_half_precision_are_summed_in_single(loss: str) -> None:
    scores = torch.full((3, 1000), 0.1, dtype=torch.bfloat16)
    exact = scores.double()
    for made, expected in (
        (critic_loss(loss, scores, -scores), critic_loss(loss, exact, -exact)),
        (generator_loss(loss, scores), generator_loss(loss, exact)),
    ):
        assert made.dtype == torch.float32
        assert made.item() == pytest.approx(expected.item(), rel=1e-5)


def test_scores_far_out_stay_finite() -> None:
    far = torch.tensor([-1e4, 1e4])
    assert critic_loss("gan", far, far).item() == pytest.approx(5e3)
    assert generator_loss("gan", far).item() == pytest.approx(5e3)


@pytest.mark.parametrize("norm", [0.25, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_its_weights_norm_from_one(norm: float) -> None:
    weight = noise(1, 3, 4, 5)
    critic = LinearCritic(weight * norm / weight.norm())
    real, fake = noise(2, 3, 4, 5, seed=1), noise(2, 3, 4, 5, seed=2)
    penalty = gradient_penalty(critic, real, fake, mixing(0.3, 0.9))
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-12)
    penalty.backward()  # type: ignore[no-untyped-call]
    expected = 2 * (norm - 1) * weight / weight.norm()
    assert torch.allclose(critic.weight.grad, expected, atol=1e-12)


def test_the_slope_is_taken_between_the_pictures_each_at_its_own_place() -> None:
    class Square(nn.Module):
        """``|x|^2 / 2``, whose slope is ``|x|``."""

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, pictures: Tensor) -> Tensor:
            return self.one * pictures.square().flatten(1).sum(1) / 2

    real, fake = noise(3, 3, 4, 4, seed=1), noise(3, 3, 4, 4, seed=2)
    shares = (0.0, 0.25, 1.0)
    norms = [
        np.linalg.norm((a * r + (1 - a) * f).numpy())
        for a, r, f in zip(shares, real, fake, strict=True)
    ]
    expected = np.mean([(norm - 1) ** 2 for norm in norms])
    made = gradient_penalty(Square(), real, fake, mixing(*shares))
    assert made.item() == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_the_penalty_of_a_patch_critic_is_that_of_finite_differences(norm: str) -> None:
    critic = patch(norm)
    real, fake = noise(2, 3, 7, 6, seed=1), noise(2, 3, 7, 6, seed=2)
    shares = (0.2, 0.7)
    slopes = [
        slope_by_differences(critic, a * r + (1 - a) * f)
        for a, r, f in zip(shares, real, fake, strict=True)
    ]
    assert min(slopes) > 0.05
    expected = np.mean([(slope - 1) ** 2 for slope in slopes])
    made = gradient_penalty(critic, real, fake, mixing(*shares))
    assert made.item() == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("make", [patch, dense], ids=["patch", "dense"])
def test_the_whole_losss_gradient_in_the_weights_is_that_of_finite_differences(make: Any) -> None:
    critic = Critic(make(), "wgan-gp", penalty_weight=10)
    pictures = noise(2, 3, 10, 10, seed=1), noise(2, 3, 10, 10, seed=2), mixing(0.2, 0.7)
    scores = critic(*pictures)
    assert scores.penalty > 0.01
    scores.total.backward()
    random, step = torch.Generator().manual_seed(4), 1e-6
    for name, weight in critic.named_parameters():
        direction = torch.randn(weight.shape, generator=random, dtype=weight.dtype)
        along = (weight.grad * direction).sum().item()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * direction
            values.append(critic(*pictures).total.item())
            with torch.no_grad():
                weight -= sign * step * direction
        assert along == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-6), (
            name
        )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("loss", ["wgan-gp", "lsgan"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_gradients_are_the_same_in_either_order_of_memory(norm: str, loss: str, count: int) -> None:
    made = []
    for order in (torch.contiguous_format, torch.channels_last):
        critic = Critic(patch(norm), loss, 10).to(memory_format=order)  # type: ignore[call-overload]
        real, fake = (
            noise(count, 3, 12, 14, seed=seed).contiguous(memory_format=order) for seed in (1, 2)
        )
        critic(real, fake, mixing(0.2, 0.7)[:count]).total.backward()
        critic.fooled(fake.requires_grad_()).backward()
        made.append([weight.grad for weight in critic.parameters()] + [fake.grad])
    for gradient, expected in zip(made[1], made[0], strict=True):
        assert torch.allclose(gradient, expected, rtol=1e-6, atol=1e-9)
    assert fake.grad is not None
    assert fake.grad.abs().max() > 1e-4


def test_a_critic_without_any_slope_keeps_its_gradient_finite() -> None:
    critic = LinearCritic(torch.zeros(1, 3, 4, 4))
    penalty = gradient_penalty(critic, *noise(2, 2, 3, 4, 4).float(), mixing(0.5, 0.1))
    penalty.backward()  # type: ignore[no-untyped-call]
    assert penalty.item() == 1
    assert torch.isfinite(critic.weight.grad).all()


def test_the_total_is_the_loss_and_the_weighted_penalty() -> None:
    discriminator = patch()
    pictures = noise(2, 3, 12, 12, seed=1), noise(2, 3, 12, 12, seed=2)
    mix = mixing(0.2, 0.7)
    adversarial = discriminator(pictures[1]).mean() - discriminator(pictures[0]).mean()
    penalty = gradient_penalty(discriminator, *pictures, mix)
    scores = Critic(discriminator, "wgan-gp", penalty_weight=10)(*pictures, mix)
    assert scores.adversarial.item() == pytest.approx(adversarial.item())
    assert scores.penalty.item() == pytest.approx(penalty.item())
    assert scores.total.item() == pytest.approx((adversarial + 10 * penalty).item())
    for loss in ("wgan", "lsgan", "gan"):
        scores = Critic(discriminator, loss, penalty_weight=10)(*pictures, mix)
        expected = critic_loss(loss, *(discriminator(picture) for picture in pictures))
        assert scores.total.item() == scores.adversarial.item() == pytest.approx(expected.item())
        assert scores.penalty.item() == 0
        assert scores.total.requires_grad
        assert {part.dim() for part in scores} == {0}
        assert not scores.adversarial.requires_grad
        assert not scores.penalty.requires_grad


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_the_critics_loss_sends_nothing_back_to_the_pictures(loss: str) -> None:
    fake, real = (noise(2, 3, 12, 12, seed=seed).requires_grad_() for seed in (1, 2))
    Critic(patch(), loss, 10)(real * 1, fake * 1, mixing(0.2, 0.7)).total.backward()
    assert fake.grad is None
    assert real.grad is None


class Counting(nn.Module):
    """Notes the number of pictures in each forward."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.seen: list[int] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append(len(pictures))
        scores: Tensor = self.discriminator(pictures)
        return scores


@pytest.mark.parametrize(
    ("make", "forwards"),
    [
        (patch, [4]),
        (lambda: patch("none"), [4]),
        (lambda: patch("batch"), [2, 2]),
        (dense, [2, 2]),
    ],
    ids=["instance", "none", "batch", "dense"],
)
def test_only_norms_over_the_batch_keep_sharp_and_restored_apart(
    make: Any, forwards: list[int]
) -> None:
    discriminator = Counting(make())
    real, fake = noise(2, 3, 10, 10, seed=1), noise(2, 3, 10, 10, seed=2)
    scores = Critic(discriminator, "lsgan", 0)(real, fake, mixing(0, 0))
    assert discriminator.seen == forwards
    apart = critic_loss("lsgan", discriminator(real), discriminator(fake))
    assert scores.total.item() == pytest.approx(apart.item(), rel=1e-9)


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_the_penalty_is_in_single_precision_under_autocast(loss: str) -> None:
    critic = Critic(patch().float(), loss, 10)
    pictures = [noise(2, 3, 16, 16, seed=seed, dtype=torch.float32) for seed in (1, 2)]
    mix = mixing(0.2, 0.7, dtype=torch.float32)
    full = critic(*pictures, mix)
    exact = Critic(patch(), loss, 10)(*(picture.double() for picture in pictures), mix)
    assert full.penalty.item() == pytest.approx(exact.penalty.item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = critic(*pictures, mix)
        fooled = critic.fooled(pictures[1])
    assert torch.equal(mixed.penalty, full.penalty)
    assert mixed.adversarial != full.adversarial  # the rest is in bf16
    assert mixed.adversarial.item() == pytest.approx(full.adversarial.item(), abs=0.02)
    assert fooled.item() == pytest.approx(critic.fooled(pictures[1]).item(), abs=0.02)
    assert {part.dtype for part in (*mixed, fooled)} == {torch.float32}


def test_pictures_in_half_precision_get_their_penalty_in_that_of_the_weights() -> None:
    critic = Critic(patch().float(), "wgan-gp", 10)
    pictures = [noise(2, 3, 16, 16, seed=seed).bfloat16() for seed in (1, 2)]
    pictures.append(mixing(0.25, 0.75).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        made = critic(*pictures).penalty
    assert torch.equal(made, critic(*(picture.float() for picture in pictures)).penalty)


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_fooling_moves_the_pictures_and_no_weight(loss: str) -> None:
    discriminator = patch()
    critic = Critic(discriminator, loss, 10)
    fake = noise(2, 3, 12, 12).requires_grad_()
    fooled = critic.fooled(fake)
    assert fooled.dim() == 0
    assert all(weight.requires_grad for weight in critic.parameters())
    fooled.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None for weight in critic.parameters())

    twin = fake.detach().requires_grad_()
    scores = discriminator(twin)
    expected = {
        "lsgan": (scores - 1).square(),
        "gan": -torch.log(torch.sigmoid(scores)),
    }.get(loss, -scores)
    expected.mean().backward()  # type: ignore[no-untyped-call]
    assert fooled.item() == pytest.approx(expected.mean().item(), rel=1e-12)
    assert torch.allclose(fake.grad, twin.grad, atol=1e-12)  # type: ignore[arg-type]


def test_fooling_leaves_the_weights_as_they_were_even_when_it_fails() -> None:
    discriminator = patch()
    for weight in list(discriminator.parameters())[:2]:
        weight.requires_grad_(False)
    before = [weight.requires_grad for weight in discriminator.parameters()]
    assert set(before) == {True, False}
    critic = Critic(discriminator, "wgan", 0)
    critic.fooled(noise(1, 3, 12, 12))
    with pytest.raises(RuntimeError):
        critic.fooled(noise(1, 5, 12, 12))
    assert [weight.requires_grad for weight in discriminator.parameters()] == before


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="one of wgan-gp, wgan, lsgan, gan, not hinge"):
        Critic(patch(), "hinge", 10)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("loss", ["wgan-gp", "wgan"])
@pytest.mark.parametrize("make", [patch, dense], ids=["patch", "dense"])
def test_under_ddp_each_step_is_the_same_as_without(make: Any, loss: str) -> None:
    """DDP raises where a weight's gradient is missing or comes twice in a step."""
    critic, twin = Critic(make(), loss, 10), Critic(make(), loss, 10)
    wrapped = nn.parallel.DistributedDataParallel(critic)
    for step in range(3):
        real, fake = noise(2, 3, 10, 10, seed=step), noise(2, 3, 10, 10, seed=9 + step)
        fake.requires_grad_()
        for judge in (wrapped, twin):
            judge.zero_grad()
            judge(real, fake, mixing(0.2, 0.7)).total.backward()
        for weight, expected in zip(critic.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(weight.grad, expected.grad, rtol=1e-9)
        critic.fooled(fake).backward()
