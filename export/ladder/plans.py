"""TensorRT plans of the rungs, where there is a GPU to build and run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deblurgan.export.ladder.folders import PairFolder
from deblurgan.export.ladder.report import Plan
from deblurgan.export.ladder.runs import Runner
from deblurgan.runtime.backends import Backend
from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.builder import BuildOptions, build_plan
from deblurgan.runtime.tensorrt.device import find_device
from deblurgan.runtime.tensorrt.plan_model import BACKENDS
from deblurgan.runtime.tensorrt.profiles import Profile, choose_profile
from deblurgan.runtime.tensorrt.runner import PlanRunner, verify
from deblurgan.runtime.tensorrt.sidecar import write_plan

Size = tuple[int, int]


def build_plans(
    models: Sequence[Model],
    folders: Sequence[PairFolder],
    size: Size,
    tell: Callable[[str], None],
) -> tuple[list[Runner], list[str]]:
    """A plan beside every model, verified by its golden pair; and why one is missing.

    A plan takes all sizes that the ladder has for it, tuned for ``size``.
    """
    if find_device() is None:
        return [], ["TensorRT: no NVIDIA GPU here, so no plans were built"]
    runners, missing = [], []
    sizes = {size}.union(*(folder.sizes() for folder in folders))
    for model in models:
        tell(f"building a plan of {model.card.precision}")
        try:
            runners.append(build_runner(model, span(model, sizes, size)))
        except DeblurError as error:
            missing.append(f"TensorRT, {model.card.precision}: {error}")
    return runners, missing


def span(model: Model, sizes: set[Size], size: Size) -> Profile:
    """From the smallest width and height to the largest."""
    low, high = (
        (pick(width for width, _ in sizes), pick(height for _, height in sizes))
        for pick in (min, max)
    )
    return choose_profile(model, min=low, opt=size, max=high)


def build_runner(model: Model, profile: Profile) -> Runner:
    path = model.path.with_suffix(".plan")
    options = BuildOptions(profile)
    card = write_plan(path, build_plan(model, options), model, options)
    verify(path)

    def load(_width: int, _height: int) -> Backend:
        return PlanRunner(path)

    plan = Plan(path.name, card.plan_size, card.title, card.gpu or "", card.seconds)
    return Runner(model.card.precision, BACKENDS[card.flavour], load, plan=plan)
