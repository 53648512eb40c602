"""What a network costs for one frame: multiply-adds, and the values that it reads and writes.

Counted are convolutions, transposed ones and matrix products, each as often as it multiplies;
norms, additions and resampling are left out, as papers leave them out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deblurgan.runtime.contract import Model

if TYPE_CHECKING:
    from torch import nn

# Bytes of a weight or an activation, where every layer is in that precision.
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1, "int8-fp16": 1}


@dataclass(frozen=True)
class NetworkCost:
    """For one frame. ``weights`` and ``activations`` are counts of values: every layer that
    multiplies reads its input and its weights once and writes its output once.
    """

    multiply_adds: int
    weights: int
    activations: int

    @property
    def operations(self) -> int:
        """A multiplication and an addition each."""
        return 2 * self.multiply_adds

    def bytes_moved(self, precision: str, frames: int = 1) -> int:
        """An estimate for the roofline: what lies between the layers that multiply is taken
        to be fused into them, and nothing to stay in a cache; the weights are read once.
        """
        return BYTES[precision] * (self.weights + frames * self.activations)


def count_model(model: Model, width: int, height: int) -> NetworkCost | None:
    """From the file's own graph, as OpenVINO reads it; where OpenVINO is missing or cannot,
    from the generator that the file's metadata name. None where neither tells.
    """
    cost = count_graph(model, width, height) if model.backend is None else None
    return cost or count_described(model.card.generator, width, height)


def count_graph(model: Model, width: int, height: int) -> NetworkCost | None:
    try:
        from deblurgan.runtime.backends.openvino import open_core

        network = open_core().read_model(model.path)
        network.reshape([1, height, width, 3])
        layers = [count_node(node) for node in network.get_ops()]
    except Exception:  # not installed, or a graph that it does not read
        return None
    return add_up([layer for layer in layers if layer is not None])


def count_node(node: Any) -> NetworkCost | None:
    kind = node.get_type_name()
    if kind not in (
        "Convolution", "GroupConvolution", "ConvolutionBackpropData",
        "GroupConvolutionBackpropData", "MatMul",
    ):  # fmt: skip
        return None
    given, weights = (list(node.input(i).get_shape()) for i in (0, 1))
    made = list(node.output(0).get_shape())
    if kind == "MatMul":
        depth = given[-2 if node.get_attributes().get("transpose_a") else -1]
        times = math.prod(made) * depth
    elif "Backprop" in kind:  # every value that goes in meets the weights of its channel
        times = math.prod(given) * math.prod(weights[2 if "Group" in kind else 1 :])
    else:
        times = math.prod(made) * math.prod(weights[2 if "Group" in kind else 1 :])
    return NetworkCost(times, math.prod(weights), math.prod(given) + math.prod(made))


def count_described(generator: dict[str, Any], width: int, height: int) -> NetworkCost | None:
    """``{"name": …, "settings": …}``, as checkpoints and model files carry it."""
    try:
        import torch

        from deblurgan.train.networks import build_generator

        with torch.device("meta"):
            module = build_generator(generator["name"], generator["settings"])
        return count_module(module, width, height)
    except (ImportError, KeyError, TypeError, ValueError):
        return None


def count_module(module: nn.Module, width: int, height: int) -> NetworkCost:
    """Of a generator on the meta device, where shapes are all that is computed."""
    import torch
    from torch import nn

    layers: list[NetworkCost] = []

    def count(layer: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        turned = isinstance(layer, nn.ConvTranspose2d)
        met = (given[0] if turned else made).numel()
        each = layer.weight.numel() // layer.weight.shape[0]
        layers.append(
            NetworkCost(met * each, layer.weight.numel(), given[0].numel() + made.numel())
        )

    hooks = [
        layer.register_forward_hook(count)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    try:
        with torch.inference_mode():
            module.eval()(torch.empty(1, 3, height, width, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return add_up(layers)


def add_up(layers: list[NetworkCost]) -> NetworkCost:
    return NetworkCost(
        sum(layer.multiply_adds for layer in layers),
        sum(layer.weights for layer in layers),
        sum(layer.activations for layer in layers),
    )
