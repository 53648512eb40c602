"""Networks that were not made here: they export as our own do, or are refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.export.foreign import foreign_checkpoint
from deblurgan.export.onnx_export import ExportReport, export_onnx
from deblurgan.runtime.contract import Frames, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import Checkpoint, weights_sha256
from deblurgan.train.networks import ResNetGenerator

RunFile = Callable[[Path, Frames], Frames]
MakeFrames = Callable[..., Frames]


class Foreign(nn.Module):
    """What others build: layers as attributes, a norm beside its convolution, and
    dropout for training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(12, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.down = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24))
        self.up = nn.Sequential(nn.Conv2d(24, 64, 1), nn.PixelShuffle(2))
        self.drop = nn.Dropout(0.5)
        self.tail = nn.Sequential(nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.norm(self.head(F.pixel_unshuffle(x, 2))))
        deep = self.up(F.leaky_relu(self.down(features), 0.1))
        restored: Tensor = (x + self.tail(self.drop(features + deep))).clamp(-1, 1)
        return restored


def foreign() -> Foreign:
    """In training mode, with statistics that count."""
    torch.manual_seed(4)
    module = Foreign()
    for name, statistics in module.named_buffers():
        if name.endswith("running_mean"):
            statistics.normal_(0, 0.3)
        elif name.endswith("running_var"):
            statistics.uniform_(0.3, 1.5)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportReport]:
    folder = tmp_path_factory.mktemp("foreign")
    checkpoint = foreign_checkpoint(foreign(), name="mine", stride=4, settings={"width": 16})
    return {
        "fp32": export_onnx(checkpoint, folder / "32.onnx"),
        "fp16": export_onnx(checkpoint, folder / "16.onnx", "fp16"),
    }


@torch.no_grad()
def by_hand(module: nn.Module, frames: Frames, stride: int) -> Frames:
    """Frames through the module itself, padded and scaled without this project."""
    module = module.eval()
    height, width = frames.shape[1:3]
    pads = [(0, 0), (0, -height % stride), (0, -width % stride), (0, 0)]
    padded = np.pad(frames, pads, mode="reflect").transpose(0, 3, 1, 2)
    made = module(torch.from_numpy(padded).float() / 127.5 - 1).numpy().transpose(0, 2, 3, 1)
    levels: Frames = np.rint((made[:, :height, :width] + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return levels


@pytest.mark.parametrize(("height", "width", "batch"), [(33, 50, 1), (31, 17, 2), (32, 48, 1)])
@pytest.mark.parametrize(("precision", "largest"), [("fp32", 1), ("fp16", 2)])
def test_the_file_makes_the_modules_picture_at_any_size(
    precision: str,
    largest: int,
    height: int,
    width: int,
    batch: int,
    files: dict[str, ExportReport],
    run_file: RunFile,
    make_frames: MakeFrames,
) -> None:
    frames = make_frames(height, width, batch)
    made = run_file(files[precision].path, frames).astype(int)
    apart = np.abs(made - by_hand(foreign(), frames, 4))
    assert apart.max() <= largest
    assert np.count_nonzero(apart) <= (0.01 if precision == "fp32" else 0.2) * apart.size
    assert np.abs(made - frames).mean() > 1  # it does something


def test_the_card_says_whose_network_it_is(files: dict[str, ExportReport]) -> None:
    card = open_model(files["fp32"].path).card
    assert card.generator == {
        "name": "mine",
        "settings": {"network": "Foreign", "values": {"width": 16}},
    }
    assert (card.stride, card.minimum_size, card.training) == (4, 16, {})
    checkpoint = foreign_checkpoint(foreign(), name="mine")
    assert card.weights_sha256 == weights_sha256(checkpoint.generator)
    assert checkpoint.recognised == f"Foreign from elsewhere, {8_644:,} parameters"


def test_the_callers_module_stays_as_it_is() -> None:
    module = foreign().double()
    before = {key: weight.clone() for key, weight in module.state_dict().items()}
    generator = foreign_checkpoint(module, name="mine").generator
    assert module.training
    assert module.drop.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(weight, before[key]) for key, weight in module.state_dict().items())
    assert next(module.parameters()).dtype == torch.float64
    assert not any(part.training for part in generator.modules())
    theirs = {weight.data_ptr() for weight in module.state_dict().values()}
    assert not theirs & {weight.data_ptr() for weight in generator.state_dict().values()}


@torch.no_grad()
@pytest.mark.parametrize(("stride", "asked", "smallest"), [(4, 16, 16), (64, 16, 33), (1, 1, 1)])
def test_the_smallest_size_leaves_enough_to_reflect(stride: int, asked: int, smallest: int) -> None:
    generator = foreign_checkpoint(
        nn.Conv2d(3, 3, 1), name="mine", stride=stride, minimum_size=asked
    ).generator
    assert generator.minimum_size == smallest
    picture = torch.rand(1, 3, smallest, smallest + 1)
    assert generator(picture).shape == picture.shape


class Wrong(nn.Module):
    """Does to pictures what it is told."""

    def __init__(self, does: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.does = does

    def forward(self, x: Tensor) -> Any:
        return self.does(x)


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (nn.Conv2d(1, 3, 1), "to have 1 channels, but got 3 channels"),
        (nn.Conv2d(3, 4, 1), "float32 [2, 4, 16, 20] out of [2, 3, 16, 20]"),
        (nn.Conv2d(3, 3, 3), "[2, 3, 14, 18]"),
        (nn.Upsample(scale_factor=2), "[2, 3, 32, 40]"),
        (Wrong(lambda x: x.transpose(2, 3)), "[2, 3, 20, 16]"),
        (Wrong(lambda x: x / 0), "values that are not finite"),
        (Wrong(lambda x: x * float("nan")), "values that are not finite"),
        (Wrong(lambda x: (x * 127).to(torch.uint8)), "uint8"),
        (Wrong(lambda x: [x, x]), "a list"),
        (Wrong(lambda x: {}["weights"]), "KeyError: 'weights'"),
        (Wrong(lambda x: F.dropout(x, 0.5, training=True)), "apart"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "apart"),
    ],
    ids=str,
)
def test_a_module_that_is_none_from_pictures_to_pictures_is_refused(
    module: nn.Module, found: str
) -> None:
    with pytest.raises(DeblurError) as caught:
        foreign_checkpoint(module, name="mine")
    assert caught.value.subject == "mine"
    assert found in caught.value.found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript
