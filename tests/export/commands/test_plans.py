from __future__ import annotations

from pathlib import Path

import pytest

from deblurgan.export.app import app
from deblurgan.export.commands.plans import describe_age
from deblurgan.export.onnx_export import ExportReport
from deblurgan.runtime.console import run
from deblurgan.runtime.contract import open_model
from deblurgan.runtime.tensorrt.builder import BuildOptions
from deblurgan.runtime.tensorrt.plan_cache import cached_plan
from deblurgan.runtime.tensorrt.profiles import choose_profile
from deblurgan.train.checkpoint import Checkpoint


def test_the_cache_is_listed_and_cleared(
    edge_fp32: tuple[Checkpoint, ExportReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("tensorrt_rtx")
    cache = tmp_path / "cache[v1][" / "b]"  # no markup of the console's
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert run(app, ["plans", "list"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"0 plans, 0.00 MB, in {cache}")
    model = open_model(edge_fp32[1].path)
    profile = choose_profile(model, size=(64, 48))
    kept = cached_plan(model, BuildOptions(profile, targets=("sm89",)))
    assert run(app, ["plans", "list"]) == 0
    listed = capsys.readouterr().out
    assert kept.stem.split("-")[0] in listed
    assert "sm89" in listed
    assert "1x64x48" in listed
    assert "1 plan, " in listed
    assert run(app, ["plans", "clear"]) == 0
    assert capsys.readouterr().out.startswith("removed: 1 plan")
    assert not kept.exists()


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "3 s"), (150, "2 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_ages_are_rounded(seconds: float, said: str) -> None:
    assert describe_age(seconds) == said
