"""``deblur-export info``: what a model file or a plan says of itself, and whether it runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deblurgan.export.commands.rows import echo_rows, megabytes, plain, story_rows
from deblurgan.runtime.backends import open_backend
from deblurgan.runtime.contract import Model, ModelCard, open_model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.onnx_file import read_onnx
from deblurgan.runtime.tensorrt.sidecar import PlanCard, open_plan, why_not_here

Rows = list[tuple[str, str]]


def info_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A model file (.onnx) or a plan (.plan).")
    ],
) -> None:
    """Print what a model file or a plan says of itself, and whether it will run here.

    Needs neither PyTorch nor onnx.

    Example: deblur-export info edge-fp16.onnx
    """
    echo_rows(plan_rows(file) if file.suffix == ".plan" else model_rows(open_model(file)))


def model_rows(model: Model) -> Rows:
    card, file = model.card, read_onnx(model.path)
    smallest = f"{card.minimum_size}x{card.minimum_size}"
    frames = (
        f"{model.size[0]}x{model.size[1]} and no other" if model.size
        else f"any size from {smallest}, padded inside to a multiple of {card.stride}"
    )  # fmt: skip
    return [
        ("file", f"{model.path}, {megabytes(model.path.stat().st_size)}"),
        *card_rows(card),
        ("frames", frames),
        ("golden pair", model_golden(card)),
        ("onnx", f"opset {file.opset}, by {file.producer or 'nobody named'}"),
        ("runs here", engine_here(model)),
    ]


def plan_rows(path: Path) -> Rows:
    plan = open_plan(path)
    reasons = why_not_here(plan)
    low, best, high = plan.profile.min, plan.profile.opt, plan.profile.max
    frames = f"{high} and no other" if low == high else f"{low} to {high}, tuned for {best}"
    choices = [
        f"workspace {megabytes(plan.workspace)}" if plan.workspace else "",
        "" if plan.optimization_level is None else f"optimization level {plan.optimization_level}",
        "hardware compatible" if plan.hardware_compatible else "",
        "version compatible" if plan.version_compatible else "",
    ]
    return [
        ("file", f"{path}, {megabytes(plan.plan_size)}"),
        ("built", f"{plan.written} by {plan.title} in {plan.seconds:.0f} s"),
        ("built on", ", ".join(filter(None, [plan.platform, *device_facts(plan)]))),
        ("built for", ", ".join(plan.targets) or "the GPU it was built on"),
        *([("options", ", ".join(filter(None, choices)))] if any(choices) else []),
        ("frames", f"{frames} (batch x width x height)"),
        ("device memory", megabytes(plan.device_memory) if plan.device_memory else "not said"),
        ("of", f"{plan.onnx}, sha256 {plan.onnx_sha256}"),
        *card_rows(plan.card),
        ("golden pair", golden_state(plan)),
        ("runs here", "no: " + "; ".join(reasons) if reasons else "yes"),
    ]


def device_facts(plan: PlanCard) -> list[str]:
    if plan.gpu is None:
        return ["no GPU"]
    facts = [plan.gpu, f"compute capability {plan.compute_capability}"]
    versions = {"driver": plan.driver, "CUDA": plan.cuda}
    return facts + [f"{name} {version}" for name, version in versions.items() if version]


def model_golden(card: ModelCard) -> str:
    if not card.golden:
        return "none"
    return "{width}x{height}, from {engine}".format(**card.golden)


def golden_state(plan: PlanCard) -> str:
    if plan.golden is None:
        return f"none: {plan.golden_missing}"
    if plan.verified:
        return f"made by {plan.verified_on} on {plan.verified_at}"
    return f"from {plan.golden.engine}; no device has made it yet"


def quantisation_rows(quantisation: dict[str, Any]) -> Rows:
    if not quantisation:
        return []
    layers = quantisation.get("layers", [])
    int8 = [layer for layer in layers if layer["int8"]]
    said = f"{len(int8)} of {len(layers)} layers, ranges by {quantisation.get('method')}"
    kept = [
        (f"  {layer['name']}", f"not int8: {layer['reason']}{cost(layer)}")
        for layer in layers
        if not layer["int8"]
    ]
    figures = {name: quantisation.get(name) for name in ("difference", "drop")}
    return [
        ("int8", said),
        *kept,
        *[(f"  {name}", plain(value)) for name, value in figures.items() if value],
    ]


def cost(layer: dict[str, Any]) -> str:
    return "" if layer.get("cost_db") is None else f" (costs {layer['cost_db']:.3f} dB)"


def card_rows(card: ModelCard) -> Rows:
    settings = plain(card.generator.get("settings", {}))
    return [
        ("contract", f"version {card.contract}"),
        ("generator", f"{card.generator.get('name', 'not said')} ({settings})"),
        ("precision", card.precision),
        ("weights sha256", card.weights_sha256),
        ("licence", card.licence or "not said"),
        *story_rows("trained", card.training),
        *story_rows("quality", card.quality),
        *quantisation_rows(card.quantisation),
        *([("calibration sha256", card.calibration_sha256)] if card.calibration_sha256 else []),
    ]


def engine_here(model: Model) -> str:
    """The engine that takes the file, loaded for its smallest frame; or what each one said."""
    width, height = model.size or (max(64, model.card.minimum_size),) * 2
    try:
        backend = open_backend(model, width, height, may_build=False)
    except DeblurError as error:
        return f"no: {error.found}; {error.remedy}"
    said = f"yes, on {backend.description}"
    backend.close()
    return said
