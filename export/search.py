"""Which layers become int8: calibrated by the best method, and put back to higher
precision where they harm a measured picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnx

from deblurgan.export.bias_correction import BiasCorrection, measure_correction
from deblurgan.export.calibration import (
    METHODS,
    Calibration,
    Method,
    Progress,
    collect_ranges,
    cut_centre,
    to_frame,
)
from deblurgan.export.quantisation import Layer, Ranges, assign_ranges, find_layers, quantise
from deblurgan.export.trial import Quality, Trial
from deblurgan.runtime.console import check_interrupted
from deblurgan.runtime.contract import Frames, ModelCard
from deblurgan.runtime.errors import DeblurError
from deblurgan.train.evaluation import evaluation_pairs, spread
from deblurgan.train.layouts import find_source

MOST_PAIRS = 24
# Methods and single layers are compared on the centres of a few pictures.
SAMPLES, SAMPLE_SIDE = 4, 384


@dataclass(frozen=True)
class QuantisationRequest:
    """What int8 is calibrated on and how good it must stay.

    ``calibration`` is a folder of pictures or a clip, of which at most ``limit``
    frames are taken. ``pairs`` is a folder of blurred and sharp pictures in any
    layout that training takes; photographs alone are blurred by ``eval-v1``.
    The picture may lose ``max_drop`` dB of PSNR and ``max_ssim_drop`` against
    fp32 on them; without pairs no layer is put back.
    """

    calibration: Path
    pairs: Path | None = None
    method: Method | Literal["auto"] = "auto"
    max_drop: float = 0.1
    max_ssim_drop: float = 0.002
    limit: int = 64


@dataclass(frozen=True)
class LayerChoice:
    """``cost_db`` is the drop of PSNR when the layer alone is int8, None where not measured."""

    name: str
    kind: str
    int8: bool
    reason: str
    cost_db: float | None


@dataclass(frozen=True)
class Choice:
    """What becomes int8, with which ranges, and how that was found.

    ``methods`` holds each one's PSNR in dB, of the picture with every layer in
    int8 against fp32's. ``drop`` is what the final choice loses to fp32 on the
    whole pairs, with its ``correction``; ``engine`` is what ran all this.
    """

    method: Method
    methods: dict[Method, float]
    layers: tuple[LayerChoice, ...]
    ranges: Ranges
    engine: str
    drop: Quality | None = None
    pairs: int = 0
    pairs_sha256: str = ""
    correction: BiasCorrection | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers that become int8."""
        return tuple(layer.name for layer in self.layers if layer.int8)

    def quantise(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy in int8 of an fp32 or fp16 model of the network that this was chosen for."""
        if self.correction is not None:
            model = self.correction.correct(model)
        return quantise(model, self.ranges, self.names)

    def to_json(self) -> dict[str, Any]:
        """For :attr:`ModelCard.quantisation`; the difference to fp32 is the proof's to add."""
        return {
            "method": self.method,
            "methods": {name: {"psnr": round(psnr, 3)} for name, psnr in self.methods.items()},
            "methods_against": "fp32",
            "layers": [asdict(layer) for layer in self.layers],
            "drop": None
            if self.drop is None
            else {"psnr": round(self.drop.psnr, 4), "ssim": round(self.drop.ssim, 5)},
            "pairs": self.pairs,
            "pairs_sha256": self.pairs_sha256,
            "engine": self.engine,
        }


@dataclass(frozen=True, eq=False)
class Pairs:
    """Blurred and sharp pictures, uint8 ``[H, W, 3]``."""

    blurred: tuple[Frames, ...]
    sharp: tuple[Frames, ...]
    sha256: str


def choose_layers(
    model: onnx.ModelProto,
    card: ModelCard,
    request: QuantisationRequest,
    calibration: Calibration,
    pairs: Pairs | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Calibrate an fp32 model of any frame size, and choose what becomes int8.

    Raises :class:`DeblurError` where no layer can be int8, or none within the limits.
    """
    layers = find_layers(model)
    possible = [layer for layer in layers if layer.obstacle is None]
    tensors = [name for layer in possible for name in (layer.input, layer.residual) if name]
    wanted = METHODS if request.method == "auto" else (request.method,)
    found = collect_ranges(model, tensors, calibration.frames, wanted, progress)
    ranges = {name: assign_ranges(possible, largest) for name, largest in found.items()}
    eligible = tuple(layer.name for layer in possible if ranges[wanted[0]][layer.name].input > 0)
    if not eligible:
        raise DeblurError(
            "--precision",
            expected="a convolution that can be int8",
            found=f"none among {len(layers)}",
            remedy="export with --precision fp32 or fp16",
        )

    pictures = centres(calibration.frames if pairs is None else pairs.blurred)
    # Held against fp32's picture where a sharp one is known, too: of few pictures some
    # ranges gain by chance, and that the picture is still the same is what int8 is for.
    same = Trial(card, pictures, Trial(card, pictures).run(model))
    methods: dict[Method, float] = {}
    for done, name in enumerate(wanted, 1):
        methods[name] = same.measure(quantise(model, ranges[name], eligible)).psnr
        report(progress, done, len(wanted), "comparing calibrations")
    method = max(wanted, key=methods.__getitem__)
    search = Search(model, card, ranges[method], eligible, request, progress)
    costs: dict[str, float] = {}
    put_back: tuple[str, ...] = ()
    drop = trial = None
    if pairs is not None:
        costs = search.measure_costs(Trial(card, pictures, centres(pairs.sharp)))
        trial = Trial(card, pairs.blurred, pairs.sharp)
        put_back, drop = search.put_back(trial, costs)
    choice = Choice(
        method=method,
        methods=methods,
        layers=tuple(
            describe(layer, layer.name in eligible, layer.name in put_back, costs)
            for layer in layers
        ),
        ranges=ranges[method],
        engine=same.engine,
        drop=drop,
        pairs=0 if pairs is None else len(pairs.sharp),
        pairs_sha256="" if pairs is None else pairs.sha256,
    )
    return with_correction(choice, model, calibration.frames, trial, search.allows)


def with_correction(
    choice: Choice,
    model: onnx.ModelProto,
    frames: Sequence[Frames],
    trial: Trial | None,
    allows: Callable[[Quality], bool],
) -> Choice:
    """The same with its mean corrected, and without where that breaks the limits."""
    correction = measure_correction(model, choice.quantise(model), frames)
    corrected = replace(choice, correction=correction)
    if correction is None or trial is None:
        return corrected
    drop = trial.measure(corrected.quantise(model)).below(trial.measure(model))
    return replace(corrected, drop=drop) if allows(drop) else choice


class Search:
    """Looks for the layers that must not be int8."""

    def __init__(
        self,
        model: onnx.ModelProto,
        card: ModelCard,
        ranges: Ranges,
        eligible: Sequence[str],
        request: QuantisationRequest,
        progress: Progress | None,
    ) -> None:
        self.model, self.card, self.ranges = model, card, ranges
        self.eligible, self.request, self.progress = tuple(eligible), request, progress

    def measure_costs(self, sample: Trial) -> dict[str, float]:
        """The drop in dB that each layer causes when it alone is int8.

        Alone, and not when it alone is put back: that is its own error, which
        the others' would hide, and small errors of many layers add up.
        """
        best = sample.measure(self.model)
        costs: dict[str, float] = {}
        for done, name in enumerate(self.eligible, 1):
            check_interrupted()
            costs[name] = sample.measure(self.with_int8([name])).below(best).psnr
            report(self.progress, done, len(self.eligible), "measuring layers")
        return costs

    def put_back(self, trial: Trial, costs: Mapping[str, float]) -> tuple[tuple[str, ...], Quality]:
        """The most harmful layers, as few as keep the limits, and the drop that is left.

        Their number is found by halving: each further layer put back brings the
        picture nearer to fp32's.
        """
        best = trial.measure(self.model)
        worst_first = sorted(costs, key=costs.__getitem__, reverse=True)
        drops: dict[int, Quality] = {}
        steps = 1 + len(worst_first).bit_length()

        def holds(count: int) -> bool:
            kept = [name for name in self.eligible if name not in worst_first[:count]]
            drops[count] = drop = trial.measure(self.with_int8(kept)).below(best)
            report(self.progress, min(len(drops), steps), steps, "putting layers back")
            return self.allows(drop)

        # Too few and enough; the last number leaves nothing in int8.
        least, most = 0, 0 if holds(0) else len(worst_first)
        while most - least > 1:
            middle = (least + most) // 2
            if holds(middle):
                most = middle
            else:
                least = middle
        if most == len(worst_first):
            raise DeblurError(
                "--max-drop",
                expected=f"int8 within {self.request.max_drop} dB and "
                f"{self.request.max_ssim_drop} of SSIM",
                found="more than that with any layer in int8",
                remedy="allow more, or export with --precision fp32 or fp16",
            )
        return tuple(worst_first[:most]), drops[most]

    def allows(self, drop: Quality) -> bool:
        return drop.psnr <= self.request.max_drop and drop.ssim <= self.request.max_ssim_drop

    def with_int8(self, names: Collection[str]) -> onnx.ModelProto:
        return quantise(self.model, self.ranges, names)


def centres(pictures: Sequence[Frames]) -> list[Frames]:
    """Of a few pictures, to compare many candidates on."""
    return [cut_centre(picture, SAMPLE_SIDE) for picture in spread(pictures, SAMPLES)]


def read_pairs(folder: Path, smallest: int) -> Pairs:
    """At most ``MOST_PAIRS`` of a folder's pairs, evenly spread, at their full size."""
    digest = hashlib.sha256()
    blurred: list[Frames] = []
    sharp: list[Frames] = []
    for pair in evaluation_pairs(find_source(str(folder), "test"), limit=MOST_PAIRS):
        check_interrupted()
        if min(pair.sharp.shape[1:]) < smallest:
            raise DeblurError(
                folder / pair.name,
                expected=f"pairs of at least {smallest}x{smallest} pixels",
                found=f"{pair.sharp.shape[2]}x{pair.sharp.shape[1]}",
                remedy="remove it, or name other pairs with --pairs",
            )
        for pictures, picture in ((blurred, pair.blurred), (sharp, pair.sharp)):
            pictures.append(to_frame(picture))
            digest.update(pictures[-1].data)
    return Pairs(tuple(blurred), tuple(sharp), digest.hexdigest())


def describe(
    layer: Layer, eligible: bool, is_put_back: bool, costs: Mapping[str, float]
) -> LayerChoice:
    cost = costs.get(layer.name)
    if layer.obstacle is not None:
        reason = layer.obstacle
    elif not eligible:
        reason = "nothing but zeros reaches it on the calibration frames"
    elif is_put_back:
        reason = "put back: with it int8 drops too far below fp32"
    else:
        reason = "within the limits" if costs else "every eligible layer, not searched"
    return LayerChoice(
        layer.name,
        layer.kind,
        eligible and not is_put_back,
        reason,
        None if cost is None else round(cost, 4),
    )


def check_request(request: QuantisationRequest) -> None:
    if not (request.max_drop >= 0 and request.max_ssim_drop >= 0):
        raise DeblurError(
            "--max-drop",
            expected="0 dB or more, and 0 or more of SSIM",
            found=f"{request.max_drop} dB, {request.max_ssim_drop}",
            remedy="for example --max-drop 0.1",
        )


def report(progress: Progress | None, done: int, total: int, what: str) -> None:
    if progress is not None:
        progress(done, total, what)
