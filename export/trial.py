"""Trials: what pictures a graph makes that has no file yet, and how good they are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import torch

from deblurgan.export.graph import write_model
from deblurgan.export.proof import engine_failures_told, find_engine
from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames, ModelCard, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.metrics import psnr, ssim

# OpenVINO first: it alone runs these convolutions in int8 on a processor.
ENGINES = ("openvino", "onnxruntime")
OTHER_TEMPORARY = "free some space there, or name another folder: export TMPDIR=FOLDER"
EQUAL = 100.0  # dB, where nothing differs: JSON knows no infinity


@dataclass(frozen=True)
class Quality:
    """PSNR in dB and SSIM, each the mean over pictures."""

    psnr: float
    ssim: float

    def below(self, better: Quality) -> Quality:
        """How much both figures are below another's."""
        return Quality(better.psnr - self.psnr, better.ssim - self.ssim)


class Trial:
    """Runs candidates on ``pictures`` (uint8 ``[H, W, 3]`` of any sizes) and holds what
    they make against ``wanted``, of the same sizes; without, nothing is measured.
    ``engine`` is the backend that runs them, by default the first of ``ENGINES`` here.
    """

    def __init__(
        self,
        card: ModelCard,
        pictures: Sequence[Frames],
        wanted: Sequence[Frames] = (),
        engine: str | None = None,
    ) -> None:
        self.card = replace(card, precision="int8", quantisation={}, golden={})
        self.pictures, self.wanted = tuple(pictures), tuple(wanted)
        self.engine = engine or find_engine(ENGINES)

    def run(self, model: onnx.ModelProto) -> tuple[Frames, ...]:
        """What a candidate makes of each picture, in their order."""
        candidate = onnx.ModelProto()
        candidate.CopyFrom(model)
        onnx.helper.set_model_props(candidate, self.card.to_metadata())
        made: dict[int, Frames] = {}
        by_size = sorted(range(len(self.pictures)), key=self.size_of)
        with temporary_folder() as folder:
            path = folder / "candidate.onnx"
            write_model(candidate, path, OTHER_TEMPORARY)
            opened = open_model(path)
            # One size at a time: an engine holds all its activations.
            for (height, width), places in groupby(by_size, key=self.size_of):
                with engine_failures_told(self.engine, width, height):
                    backend = open_backend(opened, width, height, name=self.engine)
                    try:
                        for place in places:
                            check_interrupted()
                            made[place] = backend.run(self.pictures[place][None])[0]
                    finally:
                        backend.close()
        return tuple(made[place] for place in range(len(self.pictures)))

    def size_of(self, place: int) -> tuple[int, int]:
        height, width = self.pictures[place].shape[:2]
        return height, width

    def measure(self, model: onnx.ModelProto) -> Quality:
        """How near a candidate comes to what is wanted."""
        return compare(self.run(model), self.wanted)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="deblurgan-", ignore_cleanup_errors=True)
    except OSError as error:
        raise DeblurError(
            "TMPDIR",
            expected="a folder for temporary files",
            found=error.strerror or str(error),
            remedy=OTHER_TEMPORARY,
        ) from error
    with folder as name:
        yield Path(name)


def compare(made: Sequence[Frames], wanted: Sequence[Frames]) -> Quality:
    pairs = [(to_picture(a), to_picture(b)) for a, b in zip(made, wanted, strict=True)]
    return Quality(
        psnr=float(np.mean([min(EQUAL, psnr(a, b)) for a, b in pairs])),
        ssim=float(np.mean([ssim(a, b) for a, b in pairs])),
    )


def to_picture(frame: Frames) -> torch.Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)
