"""The content loss: a distance between VGG's features up to conv3_3.

VGG16 and VGG19 are the same network up to there, with the same key names in
torchvision's files; their weights differ. Two families of weights are about:
torchvision's (RGB, mean and deviation) and Caffe's (BGR, 0 to 255, only the
mean taken away; Keras and Oxford have these), whose features are some 600 times
as large. The loss divides them by that, so that one weight serves both.
"""

from __future__ import annotations

import importlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deblurgan.runtime.errors import DeblurError

Network = Literal["vgg16", "vgg19"]
Preprocessing = Literal["torchvision", "caffe"]
Normalise = Literal["imagenet", "none"]

# Index in ``features``: channels in and out. Between them stand ReLUs and two poolings.
CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128),
    10: (128, 256), 12: (256, 256), 14: (256, 256),
}  # fmt: skip
POOLINGS = (4, 9)
LAST = 14
# The convolution behind conv3_3 stands at another index in each network.
NEXT_CONVOLUTION: dict[str, Network] = {
    "features.16.weight": "vgg19",
    "features.17.weight": "vgg16",
}
TORCHVISION_FILES = {"vgg16": "vgg16-397923af.pth", "vgg19": "vgg19-dcbb9e9d.pth"}

TORCHVISION_MEAN, TORCHVISION_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68, 116.779, 103.939)  # of red, green and blue, in levels of 255
CAFFE_SCALE = 600.0
# Root mean square of a picture's features under torchvision's preprocessing: near 1
# with torchvision's weights, 14 to 28 with Caffe's (measured on photographs).
EXPECTED_RMS: dict[Preprocessing, tuple[float, float]] = {
    "torchvision": (0.2, 4.5),
    "caffe": (4.5, 100.0),
}


@dataclass(frozen=True)
class VggWeights:
    """Weights of the convolutions up to conv3_3, float32, by torchvision's keys,
    and the preprocessing that they were trained with.
    """

    tensors: Mapping[str, Tensor]
    preprocessing: Preprocessing


class ContentLoss(nn.Module):
    """Mean squared difference of the features of restored and sharp pictures.

    ``after_relu`` compares behind the ReLU of conv3_3. ``normalise`` is
    "imagenet" for pictures as the weights saw them in their training, or "none"
    for [-1, 1] as it is, which the original release and the Keras article feed.
    With "none", Caffe's weights are taken as the article took them, not
    rescaled: the loss is then about 140 times as large (78 against 0.5 for
    photographs under eval-v1).
    """

    def __init__(
        self, weights: VggWeights, *, after_relu: bool = False, normalise: Normalise = "imagenet"
    ) -> None:
        super().__init__()
        self.features = VggFeatures(weights, after_relu=after_relu, normalise=normalise)

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """A number from two float ``[N, 3, H, W]`` in [-1, 1]; gradients reach
        ``restored`` alone.
        """
        with torch.no_grad():
            target = self.features(sharp)
        return F.mse_loss(self.features(restored).float(), target.float())


