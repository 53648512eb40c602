"""Muon, an optimiser: the momentum of each convolution is made orthogonal, so that it moves
in all directions alike and not in a few (Jordan et al. 2024).

PyTorch's own takes matrices alone; a convolution is one too, with a row for each index of
its first axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial whose iteration brings singular values to about 1 (Jordan et al. 2024)."""
ITERATIONS = 5
STEP_LIKE_ADAMS = 0.2
"""Root mean square of an update, as Adam's are, so that Adam's rates suit (Liu et al. 2025)."""


class Muon(torch.optim.Optimizer):
    """Moves weights of two axes or more by their orthogonal momentum, which ``betas[0]`` is
    the decay of; biases and norms, which are no matrices, by AdamW.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(weights, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights that have a gradient once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    move = self.orthogonal_move if weight.ndim > 1 else self.adams_move
                    weight.add_(move(weight, weight.grad, group), alpha=-group["lr"])
        return loss

    def orthogonal_move(
        self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]
    ) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        decay = group["betas"][0]
        state["momentum"].lerp_(gradient, 1 - decay)
        ahead = torch.lerp(gradient, state["momentum"], decay)  # Nesterov's
        matrix = orthogonal(ahead.flatten(1))
        return (STEP_LIKE_ADAMS * math.sqrt(max(matrix.shape)) * matrix).reshape(weight.shape)

    def adams_move(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        first, second = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        square = state["square"] / (1 - second ** state["step"])
        return mean / (square.sqrt() + group["eps"])


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix whose rows, or columns where these are fewer, are orthogonal
    and of length 1, in fp32 at least: singular values of 0.7 to 1.2, but for those below a
    500th of the matrix's norm, which stay smaller.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide.to(torch.promote_types(wide.dtype, torch.float32))
    wide = wide / wide.norm().clamp_min(1e-7)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = linear * wide + (cubic * gram + quintic * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
