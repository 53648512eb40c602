from __future__ import annotations

import importlib
import itertools
import runpy
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

Run = Callable[..., None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))  # as Python does for a script

    def run(script: str, *arguments: object) -> None:
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(1)
    for number, (height, width) in enumerate([(260, 300), (300, 270)]):
        coarse = random.integers(30, 226, (8, 8, 3), np.uint8)
        grain = random.normal(0, 5, (height, width, 3))
        cv2.imwrite(
            str(folder / f"{number}.png"),
            (cv2.resize(coarse, (width, height)) + grain).astype(np.uint8),
        )
    return folder


def fine_detail(picture: np.ndarray) -> float:
    return float(cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F).std())


def test_hard_photographs_are_patterns_and_soft_ones(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    run("hard_photos.py", photos, tmp_path / "hard", "--count", 10)
    made = sorted(path.stem for path in (tmp_path / "hard").iterdir())
    patterns, soft = ["000", "001", "002", "005", "006", "007"], ["003", "004", "008", "009"]
    assert made == [f"pattern-{n}" for n in patterns] + [f"soft-{n}" for n in soft]
    for name in made:
        picture = cv2.imread(str(tmp_path / "hard" / f"{name}.png"))
        photo = cv2.imread(str(photos / f"{int(name[-3:]) % 2}.png"))
        assert picture.shape == photo.shape
        kept = (np.abs(picture.astype(int) - photo).max(2) <= 1).mean()
        if name.startswith("pattern"):
            assert 0.05 < kept < 0.6
        else:
            assert 0.1 < kept < 0.9
            assert fine_detail(picture) < fine_detail(photo)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("hard_photos.py", "pattern-000"),
        ("leaf_photos.py", "leaves-0000"),
        ("moving_leaves.py", "blur/000000"),
    ],
)
def test_made_pictures_are_the_same_for_the_same_seed(
    script: str, name: str, run: Run, photos: Path, tmp_path: Path
) -> None:
    for folder, seed in (("one", 1), ("again", 1), ("other", 2)):
        run(script, photos, tmp_path / folder, "--count", 1, "--seed", seed)
    one, again, other = (
        (tmp_path / folder / f"{name}.png").read_bytes() for folder in ("one", "again", "other")
    )
    assert one == again
    assert one != other


def test_pictures_of_an_earlier_call_or_of_others_stay(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "pairs/blur").mkdir(parents=True)
    (tmp_path / "pairs/blur/000000.png").write_bytes(b"mine")
    with pytest.raises(SystemExit, match="pairs: expected an empty folder"):
        run("moving_leaves.py", photos, tmp_path / "pairs", "--count", 1)
    assert (tmp_path / "pairs/blur/000000.png").read_bytes() == b"mine"


def test_how_many_are_made_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    made_photos = importlib.import_module("made_photos")
    clock = itertools.count(step=4)
    monkeypatch.setattr(made_photos.time, "monotonic", lambda: float(next(clock)))
    assert list(made_photos.numbers(5)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "3 of 5 pictures\n")


def test_leaves_lie_on_most_pictures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, level in enumerate([60, 140]):  # a piece of these is of one colour
        flat = np.full((260, 300, 3), level, np.uint8)
        cv2.imwrite(str(tmp_path / f"photos/{number}.png"), flat)
    run("leaf_photos.py", tmp_path / "photos", tmp_path / "leaves", "--count", 8)
    pictures = [cv2.imread(str(path)) for path in sorted((tmp_path / "leaves").iterdir())]
    assert [picture.shape for picture in pictures] == [(512, 512, 3)] * 8
    alone = [np.ptp(picture, axis=(0, 1)).max() <= 1 for picture in pictures]
    assert 1 <= sum(alone) <= 5
    for picture in (p for p, is_alone in zip(pictures, alone, strict=True) if not is_alone):
        edges = np.abs(np.diff(picture.astype(int), axis=1)).max(2) > 30
        assert 0.005 < edges.mean() < 0.2


def test_moving_leaves_are_blurred_around_where_they_are_sharp(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    run("moving_leaves.py", photos, tmp_path / "pairs", "--count", 6)
    for blurred_path in sorted((tmp_path / "pairs/blur").iterdir()):
        blurred, sharp = (
            cv2.imread(str(path))
            for path in (blurred_path, tmp_path / "pairs/sharp" / blurred_path.name)
        )
        assert blurred.shape == sharp.shape == (576, 576, 3)
        assert fine_detail(blurred) < 0.9 * fine_detail(sharp)
        light = [((picture / 255) ** 2.2).mean() for picture in (blurred, sharp)]
        assert light[0] == pytest.approx(light[1], rel=0.03)
        found = cv2.matchTemplate(blurred, sharp[40:-40, 40:-40], cv2.TM_SQDIFF)
        _, _, (left, top), _ = cv2.minMaxLoc(found)
        assert max(abs(left - 40), abs(top - 40)) <= 2


def test_leaves_move_each_layer_its_own_way(run: Run, photos: Path, tmp_path: Path) -> None:
    run("moving_leaves.py", photos, tmp_path / "pairs", "--count", 6)
    spreads = []
    for path in sorted((tmp_path / "pairs/blur").iterdir()):
        grey = [
            cv2.cvtColor(cv2.imread(str(one)), cv2.COLOR_BGR2GRAY).astype(np.float32)
            for one in (path, tmp_path / "pairs/sharp" / path.name)
        ]
        blurred, sharp = (cv2.blur(np.abs(cv2.Laplacian(g, cv2.CV_32F)), (96, 96)) for g in grey)
        kept = blurred / (sharp + 1)
        spreads.append(np.percentile(kept, 95) / np.percentile(kept, 5))
    assert np.median(spreads) > 1.5


def test_a_black_photograph_gets_a_pattern(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/night.png"), np.zeros((300, 300, 3), np.uint8))
    run("hard_photos.py", tmp_path / "photos", tmp_path / "hard", "--count", 1)
    assert cv2.imread(str(tmp_path / "hard/pattern-000.png")).max() > 20


@pytest.mark.parametrize("script", ["hard_photos.py", "leaf_photos.py", "moving_leaves.py"])
def test_what_are_no_photographs_is_refused(
    script: str, run: Run, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="empty: expected pictures"):
        run(script, tmp_path / "empty", tmp_path / "made")
    with pytest.raises(SystemExit, match=r"nothing: expected .*folder"):
        run(script, tmp_path / "nothing", tmp_path / "made")
    cv2.imwrite(str(photos / "0.png"), np.zeros((100, 400, 3), np.uint8))
    with pytest.raises(SystemExit, match=r"0\.png: expected .* at least 256 .*found 400x100"):
        run(script, photos, tmp_path / "made")
    (photos / "0.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit, match=r"0\.png: expected .*, found .*decode"):
        run(script, photos, tmp_path / "made")
