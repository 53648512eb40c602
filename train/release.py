"""Checkpoints of the original release (KupynOrest/DeblurGAN): plain state dicts
in ``.pth`` files. Which network they belong to is read off their keys and shapes.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.networks import Norm, ResNetSettings, Skip, UNetSettings

EXPECTED = "a state dict of the original release's generator"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class ReleaseOptions:
    """What a released file does not tell. The defaults are what the release does.

    ``skip``: ``clamp`` is the release with ``--learn_residual``, ``none`` without.

    ``statistics``: the release never leaves training mode, so that its norms
    see each picture's own statistics, ``image``; ``tracked`` takes the running
    ones, where the file has them.

    ``trained_with_dropout``: false for ``--no_dropout``. It counts for blocks of
    one convolution, which lose their ReLU with the dropout, and is noted of a
    U-Net; two convolutions show their dropout in the keys. Dropout is off at
    inference.
    """

    skip: Skip = "clamp"
    statistics: Literal["image", "tracked"] = "image"
    trained_with_dropout: bool = True


@dataclass(frozen=True)
class Release:
    """A recognised file: weights under the keys of a generator with these
    settings, and one sentence about what was recognised.
    """

    settings: ResNetSettings | UNetSettings
    weights: dict[str, Tensor]
    recognised: str

    @property
    def description(self) -> dict[str, Any]:
        """What ``describe_generator`` says of the generator."""
        name = "unet" if isinstance(self.settings, UNetSettings) else "resnet"
        return {"name": name, "settings": asdict(self.settings)}


@dataclass(frozen=True)
class ReleaseNorm:
    """What the keys tell of the norms, and what is to be made of their statistics."""

    is_batch_norm: bool
    affine: bool
    tracked: bool
    use_tracked: bool

    @property
    def norm(self) -> Norm:
        # One picture's own statistics make a batch norm an instance norm.
        return "batch" if self.is_batch_norm and self.use_tracked else "instance"

    def wanted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights that the network takes."""
        return with_counters(weights) if self.use_tracked else without_statistics(weights)

    def __str__(self) -> str:
        text = "batch norm" if self.is_batch_norm else "instance norm"
        text += " with weights" if self.affine else " without weights"
        if self.tracked:
            text += ", tracked statistics"
            text += "" if self.use_tracked else " left aside for each picture's own"
        return text


def read_release(path: Path, options: ReleaseOptions) -> Release:
    """Read and recognise a ``.pth`` file, without running code out of it.

    Raises ``DeblurError`` for a damaged file, a pickled module, or weights of
    anything but the release's generators. Whether each weight is there
    and has its shape is left to whoever builds the network.
    """
    return recognise(path, read_state_dict(path), options)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by name, without DataParallel's ``module.``."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise unreadable(path, error) from error
    if not isinstance(content, dict):
        raise not_a_generator(path, f"a {type(content).__name__}")
    if not content or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise not_a_state_dict(path, content)
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value.detach() for key, value in content.items()}


def recognise(path: Path, weights: dict[str, Tensor], options: ReleaseOptions) -> Release:
    """Tell the generator's settings by its keys; ``path`` is for errors."""
    if is_convolution(weights.get("model.model.0.weight")):
        return recognise_unet(path, weights, options)
    return recognise_resnet(path, weights, options)


