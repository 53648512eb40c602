from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deblurgan.runtime.tensorrt.bindings import Bindings
from deblurgan.runtime.tensorrt.progress import BuildProgress, make_monitor


def run_phase(progress: BuildProgress, name: str, steps: int) -> None:
    progress.start(name, "whole", steps)
    for step in range(steps):
        assert progress.step(name, step)
    progress.finish(name)


def test_a_phase_takes_half_of_what_is_left_of_the_step() -> None:
    progress = BuildProgress()
    progress.start("whole", None, 2)
    assert progress.done == 0
    progress.start("inner", "whole", 5)
    assert progress.step("inner", 0)
    assert progress.done == 5  # a fifth of half of a half
    for step in range(1, 5):
        progress.step("inner", step)
    progress.finish("inner")
    assert progress.done == 25
    run_phase(progress, "second", 3)
    assert progress.done == 37
    progress.step("whole", 0)
    assert progress.done == 50
    progress.step("whole", 1)
    progress.finish("whole")
    assert progress.done == 100


def test_cancelling_ends_the_build_with_its_next_step() -> None:
    progress = BuildProgress()
    progress.start("whole", None, 4)
    assert progress.step("whole", 0)
    progress.cancel()
    assert not progress.step("whole", 1)
    assert not progress.step("a phase that was never announced", 0)


phases = st.recursive(
    st.just([]), lambda inner: st.lists(st.lists(inner, max_size=3), max_size=4), max_leaves=20
)


@given(tree=phases)
def test_it_never_falls_and_ends_at_the_end(tree: list[list[object]]) -> None:
    """``tree``: the steps of a phase, each a list of the phases that start in it."""
    progress, seen = BuildProgress(), [0]

    def run(steps: list[list[object]], name: str, parent: str | None) -> None:
        progress.start(name, parent, len(steps))
        for index, inner in enumerate(steps):
            for number, phase in enumerate(inner):
                run(phase, f"{name}.{index}.{number}", name)  # type: ignore[arg-type]
            progress.step(name, index)
            seen.append(progress.done)
        progress.finish(name)
        seen.append(progress.done)

    run(tree, "whole", None)
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert progress.phases == {}


def test_the_monitor_tells_what_it_is_told(rtx: Bindings) -> None:
    progress = BuildProgress()
    monitor = make_monitor(rtx.trt, progress)
    monitor.phase_start("whole", None, 4)
    assert monitor.step_complete("whole", 1)
    assert progress.done == 50
    progress.cancel()
    assert not monitor.step_complete("whole", 2)
    monitor.phase_finish("whole")
    assert progress.done == 100
