"""The content loss is the distance that it says, and no wrong weights pass for right ones."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from deblurgan.runtime.errors import DeblurError
from deblurgan.train import vgg
from deblurgan.train.vgg import ContentLoss, VggWeights, load_vgg

CHANNELS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256),
            14: (256, 256)}  # fmt: skip


@functools.cache
def random_weights(seed: int = 1, first: float = 1.0) -> Mapping[str, Tensor]:
    """Features as large as torchvision's; ``first`` enlarges the first layer's weights."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for index, (inputs, outputs) in CHANNELS.items():
        weight = torch.randn(outputs, inputs, 3, 3, generator=random) * (2 / (9 * inputs)) ** 0.5
        tensors[f"features.{index}.weight"] = weight * (first if index == 0 else 1)
        tensors[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=random)
    return MappingProxyType(tensors)


def features_by_hand(tensors: Mapping[str, Tensor], x: Tensor, *, after_relu: bool) -> Tensor:
    """The layers written out, in float64; ``x`` is what the first convolution sees."""
    t = {key: value.double() for key, value in tensors.items()}

    def convolve(x: Tensor, index: int) -> Tensor:
        return F.conv2d(x, t[f"features.{index}.weight"], t[f"features.{index}.bias"], padding=1)

    x = F.relu(convolve(F.relu(convolve(x.double(), 0)), 2))
    x = F.max_pool2d(x, 2)
    x = F.relu(convolve(F.relu(convolve(x, 5)), 7))
    x = F.max_pool2d(x, 2)
    x = convolve(F.relu(convolve(F.relu(convolve(x, 10)), 12)), 14)
    return F.relu(x) if after_relu else x


