"""``deblur-export plans``: the plans that were built on this machine and kept."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deblurgan.export.commands.rows import megabytes
from deblurgan.runtime.console import new_app
from deblurgan.runtime.tensorrt.plan_cache import (
    CachedPlan,
    clear_plans,
    list_plans,
    plans_folder,
)

plans_app = new_app("The plans that were built on this machine and kept for the next run.")
output = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


@plans_app.command("list")
def list_command() -> None:
    """List the plans that are kept, and whether they run here.

    Example: deblur-export plans list
    """
    plans = list_plans()
    if plans:
        table = Table("plan", "precision", "built for", "frames", "size", "age", "runs here")
        for plan in plans:
            table.add_row(*describe(plan))
        output.print(table)
    output.print(summary(plans))


@plans_app.command("clear")
def clear_command(
    unusable: Annotated[
        bool, typer.Option("--unusable", help="Only those that do not run on this machine.")
    ] = False,
) -> None:
    """Remove the plans that are kept; they are built again when they are wanted.

    Example: deblur-export plans clear --unusable
    """
    output.print(f"removed: {summary(clear_plans(unusable_only=unusable))}")


def describe(plan: CachedPlan) -> tuple[str, ...]:
    size, age, runs = megabytes(plan.size), describe_age(plan.age), "; ".join(plan.reasons) or "yes"
    card = plan.card
    if card is None:
        return (plan.path.name, "", "", "", size, age, runs)
    low, high = card.profile.min, card.profile.max
    frames = f"{high}" if low == high else f"{low} to {high}"
    target = ", ".join(card.targets) or card.gpu or "any"
    return (plan.path.name, card.card.precision, f"{target}, {card.title}", frames, size, age, runs)


def describe_age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def summary(plans: list[CachedPlan]) -> str:
    total = megabytes(sum(plan.size for plan in plans))
    return f"{len(plans)} plan{'' if len(plans) == 1 else 's'}, {total}, in {plans_folder()}"
