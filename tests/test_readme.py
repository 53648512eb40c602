"""README's commands, run as they stand there in a folder like a user's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

README = Path(__file__).resolve().parents[1] / "README.md"

# What would take minutes or hours is made small; nothing else is changed.
SMALLER = {"--time-limit 2h": "--time-limit 2s", "--size 1280x720": "--size 64x48"}


def commands() -> list[str]:
    """Every ``deblur-…`` command of README, in order, without its comment."""
    text = README.read_text()
    found = re.findall(r"^    (deblur-\S.*)$|`(deblur-[\w-]+ [^`]+)`", text, re.MULTILINE)
    lines = [" ".join((block or inline).split("#")[0].split()) for block, inline in found]
    return list(dict.fromkeys(lines))


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_clip: Callable[..., Path],
    photo: NDArray[np.uint8],
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
    settings = networks.ResNetSettings(channels=4, blocks=2)
    torch.save(networks.ResNetGenerator(settings).state_dict(), folder / "latest_net_G.pth")
    return folder


def test_readme_has_commands() -> None:
    assert len(commands()) >= 10


def test_the_commands_of_readme_work_one_after_the_other(folder: Path) -> None:
    for command in sorted(commands(), key=needs_a_model):
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        words = shlex.split(command.replace("MODEL.onnx", "mine.onnx"))
        if words[0] == "deblur-video" and (folder / words[2]).is_file():
            words.append("-y")  # README shows several ways to make one file
        done = run(words, folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def needs_a_model(command: str) -> bool:
    """Commands that use the user's own model stand above those that make it."""
    return "--model mine.onnx" in command or "MODEL.onnx" in command


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / words[0]
    return subprocess.run(
        [program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
