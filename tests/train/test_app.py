"""``deblur-train`` as a user calls it, and ``python train`` from a bare checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deblurgan.runtime import console
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.app import Size, app, parse_time
from deblurgan.train.checkpoint import load_checkpoint
from deblurgan.train.devices import Devices, find_device, make_fabric
from deblurgan.train.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]


def deblur_train(*words: object) -> int:
    return console.run(app, [str(word) for word in words])


def plain(text: str) -> str:
    """Without colours, which typer adds on GitHub even where nobody looks."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


TINY = [
    word
    for change in (
        "generator.channels=8", "generator.deep_blocks=1", "training.batch=2", "data.crop=32",
        "blur.length=[1,8]",
    )
    for word in ("--set", change)
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("2h", 7200), ("0.5h", 1800), ("1.5s", 1.5), ("007m", 420)],
)
def test_times_are_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "m", "2d", "-3m", "1h30m", "20 m", ".5h", "1e3s", "20M", "nan", "3m\n"]
)
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(DeblurError, match="a number above 0 and s, m or h") as caught:
        parse_time(text)
    assert caught.value.found == text


@pytest.mark.parametrize("text", ["0s", "0.0h"])
def test_no_time_at_all_is_told(text: str) -> None:
    with pytest.raises(DeblurError):
        parse_time(text)


