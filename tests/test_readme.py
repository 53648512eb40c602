"""README's commands, run as they stand there in a folder like a user's."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime.tensorrt.device import find_device

README = Path(__file__).resolve().parents[1] / "README.md"

# What would take minutes or hours is made small; nothing else is changed.
SMALL_PAPER = " ".join(
    f"--set {change}"
    for change in (
        "generator.channels=4", "generator.blocks=1", "discriminator.channels=4", "data.crop=32",
        "schedule.epochs=1",
    )
)  # fmt: skip
SMALL_EDGE = " ".join(
    f"--set {change}"
    for change in (
        "generator.channels=8", "generator.blocks=2", "generator.deep_blocks=1", "data.crop=64",
    )
)  # fmt: skip
SMALLER = {
    "--time-limit 2h": f"--time-limit 2s {SMALL_EDGE}",
    "deblur-bench latency": "deblur-bench latency --no-peers --runs 10",
    "--size 640x360": "--size 64x48",
    "--size 1280x720": "--size 64x48",
    "--recipe mine.toml": f"--recipe mine.toml {SMALL_PAPER}",
    "deblur-bench training": f"deblur-bench training {SMALL_PAPER}",
    "deblur-export ladder": "deblur-export ladder --size 64x48 --seconds 0.1 --pictures 1",
    # Without a GPU, plans are built for one.
    "deblur-export trt": "deblur-export trt --target sm89",
}


def commands() -> list[str]:
    """Every ``deblur-…`` command of README, in order, without its comment."""
    text = README.read_text()
    found = re.findall(r"^    (deblur-\S.*)$|`(deblur-[\w-]+ [^`]+)`", text, re.MULTILINE)
    lines = [" ".join((block or inline).split("#")[0].split()) for block, inline in found]
    return list(dict.fromkeys(lines))


def in_order() -> list[str]:
    """Commands that use the user's own model stand above those that make it."""
    return sorted(commands(), key=lambda line: "--model mine.onnx" in line or "MODEL.onnx" in line)


def words_of(command: str) -> list[str]:
    """The smaller command that stands for it."""
    for long, short in SMALLER.items():
        command = command.replace(long, short)
    return shlex.split(command.replace("MODEL.onnx", "mine.onnx"))


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_clip: Callable[..., Path],
    photo: NDArray[np.uint8],
    vgg: Path,
) -> Path:
    """A folder with everything that README's commands name."""
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("deblurgan.train.networks")
    folder = tmp_path_factory.mktemp("user")
    for name in ("shaky.mp4", "in.mp4"):
        make_clip(folder / name, sound=True)
    cv2.imwrite(str(folder / "photo.jpg"), photo)
    (folder / "frames").mkdir()
    (folder / "photos").mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / "frames" / f"{index}.png"), photo)
        large = cv2.resize(photo, (256, 192), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "photos" / f"{index}.png"), large)
    (folder / "clips").mkdir()
    make_clip(folder / "clips" / "one.mp4")
    for place, name in itertools.product(
        ("GOPRO_Large/train/GOPR0001", "GOPRO_Large/test/GOPR0001", "pairs"), ("blur", "sharp")
    ):
        (folder / place / name).mkdir(parents=True)
        for index in range(2):
            shown = photo if name == "sharp" else cv2.blur(photo, (9, 1))
            cv2.imwrite(str(folder / place / name / f"{index:06}.png"), shown)
    settings = networks.ResNetSettings(channels=4, blocks=2)
    torch.save(networks.ResNetGenerator(settings).state_dict(), folder / "latest_net_G.pth")
    shutil.copy(vgg, folder / "vgg19.pth")
    article = networks.ResNetSettings(channels=4, blocks=1, norm="batch", bias=True)
    write_as_keras(folder / "generator.h5", networks.ResNetGenerator(article))
    return folder


def write_as_keras(path: Path, generator: Any) -> None:
    """A generator's weights under the names that Keras 2 gives them."""
    h5py = pytest.importorskip("h5py")
    numbers: defaultdict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
    kinds = {"Conv2d": "conv2d", "ConvTranspose2d": "conv2d_transpose",
             "BatchNorm2d": "batch_normalization"}  # fmt: skip
    layers = {}
    for module in generator.modules():
        kind = kinds.get(type(module).__name__)
        if kind == "batch_normalization":
            named = {"gamma": module.weight, "beta": module.bias,
                     "moving_mean": module.running_mean,
                     "moving_variance": module.running_var}  # fmt: skip
        elif kind:
            named = {"kernel": module.weight.permute(2, 3, 1, 0), "bias": module.bias}
        else:
            continue
        layers[f"{kind}_{next(numbers[kind])}"] = named
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        file.attrs["backend"] = b"tensorflow"
        for name, weights in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{weight}:0".encode() for weight in weights]
            for weight, values in weights.items():
                group[f"{name}/{weight}:0"] = values.detach().numpy()


def test_readme_has_commands() -> None:
    assert len(commands()) >= 10


@pytest.fixture(scope="module")
def begun() -> list[str]:
    """What has been run so far: a command needs those before it."""
    return []


@pytest.mark.parametrize("command", in_order())
def test_a_command_of_readme_works_after_those_before_it(
    command: str, folder: Path, begun: list[str]
) -> None:
    if not can_run(words_of(command)):
        pytest.skip("what it is about cannot be had here")
    for each in in_order()[len(begun) : in_order().index(command) + 1]:
        begun.append(each)
        words = words_of(each)
        if not can_run(words):
            continue
        if words[0] == "deblur-video" and (folder / words[2]).is_file():
            words.append("-y")  # README shows several ways to make one file
        done = run(words, folder)
        assert done.returncode == 0, f"{each}\n{done.stderr}"


def can_run(words: list[str]) -> bool:
    """Whether what a command is about can be had on this machine."""
    if words[:2] == ["deblur-bench", "gpu"]:
        return find_device() is not None
    if "--workers" in words:
        return importlib.util.find_spec("ray") is not None
    return "mine.plan" not in words or importlib.util.find_spec("tensorrt_rtx") is not None


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program, target = Path(sys.executable).parent / words[0], None
    if words[-2] == ">":
        words, target = words[:-2], folder / words[-1]
    done = subprocess.run(
        [program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    if target is not None:
        target.write_text(done.stdout)
    return done