class VggFeatures(nn.Module):
    """VGG up to conv3_3, frozen: ``[N, 3, H, W]`` in [-1, 1] to ``[N, 256, H/4, W/4]``."""

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, weights: VggWeights, *, after_relu: bool, normalise: Normalise) -> None:
        super().__init__()
        layers = OrderedDict[str, nn.Module]()
        for index in range(LAST + 1):
            if index in CONVOLUTIONS:
                # On meta: random weights would be drawn for nothing, from the run's seed.
                layers[str(index)] = nn.Conv2d(*CONVOLUTIONS[index], 3, padding=1, device="meta")
            elif index in POOLINGS:
                layers[str(index)] = nn.MaxPool2d(2)
            else:
                layers[str(index)] = nn.ReLU(inplace=True)
        if after_relu:
            layers[str(LAST + 1)] = nn.ReLU(inplace=True)
        self.features = nn.Sequential(layers)
        tensors, scale, shift = dict(weights.tensors), None, None
        if normalise == "imagenet" and weights.preprocessing == "caffe":
            tensors = for_unit_range(tensors)
            scale = torch.full((3,), 127.5 / CAFFE_SCALE)
            shift = (127.5 - torch.tensor(CAFFE_MEAN)) / CAFFE_SCALE
        elif normalise == "imagenet":
            scale = 0.5 / torch.tensor(TORCHVISION_DEVIATION)
            shift = (0.5 - torch.tensor(TORCHVISION_MEAN)) / torch.tensor(TORCHVISION_DEVIATION)
        self.load_state_dict({k: v.clone() for k, v in tensors.items()}, assign=True)
        self.register_buffer("scale", None if scale is None else scale.reshape(3, 1, 1))
        self.register_buffer("shift", None if shift is None else shift.reshape(3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        if self.scale is not None and self.shift is not None:
            pictures = pictures * self.scale + self.shift
        return self.features(pictures)


def for_unit_range(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Caffe's weights for RGB, and for inputs and features divided by ``CAFFE_SCALE``.

    A network of convolutions and ReLUs gives its output divided by s for its input
    divided by s, if the biases are too. So every layer stays in half precision's range.
    """
    scaled = {k: v / CAFFE_SCALE if k.endswith("bias") else v for k, v in tensors.items()}
    scaled["features.0.weight"] = scaled["features.0.weight"].flip(1)
    return scaled


def load_vgg(
    network: Network,
    file: Path | None = None,
    preprocessing: Literal["auto"] | Preprocessing = "auto",
) -> VggWeights:
    """Weights from a file, torchvision's cache or torchvision's download.

    ``file`` is a state dict with torchvision's keys (.pth or safetensors), of the
    whole network or of the layers up to conv3_3 alone. ``preprocessing`` is what a
    named file was trained with; "auto" tells it by the size of the features. Raises
    ``DeblurError`` where there are no weights, for a file of another network, and
    where the size of its features speaks against the preprocessing.
    """
    if file is None:
        file = cached_file(network)
        if not file.exists():
            download(network, file)
        kept = read_weights(file, "delete it: the next run downloads it again")
        return VggWeights(check_weights(file, kept, network), "torchvision")
    tensors = check_weights(file, read_weights(file), network)
    rms = probe_rms(tensors)
    seen = [name for name, (low, high) in EXPECTED_RMS.items() if low <= rms < high]
    if preprocessing == "auto":
        if not seen:
            raise DeblurError(
                file,
                expected="weights whose features have the size of torchvision's or Caffe's",
                found=f"features of {rms:.3g} where these have about 1 and 20",
                remedy="say what they were trained with: --set content.preprocessing=caffe, say",
            )
        return VggWeights(tensors, seen[0])
    if seen and preprocessing not in seen:
        raise DeblurError(
            file,
            expected=f"weights that were trained with {preprocessing}'s preprocessing",
            found=f"features of the size that {seen[0]}'s weights have ({rms:.3g})",
            remedy=f"add --set content.preprocessing={seen[0]}",
        )
    return VggWeights(tensors, preprocessing)


MEND = "get it again if its download broke off, or save the network's state_dict() alone"


def read_weights(path: Path, remedy: str = "") -> dict[str, Tensor]:
    """The tensors of a .pth or safetensors file, told by content; ``remedy`` is for a file
    that does not load, where another one than a named file's is right.
    """
    try:
        with path.open("rb") as opened:
            head = opened.read(9)
        is_safetensors = head[8:] == b"{"
        if is_safetensors:
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DeblurError(
            path,
            expected="VGG's weights as .pth or .safetensors",
            found=(error.strerror or str(error)).lower(),
            remedy="check the path, or leave --vgg out to download them",
        ) from None
    except Exception as error:  # a damaged pickle raises anything
        is_one = is_safetensors or head.startswith((b"PK", b"\x80"))
        raise DeblurError(
            path,
            expected="VGG's weights as .pth or .safetensors",
            # PyTorch's message is left out: it advises to let the file run its code.
            found="a damaged file, or more than weights" if is_one else "a file of another kind",
            remedy=remedy or (MEND if is_one else "name another with --vgg"),
        ) from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise DeblurError(
            path,
            expected="a state dict: tensors by name",
            found=f"a {type(content).__name__} of something else",
            remedy="save the network's state_dict() alone",
        )
    return content


def check_weights(path: Path, content: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The layers up to conv3_3 of a whole state dict of ``network``, as float32."""
    for key, owner in NEXT_CONVOLUTION.items():
        if key in content and owner != network:
            raise DeblurError(
                path,
                expected=f"weights of {network}",
                found=f"those of another network: {key}, which {owner} has",
                remedy=f"give {network}'s file, or add --set content.network={owner}",
            )
    tensors = {}
    for index, (inputs, outputs) in CONVOLUTIONS.items():
        shapes = {"weight": [outputs, inputs, 3, 3], "bias": [outputs]}
        for name, shape in shapes.items():
            key = f"features.{index}.{name}"
            found = list(content[key].shape) if key in content else "no such key"
            if found != shape:
                others = ", ".join(str(name) for name in list(content)[:3]) or "nothing"
                raise DeblurError(
                    path,
                    expected=f"{network}'s {key} {shape}, as torchvision names it",
                    found=f"{found} (the file has {others}, ...)",
                    remedy=f"give a state dict of torchvision's {network}",
                )
            tensors[key] = content[key].detach().float().contiguous()
            if not tensors[key].isfinite().all():
                raise DeblurError(
                    path,
                    expected="finite weights",
                    found=f"others in {key}",
                    remedy="copy or download the file again",
                )
    return tensors


@torch.no_grad()
def probe_rms(tensors: dict[str, Tensor]) -> float:
    """Root mean square of conv3_3's features of a made picture under torchvision's
    preprocessing.
    """
    features = VggFeatures(
        VggWeights(tensors, "torchvision"), after_relu=False, normalise="imagenet"
    )
    return float(features(probe_picture()).square().mean().sqrt())


def probe_picture(side: int = 128) -> Tensor:
    """Grey clouds with a tint, as rough at every scale as photographs: float
    ``[1, 3, side, side]`` in [-1, 1].
    """
    random = torch.Generator().manual_seed(1409_1556)
    picture = torch.zeros(1, 3, side, side)
    for cells in (2, 4, 8, 16, 32, 64):
        clouds = torch.randn(1, 1, cells, cells, generator=random)
        clouds = clouds + 0.3 * torch.randn(1, 3, cells, cells, generator=random)
        picture += F.interpolate(clouds, size=(side, side), mode="bicubic") / cells**0.5
    return (picture / picture.std() / 3).clamp(-1, 1)


def cached_file(network: Network) -> Path:
    """Where torchvision keeps the weights that it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / TORCHVISION_FILES[network]


def download(network: Network, file: Path) -> None:
    """Let torchvision say where its weights are, and fetch them into its cache."""
    try:
        models = importlib.import_module("torchvision.models")
        url = getattr(models, f"{network.upper()}_Weights").IMAGENET1K_V1.url
    except (ImportError, RuntimeError, AttributeError) as error:
        # RuntimeError: a torchvision that was built for another PyTorch.
        raise no_weights(network, file, f"no torchvision ({first_line(error)})") from None
    try:
        os.makedirs(file.parent, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.split("-")[1])
    except (OSError, RuntimeError) as error:
        raise no_weights(network, file, f"no download ({first_line(error)})") from None


def no_weights(network: Network, file: Path, found: str) -> DeblurError:
    command = f"from torchvision.models import {network} as vgg; vgg(weights='IMAGENET1K_V1')"
    return DeblurError(
        f"the content loss's {network}",
        expected=f"torchvision's weights at {file}, or a torchvision that downloads them",
        found=found,
        remedy=f'on a machine with torchvision and a network run: python -c "{command}", '
        f"then copy {file.name} here and name it with --vgg FILE",
    )


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