def for_torchvision(x: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    return ((x.double() + 1) / 2 - mean) / deviation


def for_caffe(x: Tensor) -> Tensor:
    levels = (x.double() + 1) / 2 * 255
    blue_green_red = torch.stack([levels[:, 2], levels[:, 1], levels[:, 0]], 1)
    return blue_green_red - torch.tensor([103.939, 116.779, 123.68]).double()[:, None, None]


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    # With this seed no activation is nearer than 1e-4 to a ReLU's corner or another pooled one,
    # where a processor's way of rounding would decide which way the gradient goes.
    random = torch.Generator().manual_seed(192)
    return tuple(torch.rand(2, 3, 21, 18, generator=random) * 2 - 1 for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("after_relu", [False, True])
@pytest.mark.parametrize(
    ("normalise", "preprocessing", "prepare", "divisor"),
    [
        ("imagenet", "torchvision", for_torchvision, 1.0),
        ("imagenet", "caffe", for_caffe, 600.0),
        ("none", "torchvision", lambda x: x, 1.0),
        ("none", "caffe", lambda x: x, 1.0),
    ],
    ids=["torchvision", "caffe", "none", "none-caffe"],
)
def test_the_loss_is_the_distance_of_the_features(
    pictures: tuple[Tensor, Tensor],
    after_relu: bool,
    normalise: Any,
    preprocessing: Any,
    prepare: Callable[[Tensor], Tensor],
    divisor: float,
) -> None:
    tensors = random_weights()
    weights = VggWeights(tensors, preprocessing)
    loss = ContentLoss(weights, after_relu=after_relu, normalise=normalise)
    a, b = (features_by_hand(tensors, prepare(x), after_relu=after_relu) for x in pictures)
    expected = float(((a - b) / divisor).square().mean())
    assert float(loss(*pictures)) == pytest.approx(expected, rel=1e-5)
    assert loss.features(pictures[0]).shape == (2, 256, 5, 4)
    got = loss.features(pictures[0]).double() * divisor
    assert float((got - a).abs().max() / a.abs().max()) < 1e-5


def test_pictures_normalised_right_are_the_default(pictures: tuple[Tensor, Tensor]) -> None:
    weights = VggWeights(random_weights(), "torchvision")
    explicit = ContentLoss(weights, after_relu=False, normalise="imagenet")
    assert ContentLoss(weights)(*pictures) == explicit(*pictures)


def test_gradients_reach_the_restored_picture_alone(pictures: tuple[Tensor, Tensor]) -> None:
    tensors = random_weights()
    restored, sharp = (x.clone().requires_grad_() for x in pictures)
    loss = ContentLoss(VggWeights(tensors, "torchvision"))
    loss(restored, sharp).backward()
    assert sharp.grad is None
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())

    again = pictures[0].clone().double().requires_grad_()
    target = features_by_hand(tensors, for_torchvision(pictures[1]), after_relu=False)
    made = features_by_hand(tensors, for_torchvision(again), after_relu=False)
    (made - target).square().mean().backward()
    assert restored.grad is not None
    assert again.grad is not None
    error = (restored.grad.double() - again.grad).abs().max()
    assert float(error / again.grad.abs().max()) < 1e-4


def test_the_pictures_stay_as_they_are(pictures: tuple[Tensor, Tensor]) -> None:
    """Layers work in place, but not on what they are given."""
    before = [x.clone() for x in pictures]
    for normalise in ("imagenet", "none"):
        loss = ContentLoss(VggWeights(random_weights(), "torchvision"), normalise=normalise)  # type: ignore[arg-type]
        loss(*pictures)
    assert all(torch.equal(x, y) for x, y in zip(pictures, before, strict=True))


def test_a_loss_neither_draws_random_numbers_nor_touches_the_weights() -> None:
    tensors = random_weights()
    before = {key: value.clone() for key, value in tensors.items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    loss = ContentLoss(VggWeights(tensors, "caffe"))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.zero_()
    assert all(torch.equal(tensors[key], before[key]) for key in before)


def test_it_is_for_half_precision_too(pictures: tuple[Tensor, Tensor]) -> None:
    loss = ContentLoss(VggWeights(random_weights(first=25.0), "caffe"))
    full = float(loss(*pictures))
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(*pictures)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(full, rel=0.05)


# Weights


@pytest.mark.parametrize("kind", ["layers", "whole", "safetensors", "half"])
def test_files_of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    tensors = random_weights()
    path = tmp_path / "weights"
    if kind == "safetensors":
        safetensors.torch.save_file(dict(tensors), path)
    elif kind == "whole":
        more = {
            "features.16.weight": torch.zeros(256, 256, 3, 3),
            "classifier.0.bias": torch.ones(4),
        }
        torch.save({**tensors, **more}, path)
    elif kind == "half":
        torch.save({key: value.half() for key, value in tensors.items()}, path)
    else:
        torch.save(dict(tensors), path)
    loaded = load_vgg("vgg19", path)
    assert loaded.preprocessing == "torchvision"
    assert loaded.tensors.keys() == tensors.keys()
    for key, value in loaded.tensors.items():
        assert value.dtype == torch.float32
        expected = tensors[key].half().float() if kind == "half" else tensors[key]
        assert torch.equal(value, expected)


@pytest.mark.parametrize(("first", "expected"), [(1.0, "torchvision"), (25.0, "caffe")])
def test_the_preprocessing_is_told_by_the_size_of_the_features(
    tmp_path: Path, first: float, expected: str
) -> None:
    torch.save(dict(random_weights(first=first)), tmp_path / "w.pth")
    assert load_vgg("vgg16", tmp_path / "w.pth").preprocessing == expected
    assert load_vgg("vgg16", tmp_path / "w.pth", expected).preprocessing == expected  # type: ignore[arg-type]
    other: Any = {"torchvision": "caffe", "caffe": "torchvision"}[expected]
    with pytest.raises(DeblurError, match=rf"trained with {other}'s .*preprocessing={expected}"):
        load_vgg("vgg16", tmp_path / "w.pth", other)


def test_features_of_no_known_size_want_a_word(tmp_path: Path) -> None:
    torch.save(dict(random_weights(first=1000.0)), tmp_path / "w.pth")
    with pytest.raises(DeblurError, match=r"content\.preprocessing"):
        load_vgg("vgg16", tmp_path / "w.pth")
    assert load_vgg("vgg16", tmp_path / "w.pth", "caffe").preprocessing == "caffe"


def without(key: str) -> Callable[[Mapping[str, Tensor]], Any]:
    return lambda tensors: {k: v for k, v in tensors.items() if k != key}


def with_value(key: str, value: Tensor) -> Callable[[Mapping[str, Tensor]], Any]:
    return lambda tensors: {**tensors, key: value}


@pytest.mark.parametrize(
    ("network", "change", "message"),
    [
        ("vgg16", with_value("features.16.weight", torch.zeros(1)), "which vgg19 has"),
        ("vgg19", with_value("features.17.weight", torch.zeros(1)), "network=vgg16"),
        ("vgg19", without("features.14.bias"), r"features\.14\.bias .256.*no such key"),
        ("vgg19", with_value("features.2.weight", torch.zeros(64, 64, 5, 5)), "64, 64, 5, 5"),
        ("vgg19", with_value("features.7.bias", torch.tensor([torch.nan, *[0.0] * 127])), "finite"),
        ("vgg19", lambda tensors: {}, "the file has nothing"),
        ("vgg19", lambda tensors: {0: torch.zeros(1)}, "the file has 0"),
        ("vgg19", lambda tensors: {"state_dict": tensors}, "a state dict: tensors by name"),
        ("vgg19", lambda tensors: list(tensors.values()), "found a list"),
    ],
    ids=["19", "16", "missing", "shape", "nan", "empty", "numbers", "nested", "list"],
)
def test_weights_of_something_else_are_told(
    tmp_path: Path, network: Any, change: Callable[[Mapping[str, Tensor]], Any], message: str
) -> None:
    path = tmp_path / "w.pth"
    torch.save(change(dict(random_weights())), path)
    with pytest.raises(DeblurError, match=message) as caught:
        load_vgg(network, path)
    assert caught.value.subject == path


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "cut", "cut-safetensors"])
def test_files_that_do_not_load_are_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    if kind == "folder":
        path.mkdir()
    elif kind == "cut":
        torch.save(dict(random_weights()), path)
        path.write_bytes(path.read_bytes()[:4_000_000])
    elif kind == "cut-safetensors":
        path.write_bytes(safetensors.torch.save(dict(random_weights()))[:4_000_000])
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"no weights at all")
    with pytest.raises(DeblurError, match=r"expected VGG's weights as \.pth or \.safetensors"):
        load_vgg("vgg19", path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xd8\xff\xe0 a photograph", "found a file of another kind; name another with --vgg"),
        (b"PK\3\4 cut", "found a damaged file, or more than weights; get it again if"),
        (b"\x80\2cut", "found a damaged file, or more than weights; get it again if"),
    ],
)
def test_no_user_is_told_to_delete_a_file_or_to_run_its_code(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(DeblurError) as caught:
        load_vgg("vgg19", path)
    advice = f"found {caught.value.found}; {caught.value.remedy}"
    assert advice.startswith(said)
    assert "delete" not in advice
    assert "weights_only" not in advice


# torchvision's cache and download


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no torchvision."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    return tmp_path / "hub" / "checkpoints"


def test_a_damaged_download_is_to_be_deleted(hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "vgg19-dcbb9e9d.pth").write_bytes(b"cut")
    with pytest.raises(DeblurError, match="delete it: the next run downloads it again"):
        load_vgg("vgg19")


def install_torchvision(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    models = ModuleType("torchvision.models")
    member = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=url))
    vars(models).update(VGG16_Weights=member, VGG19_Weights=member)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


