"""The Keras article's weights: files in Keras' layouts, and the article's network once
more in numpy, in double precision, with TensorFlow's padding written out.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblurgan.runtime.errors import DeblurError
from deblurgan.train.checkpoint import load_checkpoint
from deblurgan.train.keras_file import attribute, read_layers
from deblurgan.train.networks import Generator, ResNetSettings

h5py = pytest.importorskip("h5py")

Array = NDArray[np.float64]
Layer = tuple[str, dict[str, NDArray[Any]]]
FORMS = ("transpose", "nearest")
CHANNELS, BLOCKS = 3, 2


def article(upsampling: str) -> list[Layer]:
    """The layers that have weights, in order, with Keras 2's names."""
    random = np.random.default_rng(4)
    counters: dict[str, itertools.count[int]] = {}

    def layer(kind: str, weights: dict[str, Array]) -> Layer:
        number = next(counters.setdefault(kind, itertools.count(1)))
        stored = {name: values.astype(np.float32) for name, values in weights.items()}
        return f"{kind}_{number}", stored

    def convolution(kernel: int, inputs: int, outputs: int, kind: str = "conv2d") -> Layer:
        shape = (inputs, outputs) if kind == "conv2d" else (outputs, inputs)
        spread = 1.5 / np.sqrt(kernel * kernel * inputs)
        return layer(
            kind,
            {
                "kernel": random.normal(0, spread, (kernel, kernel, *shape)),
                "bias": random.normal(0, 0.3, outputs),
            },
        )

    def norm(channels: int) -> Layer:
        return layer(
            "batch_normalization",
            {
                "gamma": random.normal(1, 0.2, channels),
                "beta": random.normal(0, 0.3, channels),
                "moving_mean": random.normal(0, 0.3, channels),
                # Small ones too: there an epsilon of PyTorch's would show.
                "moving_variance": random.uniform(0.01, 1, channels),
            },
        )

    c = CHANNELS
    layers = [convolution(7, 3, c), norm(c)]
    for inputs in (c, 2 * c):
        layers += [convolution(3, inputs, 2 * inputs), norm(2 * inputs)]
    for _ in range(2 * BLOCKS):
        layers += [convolution(3, 4 * c, 4 * c), norm(4 * c)]
    kind = "conv2d_transpose" if upsampling == "transpose" else "conv2d"
    for inputs in (4 * c, 2 * c):
        layers += [convolution(3, inputs, inputs // 2, kind), norm(inputs // 2)]
    return [*layers, convolution(7, c, 3)]


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's padding "same": what is left over lies behind."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolve(x: Array, kernel: Array, stride: int = 1, padding: str = "valid") -> Array:
    """``[H, W, in]`` by ``[h, w, in, out]``."""
    if padding == "same":
        pads = [same(size, len(kernel), stride) for size in x.shape[:2]]
        x = np.pad(x, [*pads, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (0, 1))
    return np.einsum("hwiyx,yxio->hwo", windows[::stride, ::stride], kernel)


def convolve_transposed(x: Array, kernel: Array, stride: int = 2) -> Array:
    """The gradient of a convolution with padding "same" by its input, as TensorFlow
    defines it; ``kernel`` is ``[h, w, out, in]``.
    """
    side = len(kernel)
    height, width = (stride * size for size in x.shape[:2])
    full = np.zeros((height + side, width + side, kernel.shape[2]))
    for y, x_, row, column in np.ndindex(*x.shape[:2], side, side):
        full[stride * y + row, stride * x_ + column] += kernel[row, column] @ x[y, x_]
    top, left = same(height, side, stride)[0], same(width, side, stride)[0]
    return full[top : top + height, left : left + width]


def run_article(layers: list[Layer], picture: Array, epsilon: float = 1e-3) -> Array:
    """``[H, W, 3]`` in [-1, 1] to the same."""
    rest = iter([{name: np.asarray(w, np.float64) for name, w in ws.items()} for _, ws in layers])

    def reflect(x: Array, pad: int) -> Array:
        return np.pad(x, [(pad, pad), (pad, pad), (0, 0)], mode="reflect")

    def norm(x: Array) -> Array:
        weights = next(rest)
        scale = weights["gamma"] / np.sqrt(weights["moving_variance"] + epsilon)
        return (x - weights["moving_mean"]) * scale + weights["beta"]

    def convolution(x: Array, stride: int = 1, padding: str = "valid") -> Array:
        weights = next(rest)
        return convolve(x, weights["kernel"], stride, padding) + weights.get("bias", 0)

    def double(x: Array) -> Array:
        weights = next(rest)
        kernel = weights["kernel"]
        if kernel.shape[2] < kernel.shape[3]:
            return convolve_transposed(x, kernel) + weights.get("bias", 0)
        return convolve(x.repeat(2, 0).repeat(2, 1), kernel, 1, "same") + weights.get("bias", 0)

    def relu(x: Array) -> Array:
        return np.maximum(x, 0)

    x = relu(norm(convolution(reflect(picture, 3))))
    for _ in range(2):
        x = relu(norm(convolution(x, 2, "same")))
    for _ in range((len(layers) - 11) // 4):
        y = relu(norm(convolution(reflect(x, 1))))
        x = x + norm(convolution(reflect(y, 1)))
    for _ in range(2):
        x = relu(norm(double(x)))
    x = np.tanh(convolution(reflect(x, 3)))
    assert next(rest, None) is None
    return (x + picture) / 2


def write_named(
    path: Path, layers: list[Layer], *, group: str = "", backend: str = "tensorflow"
) -> Path:
    """As Keras 2's ``save_weights``, or with ``group`` model_weights as its ``save``."""
    with h5py.File(path, "w") as file:
        root = file.require_group(group) if group else file
        # Layers without weights are in Keras' list too.
        names = [name for layer, _ in layers for name in (layer, f"activation_of_{layer}")]
        root.attrs["layer_names"] = [name.encode() for name in ["input_1", *names]]
        root.attrs["backend"] = backend.encode()
        root.attrs["keras_version"] = b"2.1.3"
        for name in ["input_1", *names]:
            root.create_group(name).attrs["weight_names"] = np.zeros(0)
        for name, weights in layers:
            root[name].attrs["weight_names"] = [f"{name}/{w}:0".encode() for w in weights]
            for weight, values in weights.items():
                root[name][f"{name}/{weight}:0"] = values
    return path


def write_whole_model(path: Path, layers: list[Layer]) -> Path:
    return write_named(path, layers, group="model_weights")


def write_numbered(path: Path, layers: list[Layer]) -> Path:
    """As Keras 3's ``save_weights``."""
    with h5py.File(path, "w") as file:
        file.create_group("layers/activation/vars")
        file.create_group("vars")
        for name, weights in layers:
            kind, number = name.rsplit("_", 1)
            counted = kind if number == "1" else f"{kind}_{int(number) - 1}"
            for index, values in enumerate(weights.values()):
                file[f"layers/{counted}/vars/{index}"] = values
    return path


WRITERS = [write_named, write_whole_model, write_numbered]
Write = Callable[..., Path]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "generator.h5"


def picture(height: int, width: int) -> Array:
    return np.random.default_rng(7).uniform(-1, 1, (height, width, 3))


def to_tensor(pictures: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures, np.float32)).permute(0, 3, 1, 2)


@torch.no_grad()
def restored(generator: Generator, blurred: Array) -> Array:
    """``[H, W, 3]`` by the generator in double precision, which shows the smallest slip."""
    made = generator.double()(torch.from_numpy(blurred).permute(2, 0, 1)[None])
    picture: Array = made[0].permute(1, 2, 0).numpy()
    return picture


def error_of(path: Path) -> DeblurError:
    with pytest.raises(DeblurError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("upsampling", FORMS)
def test_both_forms_in_every_layout_give_the_articles_picture(
    path: Path, upsampling: str, write: Write
) -> None:
    layers = article(upsampling)
    checkpoint = load_checkpoint(write(path, layers))
    assert not checkpoint.generator.training
    for height, width in ((16, 24), (20, 16)):
        expected = run_article(layers, picture(height, width))
        made = restored(checkpoint.generator, picture(height, width))
        assert made == pytest.approx(expected, abs=1e-5)
        assert np.abs(expected - picture(height, width)).max() > 0.5


@pytest.mark.parametrize("upsampling", FORMS)
def test_what_was_recognised_is_said(path: Path, upsampling: Any) -> None:
    checkpoint = load_checkpoint(write_named(path, article(upsampling)))
    assert checkpoint.generator.settings == ResNetSettings(
        channels=CHANNELS,
        blocks=BLOCKS,
        norm="batch",
        bias=True,
        dropout=0.0,
        skip="average",
        upsampling=upsampling,
        alignment="tensorflow",
    )
    doubling = {"transpose": "transposed convolutions", "nearest": "up-sampling and convolutions"}
    assert checkpoint.training == {}
    assert checkpoint.recognised == (
        f"Keras article's generator: 2 blocks, 3 channels, batch norm, {doubling[upsampling]}"
    )


def test_the_epsilon_of_a_whole_models_norms_is_its_own(path: Path) -> None:
    layers = article("transpose")
    write_whole_model(path, layers)
    configured = [
        {"class_name": "BatchNormalization", "config": {"name": name, "epsilon": 0.1}}
        for name, weights in layers
        if "gamma" in weights
    ]
    configured.append({"class_name": "Activation", "config": {"name": "activation_1"}})
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps({"config": {"layers": configured}}).encode()
    made = restored(load_checkpoint(path).generator, picture(16, 16))
    assert made == pytest.approx(run_article(layers, picture(16, 16), 0.1), abs=1e-5)
    assert np.abs(made - run_article(layers, picture(16, 16))).max() > 0.01


@pytest.mark.parametrize("write", WRITERS)
def test_convolutions_before_norms_may_lack_their_biases_all_together(
    path: Path, write: Write
) -> None:
    layers = article("transpose")
    for _, weights in layers[2:-1]:
        weights.pop("bias", None)
    assert "conv2d" in error_of(write(path, layers)).expected
    first_bias = layers[0][1].pop("bias")
    generator = load_checkpoint(write(path, layers)).generator
    assert generator.settings.bias is False
    made = restored(generator, picture(16, 16))
    assert made == pytest.approx(run_article(layers, picture(16, 16)), abs=1e-5)
    layers[2][1]["bias"] = first_bias.repeat(2)
    assert "no bias" in error_of(write(path, layers)).expected


@pytest.mark.parametrize("write", [write_named, write_whole_model])
@pytest.mark.parametrize("upsampling", FORMS)
def test_any_weight_missing_is_told(path: Path, upsampling: str, write: Write) -> None:
    write(path, article(upsampling))
    whole = path.read_bytes()
    for name, weights in article(upsampling):
        for weight in weights:
            path.write_bytes(whole)
            with h5py.File(path, "a") as file:
                del file.get("model_weights", file)[name][f"{name}/{weight}:0"]
            error = error_of(path)
            assert f"{name}/{weight}:0" in error.expected
            assert error.found == "nothing"


@pytest.mark.parametrize("upsampling", FORMS)
def test_any_weight_missing_of_keras_3_is_told(path: Path, upsampling: str) -> None:
    write_numbered(path, article(upsampling))
    whole = path.read_bytes()
    with h5py.File(path, "r") as file:
        names = [f"layers/{name}/vars" for name in file["layers"] if len(file["layers"][name])]
    for name in names:
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            stored = list(file[name])
            if not stored:
                continue
            del file[name][stored[-1]]
        assert name.split("/")[1] in error_of(path).expected
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            del file[name]
        assert error_of(path)


def test_two_layers_out_of_the_middle_are_not_taken_for_a_block_less(path: Path) -> None:
    write_numbered(path, article("transpose"))
    with h5py.File(path, "a") as file:
        for number in (3, 4):
            del file[f"layers/conv2d_{number}"], file[f"layers/batch_normalization_{number}"]
    assert "without a gap" in error_of(path).expected


def test_a_layer_that_the_list_has_and_the_file_has_not_is_told(path: Path) -> None:
    write_named(path, article("transpose"))
    with h5py.File(path, "a") as file:
        del file["conv2d_3"]
    assert "conv2d_3" in error_of(path).expected


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("values", "expected", "found"),
    [
        (np.zeros((3, 3, 3, 5), np.float32), "/kernel [3, 3, 3, 6]", "[3, 3, 3, 5]"),
        (np.full((3, 3, 3, 6), np.nan, np.float32), "finite numbers in", "others"),
        (np.zeros((3, 3, 3, 6), np.int8), "finite numbers in", "others"),
    ],
    ids=["shape", "nan", "integers"],
)
def test_a_weight_that_cannot_be_is_told(
    path: Path, write: Write, values: NDArray[Any], expected: str, found: str
) -> None:
    layers = article("nearest")
    layers[2][1]["kernel"] = values
    error = error_of(write(path, layers))
    assert expected in error.expected
    assert error.found == found


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
@pytest.mark.parametrize("write", WRITERS)
def test_a_truncated_file_is_told(path: Path, write: Write, kept: float) -> None:
    content = write(path, article("transpose")).read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "damaged" in error_of(path).found


def test_only_the_signature_left_is_told(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n and so on")
    assert "damaged" in error_of(path).found


def test_overwritten_bytes_are_an_error_or_other_weights_but_nothing_else(path: Path) -> None:
    content = write_named(path, article("transpose")).read_bytes()
    random = np.random.default_rng(1)
    told = 0
    for start in random.integers(8, len(content) - 64, 40):
        path.write_bytes(content[:start] + random.bytes(64) + content[start + 64 :])
        try:
            load_checkpoint(path)
        except DeblurError as error:
            told += str(path) in str(error)
    assert told > 5


@pytest.mark.parametrize("write", WRITERS)
def test_the_articles_discriminator_is_named(path: Path, write: Write) -> None:
    random = np.random.default_rng(1)
    layers: list[Layer] = [
        ("conv2d_1", {"kernel": random.random((4, 4, 3, 8)), "bias": np.zeros(8)}),
        ("dense_1", {"kernel": random.random((8, 4)), "bias": np.zeros(4)}),
    ]
    assert "discriminator" in error_of(write(path, layers)).found


def test_a_layer_of_a_kind_that_the_article_has_none_of_is_named(path: Path) -> None:
    write_numbered(path, article("transpose"))
    with h5py.File(path, "a") as file:
        file["layers/group_normalization/vars/0"] = np.zeros(4, np.float32)
    assert "besides group_normalization" in error_of(path).found


def test_a_whole_gan_is_told_with_what_to_save(path: Path) -> None:
    weights = {f"{name}/{w}:0": v for name, ws in article("transpose") for w, v in ws.items()}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", b"Generator", b"Discriminator"]
        for name in ("input_1", "Generator", "Discriminator"):
            group = file.create_group(name)
            group.attrs["weight_names"] = [w.encode() for w in weights if name == "Generator"]
            for weight, values in weights.items():
                group[weight] = values
    error = error_of(path)
    assert "Generator" in error.found
    assert "generator.save_weights('generator.h5')" in error.remedy
    with h5py.File(path, "w") as file:
        file.create_group("layers/functional/layers/conv2d/vars")
    assert "functional" in error_of(path).found


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: layers[:-1],
        lambda layers: layers[:1] + layers[2:],
        lambda layers: layers[:4] + layers[6:],
        lambda layers: layers[1:],
        lambda layers: layers[:1] + layers[-1:],
        lambda layers: [],
    ],
    ids=["end", "norm", "convolution", "start", "two", "none"],
)
@pytest.mark.parametrize("write", WRITERS)
def test_other_rows_of_layers_are_refused(
    path: Path, write: Write, change: Callable[[list[Layer]], list[Layer]]
) -> None:
    assert error_of(write(path, change(article("transpose"))))


def test_theanos_kernels_are_refused(path: Path) -> None:
    error = error_of(write_named(path, article("nearest"), backend="theano"))
    assert "TensorFlow" in error.remedy


@pytest.mark.parametrize("names", [[], ["data", "label"]])
def test_hdf5_of_something_else_is_told(path: Path, names: list[str]) -> None:
    with h5py.File(path, "w") as file:
        for name in names:
            file[name] = np.zeros(3)
    assert (", ".join(names) or "nothing") in error_of(path).found


def test_a_long_list_of_names_is_put_together_again(path: Path) -> None:
    write_named(path, article("transpose"))
    with h5py.File(path, "a") as file:
        names = attribute(file, "layer_names")
        del file.attrs["layer_names"]
        for number, part in enumerate(np.array_split([name.encode() for name in names], 3)):
            file.attrs[f"layer_names{number}"] = part
        assert attribute(file, "layer_names") == names
    assert load_checkpoint(path).generator.settings.blocks == BLOCKS


def test_a_keras_archive_is_told_how_to_unpack(tmp_path: Path) -> None:
    path = tmp_path / "generator.keras"
    weights = write_numbered(tmp_path / "model.weights.h5", article("transpose"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(weights, weights.name)
    assert error_of(path).remedy.endswith(f"unzip {path} model.weights.h5")
    path.write_bytes(path.read_bytes()[:500])
    assert error_of(path)


def test_h5py_missing_is_told_with_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named(path, article("transpose"))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "h5py" else found(name)
    )
    with pytest.raises(DeblurError, match=r"no h5py; pip install \"\.\[export\]\""):
        load_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("upsampling", FORMS)
@pytest.mark.parametrize(("channels", "blocks"), [(64, 9), (8, 3)])
@torch.no_grad()
def test_it_is_the_articles_network_as_keras_runs_it(
    tmp_path: Path, upsampling: str, channels: int, blocks: int
) -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("no keras")
    program = Path(__file__).with_name("article_in_keras.py")
    subprocess.run(
        [sys.executable, program, tmp_path, str(channels), str(blocks), upsampling],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        check=True,
    )
    blurred = to_tensor(np.load(tmp_path / "picture.npy"))
    expected = to_tensor(np.load(tmp_path / "made.npy"))
    for name in ("generator.h5", "generator.weights.h5"):
        checkpoint = load_checkpoint(tmp_path / name)
        assert f"{blocks} blocks, {channels} channels" in str(checkpoint.recognised)
        apart = (checkpoint.generator(blurred) - expected).abs()
        assert apart.max() < 1e-4
    assert (expected - blurred).abs().max() > 0.5
    # Keras itself, on PyTorch, pads as TensorFlow is written down to do.
    layers = [(layer.name, dict(layer.weights)) for layer in read_layers(tmp_path / "generator.h5")]
    one = blurred[0].permute(1, 2, 0).numpy().astype(np.float64)
    by_hand = run_article(layers, one)
    assert expected[0].permute(1, 2, 0).numpy() == pytest.approx(by_hand, abs=1e-4)
    assert "unzip" in error_of(tmp_path / "generator.keras").remedy
