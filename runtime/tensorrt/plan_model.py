"""A plan file as a model: what it says of itself, and which frames it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deblurgan.runtime.contract import Model
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.plan_card import PlanCard
from deblurgan.runtime.tensorrt.sidecar import open_plan

BACKENDS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


@dataclass(frozen=True)
class PlanModel(Model):
    """A model that is built already, for one backend and for the sizes of its profile."""

    plan: PlanCard

    @property
    def backend(self) -> str:
        return BACKENDS[self.plan.flavour]

    def check_frame(self, width: int, height: int) -> None:
        """Raise :class:`DeblurError` for a frame that the plan was not built for."""
        low, high = self.plan.profile.min, self.plan.profile.max
        if self.plan.profile.contains(low.batch, height, width):
            return
        sizes = f"{high.width}x{high.height}"
        if (low.width, low.height) != (high.width, high.height):
            sizes = f"{low.width}x{low.height} to {sizes}"
        remedy = "give it the .onnx file that the plan was built of"
        if min(width, height) >= self.card.minimum_size:
            remedy = "build one that takes it: "
            remedy += self.plan.rebuild_command(sizes=f"--size {width}x{height}")
        raise DeblurError(
            self.path,
            expected=f"frames of {sizes}, which the plan was built for",
            found=f"{width}x{height}",
            remedy=remedy,
        )


def open_plan_model(path: Path) -> PlanModel:
    """Read a plan's sidecar and check that they belong together; raises
    :class:`DeblurError` where they do not.
    """
    plan = open_plan(path)
    low, high = plan.profile.min, plan.profile.max
    is_fixed = (low.width, low.height) == (high.width, high.height)
    return PlanModel(path, plan.card, (high.width, high.height) if is_fixed else None, plan)