@pytest.mark.parametrize(
    ("network", "name"), [("vgg16", "vgg16-397923af.pth"), ("vgg19", "vgg19-dcbb9e9d.pth")]
)
def test_what_torchvision_has_downloaded_is_used(hub: Path, network: Any, name: str) -> None:
    hub.mkdir(parents=True)
    torch.save(dict(random_weights(7)), hub / name)
    loaded = load_vgg(network)
    assert loaded.preprocessing == "torchvision"
    assert torch.equal(loaded.tensors["features.7.bias"], random_weights(7)["features.7.bias"])


def test_without_weights_it_is_told_how_to_get_them(hub: Path) -> None:
    with pytest.raises(DeblurError, match=r"vgg19\(weights|vgg19 as vgg") as caught:
        load_vgg("vgg19")
    assert "no torchvision" in caught.value.found
    assert "--vgg FILE" in caught.value.remedy
    assert "vgg19-dcbb9e9d.pth" in caught.value.remedy


def test_a_broken_torchvision_is_none(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "broken" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator does not exist')")
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(DeblurError, match=r"no torchvision \(operator does not exist\)"):
        load_vgg("vgg16")


def test_weights_are_downloaded_from_where_torchvision_says(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.pth"
    torch.save(dict(random_weights()), there)
    digest = hashlib.sha256(there.read_bytes()).hexdigest()
    monkeypatch.setitem(vgg.TORCHVISION_FILES, "vgg19", f"vgg19-{digest[:8]}.pth")
    install_torchvision(monkeypatch, there.as_uri())
    loaded = load_vgg("vgg19")
    assert torch.equal(loaded.tensors["features.0.weight"], random_weights()["features.0.weight"])
    assert [path.name for path in hub.iterdir()] == [f"vgg19-{digest[:8]}.pth"]


@pytest.mark.parametrize("fault", ["network", "hash"])
def test_a_download_that_fails_is_told_and_leaves_nothing(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    there = tmp_path / "there.pth"
    if fault == "hash":
        there.write_bytes(b"not what was promised")
    install_torchvision(monkeypatch, there.as_uri())
    with pytest.raises(DeblurError, match=r"no download .*--vgg FILE"):
        load_vgg("vgg19")
    assert not list(hub.iterdir())


# Real weights


def test_caffes_weights_see_more_blur_as_farther_away(shared: Path) -> None:
    weights = load_vgg("vgg16", shared / "weights/vgg16_conv3_3_caffe.pth")
    assert weights.preprocessing == "caffe"
    loss = ContentLoss(weights)
    bgr = cv2.imread(str(shared / "data/photos-free/001.jpg"))
    sharp = np.ascontiguousarray(bgr[200:328, 200:328, ::-1])

    def blurred(sigma: float) -> Tensor:
        picture = cv2.GaussianBlur(sharp, (0, 0), sigma)
        return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1

    same, light, heavy = (
        float(loss(x, torch.from_numpy(sharp).permute(2, 0, 1)[None].float() / 127.5 - 1))
        for x in (torch.from_numpy(sharp).permute(2, 0, 1)[None].float() / 127.5 - 1,
                  blurred(1.0), blurred(3.0))
    )  # fmt: skip
    assert same == 0
    assert 0.01 < light < heavy / 2 < 5  # of the size that torchvision's weights give
