"""The original release's checkpoints are recognised by their keys. Its networks
are written down here once more, so that recognition is checked against
something other than our own classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import load_checkpoint, weights_sha256
from deblurgan.train.networks import (
    ResNetGenerator,
    ResNetSettings,
    UNetGenerator,
    UNetSettings,
    count_parameters,
)
from deblurgan.train.release import ReleaseOptions


@dataclass(frozen=True)
class ReleaseVariant:
    """A network that the release, or a close relative of it, could have saved."""

    convolutions: Literal[1, 2] = 2
    dropout: float = 0.5
    norm: str = "instance"
    affine: bool = False
    tracked: bool = False
    channels: int = 4
    blocks: int = 2


NORMS = [
    ("instance", False, False),
    ("instance", False, True),
    ("instance", True, False),
    ("instance", True, True),
    ("batch", True, True),
]
COUNTS: tuple[Literal[1, 2], ...] = (1, 2)
VARIANTS = [
    ReleaseVariant(convolutions, dropout, *norm)
    for convolutions, dropout, norm in itertools.product(COUNTS, (0.0, 0.5), NORMS)
]


class ReleaseBlock(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.conv_block(x)
        return added


class ReleaseNetwork(nn.Module):
    """The release's generator, as its networks.py has it for ``--learn_residual``."""

    def __init__(self, variant: ReleaseVariant) -> None:
        super().__init__()
        v, n = variant, variant.channels
        bias = v.norm == "instance"

        def norm(channels: int) -> nn.Module:
            if v.norm == "batch":
                return nn.BatchNorm2d(channels)
            return nn.InstanceNorm2d(channels, affine=v.affine, track_running_stats=v.tracked)

        def block() -> ReleaseBlock:
            first = [nn.ReflectionPad2d(1), nn.Conv2d(4 * n, 4 * n, 3, bias=bias), norm(4 * n)]
            second = [nn.ReflectionPad2d(1), nn.Conv2d(4 * n, 4 * n, 3, bias=bias), norm(4 * n)]
            dropout = [nn.Dropout(v.dropout)] if v.dropout else []
            if v.convolutions == 2:
                return ReleaseBlock([*first, nn.ReLU(), *dropout, *second])
            # The head's `a + [dropout] if use_dropout else [] + b` is one or the other.
            return ReleaseBlock([*first, nn.ReLU(), *dropout] if v.dropout else second)

        self.model = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, n, 7, bias=bias),
            norm(n),
            nn.ReLU(),
            nn.Conv2d(n, 2 * n, 3, 2, 1, bias=bias),
            norm(2 * n),
            nn.ReLU(),
            nn.Conv2d(2 * n, 4 * n, 3, 2, 1, bias=bias),
            norm(4 * n),
            nn.ReLU(),
            *(block() for _ in range(v.blocks)),
            nn.ConvTranspose2d(4 * n, 2 * n, 3, 2, 1, 1, bias=bias),
            norm(2 * n),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * n, n, 3, 2, 1, 1, bias=bias),
            norm(n),
            nn.ReLU(),
            nn.ReflectionPad2d(3),
            nn.Conv2d(n, 3, 7),
            nn.Tanh(),
        )
        stir(self)

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor = self.model(x)
        return torch.clamp(x + restored, -1, 1)


def stir(network: nn.Module) -> None:
    """Statistics and norm weights far from their beginnings, so that each one counts."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.2)
                nn.init.normal_(module.bias, 0, 0.2)
            if module.running_mean is not None and module.running_var is not None:
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)


def as_the_release_runs_it(network: nn.Module, x: Tensor) -> Tensor:
    """In training mode, each picture with its own statistics; but no dropout."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        restored: Tensor = network(x)
    return restored


def release_network(variant: ReleaseVariant) -> ReleaseNetwork:
    torch.manual_seed(1)
    return ReleaseNetwork(variant)