def test_the_device_is_found_by_name() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("cpu:0").type == "cpu"
    assert make_fabric(Devices("cpu:0"), load_recipe("edge").training).world_size == 1
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "mine.toml"], "mine.toml: expected a recipe: edge, paper, keras, or a TOML"),
        (["--set", "training.bach=2"], "recipe edge, training.bach: expected a key"),
        (["--device", "gpu"], "--device: expected a device that is there, found gpu"),
        (["--device", "cuda:99"], "--device: expected a device that is there, found cuda:99"),
        (
            ["--time-limit", "soon"],
            "--time-limit: expected a number above 0 and s, m or h, found soon;",
        ),
        (
            ["--start-from", "none.safetensors", "--time-limit", "1s", *TINY],
            "none.safetensors: expected a checkpoint",
        ),
        (TINY, "the recipe's schedule: expected an end"),
        (
            ["--recipe", "paper", "--vgg", "none.pth"],
            "none.pth: expected VGG's weights as .pth or .safetensors, found no such file",
        ),
        (["--vgg", "none.pth"], "--vgg: expected a content loss, found loss.content=0"),
    ],
    ids=["recipe", "set", "device", "no such card", "time", "checkpoint", "no end", "vgg", "idle"],
)
def test_a_bad_option_is_told_in_one_line(
    words: list[str],
    said: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--set", "data.crop=64"] if "paper" in words else []
    assert deblur_train("run", photos, "-o", "run", *words, *small) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "said"), [("missing", "expected a folder"), ("empty", "expected ")]
)
def test_a_folder_without_photos_is_told_in_one_line(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    words = ["-o", tmp_path / "run", "--time-limit", "1s"]
    assert deblur_train("run", tmp_path / name, *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_crop_larger_than_the_photos_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-o", tmp_path / "run", "--time-limit", "1s", "--device", "cpu"]
    assert deblur_train("run", photos, *words, *TINY, "--set", "data.crop=128") == 2
    err = capsys.readouterr().err
    assert "00.png: expected at least 128x128 pixels, found 96x96" in err


def test_an_output_folder_that_cannot_be_made_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a file")
    words = ["-o", tmp_path / "run", "--time-limit", "0.1s", "--device", "cpu"]
    assert deblur_train("run", photos, *words, *TINY) == 2
    assert str(tmp_path / "run") in capsys.readouterr().err


def test_the_command_trains_and_says_what_to_do_next(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a" / "run"
    words = ["-o", folder, "--time-limit", "0.5s", "--device", "cpu", *TINY]
    assert deblur_train("run", photos, *words, "--set", "training.seed=3") == 0
    out, err = capsys.readouterr()
    assert "held out" in err
    assert f"deblur-export onnx {folder / 'best.safetensors'}" in out
    recipe = load_checkpoint(folder / "best.safetensors").training["recipe"]
    assert (recipe["training"]["batch"], recipe["training"]["seed"]) == (2, 3)
    assert recipe["generator"]["name"] == "edge"


def test_a_printed_recipe_is_one_to_train_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deblur_train("recipe", "paper", "--set", "training.batch=7") == 0
    path = tmp_path / "mine.toml"
    path.write_text(capsys.readouterr().out)
    assert load_recipe(str(path)) == load_recipe("paper", ["training.batch=7"])


def test_a_preview_does_not_replace_a_photograph(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = min(photos.iterdir())
    before = photo.read_bytes()
    assert deblur_train("blur", photos, tmp_path / "set", "--count", 1, "--preview", photo) == 2
    assert "another name than those of the pictures" in capsys.readouterr().err
    assert photo.read_bytes() == before
    assert not (tmp_path / "set").exists()


def test_a_preview_replaces_a_picture_only_when_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, folder = tmp_path / "set.png", tmp_path / "set"
    picture.write_bytes(b"a photograph")
    words = ["blur", photos, folder, "--count", 1]
    assert deblur_train(*words, "--preview", picture) == 2
    assert "set.png: expected the name of a new file" in capsys.readouterr().err
    assert picture.read_bytes() == b"a photograph"
    assert deblur_train(*words, "-y") == 2
    assert "--overwrite: expected a picture to replace" in capsys.readouterr().err
    assert not folder.exists()
    assert deblur_train(*words, "--preview", picture, "-y") == 0
    assert capsys.readouterr().out == f"{folder}: 1 pair, drawn in {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("picture", ["set", "set.gif", "none/set.png"])
def test_a_preview_that_cannot_be_drawn_is_told_before_the_set_is_made(
    picture: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--count", "2", "--preview", tmp_path / picture]
    assert deblur_train("blur", photos, tmp_path / "out", *words) == 2
    assert str(tmp_path / picture) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_shows_the_command_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert deblur_train("--help") == 0
    said = plain(capsys.readouterr().out)
    assert all(name in said for name in ("run", "recipe", "evaluate", "blur", "organize"))
    assert deblur_train("run", "--help") == 0
    assert "deblur-train run photos/ -o runs/edge" in plain(capsys.readouterr().out)


def test_every_choice_of_a_size_is_one() -> None:
    """``both`` is all that can be evaluated."""
    from deblurgan.train.evaluation import SCALES

    assert {size.value for size in Size} - {"both"} == set(SCALES)


# Stands in for an interpreter without the installed package: neither the editable
# install's finder nor site-packages may answer for it.
BARE = """
import runpy, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

class WithoutUs:
    def find_spec(name, path=None, target=None):
        return None if name == "deblurgan" else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, WithoutUs]
checkout, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_path(checkout, run_name="__main__")
finally:
    ours = [m for n, m in sys.modules.items() if n.startswith("deblurgan.")]
    print(len(ours), *(m.__file__ for m in ours))
"""


def test_a_bare_checkout_trains_without_being_installed(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for room in ("train", "runtime"):
        shutil.copytree(ROOT / room, checkout / room, ignore=shutil.ignore_patterns("models"))
    command = [sys.executable, "-c", BARE, checkout / "train", "run", "missing", "-o", "run"]
    command += ["--time-limit", "1s"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    # Everything was imported, down to the loop, which found no photos.
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("missing: expected ")
    count, *files = done.stdout.split()
    assert int(count) == len(files) >= 8
    assert all(Path(file).is_relative_to(checkout) for file in files)


def test_python_train_runs_as_documented() -> None:
    done = subprocess.run(
        [sys.executable, "train", "run", "--help"], cwd=ROOT, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "DATA" in done.stdout
