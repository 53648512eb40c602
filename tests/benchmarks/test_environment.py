"""What the machine tells of itself, and that a machine that tells nothing is no failure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from deblurgan.benchmarks import machine_state
from deblurgan.benchmarks.environment import describe_environment
from deblurgan.benchmarks.machine_state import ask, parse_gpu, read_state


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_this_machine_is_described_in_json() -> None:
    environment = describe_environment()
    assert environment.state is not None
    assert json.loads(json.dumps(asdict(environment)))["state"]["load"] == environment.state.load


def test_a_system_that_tells_nothing_gives_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state = read_state(tmp_path / "sys", tmp_path / "proc")
    told = {name: value for name, value in asdict(state).items() if name != "load"}
    assert set(told.values()) == {None}


def test_clocks_governor_and_temperature_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_state, "ask", lambda *command: None)
    for index, clock in enumerate((1_000_000, 2_000_000)):
        policy = tmp_path / f"devices/system/cpu/cpufreq/policy{index}"
        write(policy / "scaling_cur_freq", f"{clock}\n")
        write(policy / "scaling_max_freq", "2200000\n")
        write(policy / "scaling_min_freq", "400000\n")
        write(policy / "scaling_governor", "schedutil\n")
    for zone, degrees in enumerate(("41500", "-256000", "63000", "")):  # the second is off
        write(tmp_path / f"class/thermal/thermal_zone{zone}/temp", degrees)
    state = read_state(tmp_path, tmp_path)
    assert (state.clock_mhz, state.max_clock_mhz) == (1500, 2200)
    assert (state.governor, state.are_clocks_pinned, state.temperature) == ("schedutil", False, 63)
    for index in range(2):
        write(tmp_path / f"devices/system/cpu/cpufreq/policy{index}/scaling_min_freq", "2200000")
    assert read_state(tmp_path, tmp_path).are_clocks_pinned is True


def test_a_virtual_machine_tells_its_clock_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "cpuinfo", "cpu MHz\t\t: 2400.5\ncpu MHz\t\t: 2600.5\n")
    assert read_state(tmp_path / "sys", tmp_path).clock_mhz == 2500.5


def test_nvidia_smi_is_read_also_where_it_knows_little() -> None:
    gpu = parse_gpu("550.54, P0, 1410, 1980, 2619, 68.2, 700.00, 31, 0\n")
    assert gpu is not None
    assert (gpu.driver, gpu.clock_mhz, gpu.power_watts, gpu.temperature) == (
        "550.54", 1410, 68.2, 31,
    )  # fmt: skip
    jetson = parse_gpu("540.3, [N/A], [N/A], [N/A], [N/A], [Not Supported], x, [N/A], [N/A]\n")
    assert jetson is not None
    assert (jetson.driver, jetson.clock_mhz, jetson.power_limit_watts) == ("540.3", None, None)
    assert parse_gpu("NVIDIA-SMI has failed\n") is None


def test_a_jetsons_power_mode_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_state, "ask", lambda *command: "NV Power Mode: MAXN\n0\n")
    assert machine_state.read_power_mode() == "MAXN"


def test_a_tool_that_is_missing_or_fails_says_nothing() -> None:
    assert ask("no-such-tool-here") is None
    assert ask("false") is None
    assert ask("echo", "yes") == "yes\n"