def picture() -> Tensor:
    return torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves anything as a .pth file."""

    def save(content: object, **options: bool) -> Path:
        path = tmp_path / "latest_net_G.pth"
        torch.save(content, path, **options)
        return path

    return save


def error_of(path: Path, options: ReleaseOptions | None = None) -> DeblurError:
    with pytest.raises(DeblurError) as caught:
        load_checkpoint(path, options)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return caught.value


def options_for(variant: ReleaseVariant) -> ReleaseOptions:
    return ReleaseOptions(trained_with_dropout=variant.dropout > 0)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("counters", [True, False], ids=["counted", "uncounted"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_of_the_release_is_recognised_and_gives_the_same_picture(
    saved: Callable[..., Path], variant: ReleaseVariant, counters: bool, prefix: str
) -> None:
    network = release_network(variant)
    path = saved(
        {
            prefix + key: weight
            for key, weight in network.state_dict().items()
            if counters or not key.endswith("num_batches_tracked")
        }
    )

    checkpoint = load_checkpoint(path, options_for(variant))
    settings = checkpoint.generator.settings
    assert (settings.channels, settings.blocks) == (4, 2)
    assert settings.convolutions == variant.convolutions
    assert settings.dropout == variant.dropout
    assert (settings.norm, settings.affine) == ("instance", variant.affine)
    assert checkpoint.generator.restore(picture()).detach().numpy() == pytest.approx(
        as_the_release_runs_it(network, picture()).numpy(), abs=1e-5
    )

    if variant.tracked:
        network = release_network(variant).eval()
        options = replace(options_for(variant), statistics="tracked")
        tracked = load_checkpoint(path, options).generator
        assert tracked.settings.norm == variant.norm
        with torch.no_grad():
            assert torch.allclose(tracked.restore(picture()), network(picture()), atol=1e-5)


def test_what_was_recognised_is_said_in_a_sentence(saved: Callable[..., Path]) -> None:
    path = saved(release_network(ReleaseVariant()).state_dict())
    checkpoint = load_checkpoint(path)
    assert checkpoint.training == {}
    assert checkpoint.recognised == (
        "original release: 2 blocks of two convolutions, 4 channels, "
        "instance norm without weights, dropout between the convolutions"
    )
    path = saved(release_network(ReleaseVariant(1, 0.5, "batch", True, True)).state_dict())
    assert load_checkpoint(path).recognised == (
        "original release: 2 blocks of one convolution, 4 channels, batch norm with weights, "
        "tracked statistics left aside for each picture's own, "
        "dropout after the convolution (assumed)"
    )


@pytest.mark.parametrize(("convolutions", "parameters"), [(2, 11_378_179), (1, 6_067_459)])
def test_the_release_at_full_size_has_the_parameters_known_of_it(
    saved: Callable[..., Path], convolutions: Literal[1, 2], parameters: int
) -> None:
    # Expanded zeros take no room on the disk.
    network = ReleaseNetwork(ReleaseVariant(convolutions, channels=64, blocks=9))
    zeros = {key: torch.zeros(1).expand(w.shape) for key, w in network.state_dict().items()}
    generator = load_checkpoint(saved(zeros)).generator
    assert generator.settings == ResNetSettings(convolutions=convolutions, bias=True)
    assert count_parameters(generator) == parameters


def test_a_file_of_pytorch_before_its_zip_format_is_read(saved: Callable[..., Path]) -> None:
    weights = release_network(ReleaseVariant()).state_dict()
    path = saved(weights, _use_new_zipfile_serialization=False)
    assert load_checkpoint(path).generator.settings.blocks == 2
    path.write_bytes(path.read_bytes()[:-10])
    assert "damaged" in error_of(path).found


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("convolutions", [1, 2])
def test_our_own_zero_padded_generator_is_recognised(
    saved: Callable[..., Path], convolutions: Literal[1, 2], dropout: float
) -> None:
    settings = ResNetSettings(
        channels=4, blocks=2, convolutions=convolutions, dropout=dropout, padding="zeros", bias=True
    )
    generator = ResNetGenerator(settings)
    options = ReleaseOptions(trained_with_dropout=dropout > 0)
    checkpoint = load_checkpoint(saved(generator.state_dict()), options)
    assert checkpoint.generator.settings == settings
    assert weights_sha256(checkpoint.generator) == weights_sha256(generator)
    assert "zero-padded" in str(checkpoint.recognised)


@pytest.mark.parametrize("skip", ["average", "none"])
def test_the_global_skip_is_the_readers_choice(saved: Callable[..., Path], skip: str) -> None:
    path = saved(release_network(ReleaseVariant()).state_dict())
    options = ReleaseOptions(skip=skip)  # type: ignore[arg-type]
    assert load_checkpoint(path, options).generator.settings.skip == skip


def test_tracked_statistics_that_the_file_lacks_are_told(saved: Callable[..., Path]) -> None:
    path = saved(release_network(ReleaseVariant()).state_dict())
    assert "running_mean" in error_of(path, ReleaseOptions(statistics="tracked")).expected


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_truncated_release_is_told(saved: Callable[..., Path], kept: float) -> None:
    path = saved(release_network(ReleaseVariant()).state_dict())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "damaged" in error_of(path).found


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[5], VARIANTS[-1]], ids=str)
def test_any_key_missing_is_told(saved: Callable[..., Path], variant: ReleaseVariant) -> None:
    weights = release_network(variant).state_dict()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for key in weights:
        if not key.endswith(statistics):
            message = str(error_of(saved({k: w for k, w in weights.items() if k != key})))
            assert key.rsplit(".", 2)[0] in message


def test_a_wrong_shape_is_told_with_the_one_expected(saved: Callable[..., Path]) -> None:
    weights = release_network(ReleaseVariant()).state_dict()
    weights["model.4.weight"] = torch.zeros(8, 4, 5, 5)
    error = error_of(saved(weights))
    assert error.expected == "model.4.weight [8, 4, 3, 3]"
    assert error.found == "[8, 4, 5, 5]"


def test_blocks_of_zero_padding_between_reflecting_ends_are_refused(
    saved: Callable[..., Path],
) -> None:
    weights = {
        key.replace("conv_block.1", "conv_block.0").replace("conv_block.6", "conv_block.4"): w
        for key, w in release_network(ReleaseVariant()).state_dict().items()
    }
    assert "conv_block.0, conv_block.4" in error_of(saved(weights)).found


class ReleaseUNetBlock(nn.Module):
    """A level of the release's U-Net, put together around the one below."""

    def __init__(
        self,
        outer: int,
        inner: int,
        below: nn.Module | None,
        variant: ReleaseVariant,
        *,
        outermost: bool = False,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        bias = variant.norm == "instance"

        def norm(channels: int) -> nn.Module:
            if variant.norm == "batch":
                return nn.BatchNorm2d(channels)
            return nn.InstanceNorm2d(
                channels, affine=variant.affine, track_running_stats=variant.tracked
            )

        down = nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)
        if outermost:
            assert below is not None
            up = nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1)
            layers: list[nn.Module] = [down, below, nn.ReLU(True), up, nn.Tanh()]
        elif below is None:
            up = nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm(outer)]
        else:
            up = nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2, True), down, norm(inner)]
            layers += [below, nn.ReLU(True), up, norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made if self.outermost else torch.cat([made, x], 1)


class ReleaseUNet(nn.Module):
    """The release's other generator, from the inside out, for ``--learn_residual``;
    as it was until its head, which builds none, and as pix2pix still has it.
    """

    def __init__(self, variant: ReleaseVariant, downs: int = 8) -> None:
        super().__init__()
        n, dropout = variant.channels, variant.dropout > 0
        block = ReleaseUNetBlock(8 * n, 8 * n, None, variant)
        for _ in range(downs - 5):
            block = ReleaseUNetBlock(8 * n, 8 * n, block, variant, dropout=dropout)
        for outer in (4 * n, 2 * n, n):
            block = ReleaseUNetBlock(outer, 2 * outer, block, variant)
        self.model = ReleaseUNetBlock(3, n, block, variant, outermost=True)
        for weight in self.parameters():
            if weight.dim() == 4:
                nn.init.normal_(weight, 0, 0.1)
        stir(self)

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor = self.model(x)
        return torch.clamp(x + restored, -1, 1)


def release_unet(variant: ReleaseVariant, downs: int = 6) -> ReleaseUNet:
    torch.manual_seed(1)
    return ReleaseUNet(variant, downs)


UNET_VARIANTS = [ReleaseVariant(2, dropout, *norm, 2) for dropout in (0.0, 0.5) for norm in NORMS]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("downs", [5, 6])
@pytest.mark.parametrize("variant", UNET_VARIANTS, ids=str)
def test_every_u_net_of_the_release_is_recognised_and_gives_the_same_picture(
    saved: Callable[..., Path], variant: ReleaseVariant, downs: int, prefix: str
) -> None:
    network = release_unet(variant, downs)
    path = saved({prefix + key: weight for key, weight in network.state_dict().items()})
    blurred = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1

    generator = load_checkpoint(path, options_for(variant)).generator
    settings = generator.settings
    assert isinstance(generator, UNetGenerator)
    assert (settings.channels, settings.downs, settings.dropout) == (2, downs, variant.dropout)
    assert (settings.norm, settings.affine) == ("instance", variant.affine)
    with torch.no_grad():
        restored = generator(blurred)
    expected = as_the_release_runs_it(network, blurred)
    assert restored.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert not torch.allclose(restored, blurred, atol=0.1)

    if variant.tracked:
        network = release_unet(variant, downs).eval()
        options = replace(options_for(variant), statistics="tracked")
        tracked = load_checkpoint(path, options).generator
        assert tracked.settings.norm == variant.norm
        with torch.no_grad():
            assert torch.allclose(tracked(blurred), network(blurred), atol=1e-5)


def test_what_was_recognised_of_a_u_net_is_said_in_a_sentence(saved: Callable[..., Path]) -> None:
    path = saved(release_unet(ReleaseVariant(channels=2)).state_dict())
    assert load_checkpoint(path).recognised == (
        "original release's U-Net: 6 levels, 2 channels, instance norm without weights, "
        "dropout (assumed)"
    )
    path = saved(release_unet(ReleaseVariant(2, 0.0, "batch", True, True, 2), 5).state_dict())
    assert load_checkpoint(path, ReleaseOptions(trained_with_dropout=False)).recognised == (
        "original release's U-Net: 5 levels, 2 channels, batch norm with weights, tracked "
        "statistics left aside for each picture's own, no dropout (assumed)"
    )


@pytest.mark.parametrize(("norm", "parameters"), [("batch", 54_413_955), ("instance", 54_409_603)])
def test_the_u_net_256_at_full_size_has_the_parameters_known_of_it(
    saved: Callable[..., Path], norm: str, parameters: int
) -> None:
    with torch.device("meta"):
        network = ReleaseUNet(ReleaseVariant(norm=norm, affine=norm == "batch", channels=64))
    # Expanded zeros take no room on the disk.
    zeros = {
        key: torch.zeros(()).expand(w.shape)
        for key, w in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    generator = load_checkpoint(saved(zeros)).generator
    assert generator.settings == UNetSettings(bias=norm == "instance", affine=norm == "batch")
    # Each picture's own statistics: a batch norm's weights stay, its statistics do not.
    assert count_parameters(generator) == parameters == count_parameters(network)


@pytest.mark.parametrize("variant", [UNET_VARIANTS[0], UNET_VARIANTS[-1]], ids=str)
def test_any_key_missing_of_a_u_net_is_told(
    saved: Callable[..., Path], variant: ReleaseVariant
) -> None:
    weights = release_unet(variant, 5).state_dict()
    for key in weights:
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            message = str(error_of(saved({k: w for k, w in weights.items() if k != key})))
            assert key in message


@pytest.mark.parametrize("shape", [(0, 3, 7, 7), (4, 3, 7)])
def test_a_first_weight_that_no_network_has_is_told(
    saved: Callable[..., Path], shape: tuple[int, ...]
) -> None:
    assert "model.1.weight" in error_of(saved({"model.1.weight": torch.zeros(shape)})).found
    assert "U-Net" in error_of(saved({"model.model.0.weight": torch.zeros(shape)})).found


def discriminator() -> nn.Module:
    network = nn.Module()
    network.model = nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 2), nn.LeakyReLU(0.2), nn.Conv2d(64, 128, 4, 2, 2)
    )
    return network