def recognise_resnet(path: Path, weights: dict[str, Tensor], options: ReleaseOptions) -> Release:
    # Reflecting pads are modules of their own and shift every index behind them.
    pads = 1 if is_convolution(weights.get("model.1.weight")) else 0
    first = weights.get(f"model.{pads}.weight")
    if first is None or not is_convolution(first) or first.shape[-1] == 4:
        raise not_a_generator(path, describe_foreign(weights))
    convolutions = convolutions_in_blocks(weights)
    blocks = count_blocks(path, weights, {block for block, _ in convolutions}, pads)
    positions = sorted({position for _, position in convolutions})
    if positions not in ([pads], [pads, 3 + 2 * pads], [pads, 4 + 2 * pads]):
        names = ", ".join(f"conv_block.{position}" for position in positions)
        raise not_a_generator(path, f"blocks with convolutions at {names}")
    bias = any(
        f"model.{block}.conv_block.{position}.bias" in weights for block, position in convolutions
    )
    norm = recognise_norm(path, weights, options, bias=bias)
    dropout = options.trained_with_dropout
    if len(positions) == 2:
        dropout = positions[1] == 4 + 2 * pads
    settings = ResNetSettings(
        channels=first.shape[0],
        blocks=blocks,
        convolutions=2 if len(positions) == 2 else 1,
        norm=norm.norm,
        affine=norm.affine,
        tracked=norm.use_tracked,
        bias=bias,
        dropout=0.5 if dropout else 0.0,
        padding="reflect" if pads else "zeros",
        skip=options.skip,
    )
    return Release(settings, norm.wanted(weights), describe_resnet(settings, norm))


def recognise_unet(path: Path, weights: dict[str, Tensor], options: ReleaseOptions) -> Release:
    """Each level of a U-Net lies in the one above: ``model.model.1.model.3.model`` is the third."""
    below = re.compile(r"model\.model\.1\.model\.((?:3\.model\.)*)\d+\.\w+")
    nested = [match[1].count("3.model.") for match in map(below.fullmatch, weights) if match]
    if not nested:
        raise not_a_generator(path, "a U-Net of one level")
    # The last one always has a bias: no norm is behind it.
    bias = any(
        key.removesuffix("weight") + "bias" in weights
        for key, weight in weights.items()
        if is_convolution(weight) and key != "model.model.3.weight"
    )
    norm = recognise_norm(path, weights, options, bias=bias)
    settings = UNetSettings(
        channels=weights["model.model.0.weight"].shape[0],
        downs=2 + max(nested),
        norm=norm.norm,
        affine=norm.affine,
        tracked=norm.use_tracked,
        bias=bias,
        dropout=0.5 if options.trained_with_dropout else 0.0,
        skip=options.skip,
    )
    dropout = "dropout" if settings.dropout else "no dropout"
    recognised = (
        f"original release's U-Net: {settings.downs} levels, {settings.channels} channels, "
        f"{norm}, {dropout} (assumed)"
    )
    return Release(settings, norm.wanted(weights), recognised)


def recognise_norm(
    path: Path, weights: dict[str, Tensor], options: ReleaseOptions, *, bias: bool
) -> ReleaseNorm:
    """A norm has weights or not, and running statistics or not. One with weights
    behind convolutions without ``bias`` is a batch norm: the release gives its
    convolutions a bias only before an instance norm.
    """
    affine = any(key.endswith(".weight") and w.dim() == 1 for key, w in weights.items())
    tracked = any(key.endswith(STATISTICS) for key in weights)
    use_tracked = options.statistics == "tracked"
    if use_tracked and not tracked:
        raise DeblurError(
            path,
            expected="running statistics of the norms (running_mean, running_var)",
            found="none",
            remedy="take each picture's own statistics: --statistics image",
        )
    return ReleaseNorm(affine and not bias, affine, tracked, use_tracked)


def is_convolution(weight: Tensor | None) -> bool:
    return weight is not None and weight.dim() == 4 and weight.numel() > 0


def convolutions_in_blocks(weights: dict[str, Tensor]) -> set[tuple[int, int]]:
    """The residual blocks' convolutions as (index in model, index in conv_block)."""
    matches = (
        re.fullmatch(r"model\.(\d+)\.conv_block\.(\d+)\.weight", key)
        for key, weight in weights.items()
        if is_convolution(weight)
    )
    return {(int(match[1]), int(match[2])) for match in matches if match}


