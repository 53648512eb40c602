from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deblurgan.runtime import DeblurError, Deblurrer

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "python.md"
Photo = NDArray[np.uint8]


def test_a_stream_keeps_its_order_over_changes_of_size(negative: Path) -> None:
    frames = [np.full((48 + 16 * (i // 7), 64, 3), i, np.uint8) for i in range(20)]
    with Deblurrer(negative) as deblur:
        made = list(deblur.stream(iter(frames)))
    assert len(made) == 20
    assert all((255 - frame == sharp).all() for frame, sharp in zip(frames, made, strict=True))


def test_a_stream_reads_only_a_few_frames_ahead(negative: Path, photo: Photo) -> None:
    read = itertools.count()

    def endless() -> Iterator[Photo]:
        while True:
            next(read)
            yield photo

    with Deblurrer(negative, threads=2) as deblur:
        sharp = deblur.stream(endless())
        for _ in range(10):
            assert (next(sharp) == 255 - photo).all()
        sharp.close()  # type: ignore[attr-defined]
        assert next(read) <= 10 + 2 * 2 + 1


def test_a_wrong_frame_in_a_stream_is_refused_in_its_turn(negative: Path, photo: Photo) -> None:
    with Deblurrer(negative) as deblur:
        with pytest.raises(DeblurError, match="expected uint8 RGB"):
            list(deblur.stream([photo, photo[:, :, :2]]))
        with pytest.raises(DeblurError, match="found a batch"):
            list(deblur.stream([photo[None]]))
        assert (deblur(photo) == 255 - photo).all(), "and it goes on"


@pytest.mark.parametrize(
    ("shape", "dtype", "remedy"),
    [
        ((48, 64, 3), np.float32, "scale it to 0 to 255, then .astype(np.uint8)"),
        ((48, 64), np.uint8, "convert its channels to RGB, with cv2.cvtColor for example"),
        ((2, 48, 64, 4), np.uint8, "convert its channels to RGB, with cv2.cvtColor for example"),
        ((3, 48, 64), np.uint8, "put the channels last with np.moveaxis(frame, -3, -1)"),
        ((2, 3, 48, 64), np.uint8, "put the channels last with np.moveaxis(frame, -3, -1)"),
        ((0, 64, 3), np.uint8, "give whole frames"),
        ((), np.uint8, "give whole frames"),
    ],
)
def test_the_remedy_is_for_what_is_wrong(
    shape: tuple[int, ...], dtype: type, remedy: str, negative: Path
) -> None:
    with Deblurrer(negative) as deblur, pytest.raises(DeblurError) as caught:
        deblur(np.zeros(shape, dtype))
    assert caught.value.remedy == remedy


def test_what_is_submitted_comes_in_order_and_closing_waits(negative: Path, photo: Photo) -> None:
    with Deblurrer(negative) as deblur:
        futures = [deblur.submit(np.roll(photo, i, 1)) for i in range(5)]
        bad = deblur.submit(photo[:, :, 0])
    assert all(future.done() for future in [*futures, bad])
    for index, future in enumerate(futures):
        assert (future.result() == 255 - np.roll(photo, index, 1)).all()
    assert isinstance(bad.exception(), DeblurError)


def test_the_examples_of_the_document_run(
    tmp_path: Path, photo: Photo, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", photo)
    make_clip(tmp_path / "shaky.mp4", sound=True)
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), names)
    assert np.shape(names["sharp_batch"]) == (2, 96, 160, 3)
    assert np.array_equal(np.asarray(names["one"]).shape, photo.shape)
    assert (tmp_path / "steady.mp4").exists()