def unet() -> nn.Module:
    network = nn.Module()
    network.model = nn.Module()
    network.model.model = nn.Sequential(nn.Conv2d(3, 64, 4, 2, 1))
    return network


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (discriminator().state_dict(), "its discriminator"),
        (unet().state_dict(), "a U-Net of one level"),
        (torch.optim.Adam(discriminator().parameters()).state_dict(), "an optimizer's state"),
        ({"fc.weight": torch.zeros(2, 3)}, "fc.weight [2, 3]"),
        ({7: torch.zeros(1)}, "a dictionary of 7"),
        ({}, "an empty dictionary"),
        (torch.zeros(3), "a Tensor"),
        ({"epoch": 3, "state_dict": discriminator().state_dict()}, "epoch, state_dict"),
    ],
    ids=["critic", "unet", "optimizer", "other", "numbered", "empty", "tensor", "nested"],
)
def test_what_is_not_a_generator_is_named(
    saved: Callable[..., Path], content: object, found: str
) -> None:
    assert found in error_of(saved(content)).found


def test_a_state_dict_deeper_in_the_file_is_pointed_at(saved: Callable[..., Path]) -> None:
    error = error_of(saved({"epoch": 3, "model": release_network(ReleaseVariant()).state_dict()}))
    assert "torch.load('latest_net_G.pth')['model']" in error.remedy


def test_the_state_of_a_run_names_the_weights_beside_it(saved: Callable[..., Path]) -> None:
    error = error_of(saved({"format": "deblurgan-run-1", "generator": {"a": torch.zeros(1)}}))
    assert error.found == "the state of a run"
    assert error.remedy.endswith("last.safetensors")


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_pickled_module_is_not_run_but_its_conversion_told(
    saved: Callable[..., Path], as_zip: bool
) -> None:
    path = saved(release_network(ReleaseVariant()), _use_new_zipfile_serialization=as_zip)
    error = error_of(path)
    assert "ReleaseNetwork" in error.found
    assert "torch.save(net.state_dict(), 'net_G.pth')" in error.remedy