def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(DeblurError, match="found a OrderedDict"):
        foreign_checkpoint(foreign().state_dict(), name="mine")  # type: ignore[arg-type]
    scripted = torch.jit.trace(foreign().eval(), torch.zeros(1, 3, 16, 16))
    with pytest.raises(DeblurError, match="found a TopLevelTracedModule"):
        foreign_checkpoint(scripted, name="mine")


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = foreign()
    module.left_over = module.head.weight * 2
    with pytest.raises(DeblurError, match=r"copy\.deepcopy"):
        foreign_checkpoint(module, name="mine")


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ({"name": "edge"}, "none of our networks has"),
        ({"name": ""}, "none of our networks has"),
        ({"name": "mine", "stride": 0}, "at least 1 pixel"),
        ({"name": "mine", "minimum_size": -1}, "at least 1 pixel"),
        ({"name": "mine", "settings": {"norm": nn.ReLU}}, "JSON"),
    ],
    ids=str,
)
def test_a_description_that_cannot_be_is_refused(
    description: dict[str, Any], expected: str
) -> None:
    with pytest.raises(DeblurError) as caught:
        foreign_checkpoint(foreign(), **description)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("upsampling", "precision", "largest"),
    [("transpose", "fp32", 1), ("transpose", "fp16", 3), ("nearest", "fp32", 1)],
)
def test_the_keras_articles_generator_exports_as_our_own(
    upsampling: str,
    precision: Any,
    largest: int,
    make_resnet: Callable[..., ResNetGenerator],
    tmp_path: Path,
    run_file: RunFile,
    make_frames: MakeFrames,
) -> None:
    generator = make_resnet(
        norm="batch",
        bias=True,
        dropout=0.0,
        skip="average",
        alignment="tensorflow",
        upsampling=upsampling,
    ).eval()
    for weight in generator.parameters():
        torch.nn.init.normal_(weight, 0, 0.2)
    report = export_onnx(Checkpoint(generator, {}), tmp_path / "keras.onnx", precision)
    operators = {node.op_type for node in onnx.load(report.path).graph.node}
    # What the exporter makes of a write into a view.
    assert not {name for name in operators if name.startswith("Scatter")}
    frames = make_frames(34, 51)
    expected = by_hand(generator, frames, 4)
    assert np.abs(run_file(report.path, frames).astype(int) - expected).max() <= largest
    # OpenVINO fuses paddings into convolutions, not always rightly.
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(
        report.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert np.abs(compiled([frames])[0].astype(int) - expected).max() <= largest


class Normed(nn.Module):
    """``norm`` between two convolutions; a function or a module."""

    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.norm(self.head(x))).tanh()


def test_group_norms_take_their_statistics_in_float(
    tmp_path: Path, make_frames: MakeFrames, run_file: RunFile
) -> None:
    torch.manual_seed(5)
    module = Normed(nn.GroupNorm(2, 4))
    report = export_onnx(foreign_checkpoint(module, name="mine"), tmp_path / "16.onnx", "fp16")
    frames = make_frames(33, 50)
    assert np.abs(run_file(report.path, frames) - by_hand(module, frames, 4).astype(int)).max() <= 2


def test_a_norm_that_would_be_in_half_is_refused(tmp_path: Path) -> None:
    checkpoint = foreign_checkpoint(Normed(F.instance_norm), name="mine")
    with pytest.raises(DeblurError, match=r"make it a module .*fp32"):
        export_onnx(checkpoint, tmp_path / "16.onnx", "fp16")
    assert list(tmp_path.iterdir()) == []


def test_a_way_that_depends_on_the_picture_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = foreign_checkpoint(Normed(lambda x: -x if x.mean() > 0 else x), name="mine")
    with pytest.raises(DeblurError, match="does not depend on what is in the picture"):
        export_onnx(checkpoint, tmp_path / "mine.onnx")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
