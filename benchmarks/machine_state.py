"""How the machine is right now: clocks, temperature, load, and the GPU's, where it tells."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/sys")
PROC = Path("/proc")
PATIENCE = 10  # seconds for a tool of the vendor's to answer
GPU_FIELDS = (
    "driver_version", "pstate", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw",
    "enforced.power.limit", "temperature.gpu", "utilization.gpu",
)  # fmt: skip


@dataclass(frozen=True)
class GpuState:
    """As nvidia-smi tells it: clocks in MHz, power in watts, temperature in °C, utilisation
    in percent; None where it does not.
    """

    driver: str | None
    performance_state: str | None
    clock_mhz: float | None
    max_clock_mhz: float | None
    memory_clock_mhz: float | None
    power_watts: float | None
    power_limit_watts: float | None
    temperature: float | None
    utilisation: float | None


@dataclass(frozen=True)
class MachineState:
    """Clocks are the mean of the processors now, and the highest that they may take, in MHz.
    ``governor`` says who chooses, ``are_clocks_pinned`` whether lowest and highest are one
    (jetson_clocks makes them so). ``power_mode`` is nvpmodel's; ``temperature`` the hottest
    sensor's in °C; ``load`` the processes that ran or waited over the last minute. None for
    what the system does not tell.
    """

    clock_mhz: float | None
    max_clock_mhz: float | None
    governor: str | None
    are_clocks_pinned: bool | None
    power_mode: str | None
    temperature: float | None
    load: float | None
    gpu: GpuState | None


def read_state(system: Path = SYSTEM, proc: Path = PROC) -> MachineState:
    """Of this machine now; never fails."""
    policies = sorted((system / "devices/system/cpu/cpufreq").glob("policy*"))
    highest = [read_mhz(policy / "scaling_max_freq") for policy in policies]
    lowest = [read_mhz(policy / "scaling_min_freq") for policy in policies]
    governors = {read_line(policy / "scaling_governor") for policy in policies} - {None}
    known = [clock for clock in highest if clock is not None]
    return MachineState(
        clock_mhz=read_clock(policies, proc),
        max_clock_mhz=max(known, default=None),
        governor=", ".join(sorted(str(name) for name in governors)) or None,
        are_clocks_pinned=lowest == highest if known else None,
        power_mode=read_power_mode(),
        temperature=read_temperature(system),
        load=read_load(),
        gpu=read_gpu(),
    )


def read_clock(policies: list[Path], proc: Path) -> float | None:
    clocks = [read_mhz(policy / "scaling_cur_freq") for policy in policies]
    known = [clock for clock in clocks if clock is not None]
    if not known:  # a virtual machine has no say in it, and may still know
        with suppress(OSError):
            text = (proc / "cpuinfo").read_text(errors="replace")
            known = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.M)]
    return sum(known) / len(known) if known else None


def read_temperature(system: Path) -> float | None:
    sensors = [
        *(system / "class/thermal").glob("thermal_zone*/temp"),
        *(system / "class/hwmon").glob("hwmon*/temp*_input"),
    ]
    found = []
    for sensor in sensors:
        with suppress(TypeError, ValueError):
            found.append(float(read_line(sensor) or "") / 1000)
    # A sensor that is switched off tells nonsense.
    return max((degrees for degrees in found if 0 < degrees < 150), default=None)


def read_load() -> float | None:
    with suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return None


def read_power_mode() -> str | None:
    """A Jetson's."""
    said = ask("nvpmodel", "-q")
    found = re.search(r"^NV Power Mode:\s*(.+)$", said or "", re.M)
    return found[1].strip() if found else None


def read_gpu() -> GpuState | None:
    """Of the first that nvidia-smi lists."""
    query = f"--query-gpu={','.join(GPU_FIELDS)}"
    said = ask("nvidia-smi", query, "--format=csv,noheader,nounits")
    return parse_gpu(said) if said else None


def parse_gpu(said: str) -> GpuState | None:
    row = next(csv.reader(said.splitlines()), [])
    cells = [cell.strip() for cell in row]
    if len(cells) != len(GPU_FIELDS):
        return None
    # "[N/A]", "[Not Supported]"
    texts = [None if cell.startswith("[") or not cell else cell for cell in cells]
    numbers = []
    for text in texts[2:]:
        try:
            numbers.append(None if text is None else float(text))
        except ValueError:
            numbers.append(None)
    return GpuState(texts[0], texts[1], *numbers)


def ask(*command: str) -> str | None:
    """What a tool says; None where it is missing, fails or takes too long."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=True
        )
        return done.stdout
    return None


def read_mhz(path: Path) -> float | None:
    """The kernel counts in kHz."""
    with suppress(TypeError, ValueError):
        return float(read_line(path) or "") / 1000
    return None


def read_line(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None