def count_blocks(path: Path, weights: dict[str, Tensor], blocks: set[int], pads: int) -> int:
    """The number of residual blocks, out of the indices in model of those found.

    Raises ``DeblurError`` for a gap among them, or before the layers behind them.
    """
    first = 9 + pads
    last_layer = max(int(index) for index in re.findall(r"\bmodel\.(\d+)\.", " ".join(weights)))
    end = max(max(blocks, default=first) + 1, last_layer - 6 - pads)
    for block in range(first, end):
        if block not in blocks:
            raise DeblurError(
                path,
                expected=f"residual blocks from model.{first} on without a gap",
                found=f"no convolution in model.{block}.conv_block",
                remedy="the file is incomplete or of another network: download it again",
            )
    return len(blocks)


def without_statistics(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: w for key, w in weights.items() if not key.endswith(STATISTICS)}


def with_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the norms' step counters, which PyTorch before 0.4.1 did not save."""
    counters = {
        key.removesuffix("running_mean") + "num_batches_tracked": torch.tensor(0)
        for key in weights
        if key.endswith("running_mean")
    }
    return counters | weights


def describe_resnet(settings: ResNetSettings, norm: ReleaseNorm) -> str:
    two = settings.convolutions == 2
    dropout = "no dropout"
    if settings.dropout:
        dropout = "dropout " + ("between the convolutions" if two else "after the convolution")
    if not two:
        dropout += " (assumed)"
    network = "original release" if settings.padding == "reflect" else "zero-padded generator"
    return (
        f"{network}: {settings.blocks} blocks of {'two convolutions' if two else 'one convolution'}"
        f", {settings.channels} channels, {norm}, {dropout}"
    )


def describe_foreign(weights: dict[str, Tensor]) -> str:
    """Name the release's discriminator, or else the first few keys."""
    if any(key.startswith("model.model.") for key in weights):
        return "a U-Net without its first layer, model.model.0.weight [64, 3, 4, 4]"
    first = weights.get("model.0.weight")
    if first is not None and is_convolution(first) and first.shape[-1] == 4:
        return "its discriminator (the generator's file is the one with net_G in its name)"
    keys = [f"{key} {list(weight.shape)}" for key, weight in weights.items()]
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def not_a_generator(path: Path, found: str) -> DeblurError:
    return DeblurError(
        path,
        expected=f"{EXPECTED}, which has model.1.weight [64, 3, 7, 7] and model.10.conv_block",
        found=found,
        remedy="give the file that the release's train.py saves as latest_net_G.pth",
    )


def not_a_state_dict(path: Path, content: dict[Any, Any]) -> DeblurError:
    """For a dictionary of anything but tensors: state dicts lie deeper, or not at all."""
    keys = ", ".join(str(key) for key in list(content)[:4])
    if {"state", "param_groups"} <= content.keys():
        return not_a_generator(path, "an optimizer's state")
    if str(content.get("format")).startswith("deblurgan-run"):
        return DeblurError(
            path,
            expected="the weights of a generator",
            found="the state of a run",
            remedy=f"give those beside it: {path.with_name('last.safetensors')}",
        )
    for key, value in content.items():
        if isinstance(value, dict) and any(isinstance(v, Tensor) for v in value.values()):
            return DeblurError(
                path,
                expected=EXPECTED,
                found=f"a dictionary of {keys}",
                remedy="take the state dict out: "
                f"torch.save(torch.load({path.name!r})[{key!r}], 'net_G.pth')",
            )
    return not_a_generator(path, f"a dictionary of {keys}" if content else "an empty dictionary")


def unreadable(path: Path, error: Exception) -> DeblurError:
    """For a file that torch.load refuses: it holds more than tensors, or is damaged."""
    refused = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
    if refused:
        return DeblurError(
            path,
            expected=EXPECTED,
            found=f"a pickled {refused[1]}, which can run any code when it is loaded",
            remedy="if you trust where it is from, convert it beside its own code: net = "
            f"torch.load({path.name!r}, weights_only=False); "
            "torch.save(net.state_dict(), 'net_G.pth')",
        )
    reason = str(error).split(". ")[0] or "it ends too early"
    return DeblurError(
        path,
        expected=EXPECTED,
        found=f"a damaged file of {path.stat().st_size:,} bytes ({reason})",
        remedy="download or copy it again",
    )
