"""How much memory this process may take: what is free, what a control group allows, or a limit
that the user sets.
"""

from __future__ import annotations

import re
from pathlib import Path

from deblurgan.runtime.errors import DeblurError

# Of what is free; the rest is for everything else that runs.
SHARE = 0.8
UNITS = {"k": 1, "m": 2, "g": 3, "t": 4}
PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
# Version 1 says "no limit" with the largest number of pages that it knows.
NO_LIMIT = 1 << 60


def parse_memory(text: str) -> int:
    """``4G``, ``4GiB`` or ``512M`` in bytes, units of 1024; ``4GB`` is 4,000,000,000.

    Raises :class:`DeblurError` for anything else.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt])(i?b)?", text.strip().lower())
    size = 0
    if match is not None:
        number, unit, ending = match.groups()
        size = round(float(number) * (1000 if ending == "b" else 1024) ** UNITS[unit])
    if size == 0:
        raise DeblurError(
            "--memory-limit",
            expected="a number with a unit, as 512M or 4G",
            found=repr(text),
            remedy="write --memory-limit 4G for 4 GiB",
        )
    return size


def format_memory(size: int) -> str:
    """In MiB below 10 GiB, in GiB from there on."""
    return f"{size / 2**30:.0f} GiB" if size >= 10 * 2**30 else f"{-(-size // 2**20)} MiB"


def default_limit(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """What this process may grow to, in bytes: what it has and a share of what is free.

    None where the system does not tell.
    """
    free = free_memory(proc, cgroups)
    return None if free is None else used_memory(proc) + round(SHARE * free)


def used_memory(proc: Path = PROC) -> int:
    """What this process has in memory now, in bytes; 0 where the system does not tell."""
    try:
        found = re.search(r"^VmRSS:\s+(\d+) kB", (proc / "self/status").read_text(), re.M)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 0


def peak_memory(proc: Path = PROC) -> int:
    """The most this process ever had in memory, in bytes; 0 where the system does not tell."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", (proc / "self/status").read_text(), re.M)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 0


def free_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """What can be had without swapping or being ended by a control group, in bytes."""
    try:
        text = (proc / "meminfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)
    rooms = [int(found[1]) * 1024] if found else []
    for folder in control_groups(proc, cgroups):
        limit = read_number(folder, "memory.max", "memory.limit_in_bytes")
        used = read_number(folder, "memory.current", "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < NO_LIMIT:
            rooms.append(max(0, limit - used + file_cache(folder)))
    return min(rooms, default=None)


def control_groups(proc: Path, cgroups: Path) -> list[Path]:
    """The folders of the groups that this process's memory counts for, version 1 and 2: its
    own and all above it.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        # In a container the path may be the host's; the container's own group is the root.
        group = root / path.strip("/")
        folders += [group, *(p for p in group.parents if p.is_relative_to(root))]
    return [folder for folder in folders if folder.is_dir()]


def file_cache(folder: Path) -> int:
    """What a group could drop at once: files read long ago."""
    try:
        text = (folder / "memory.stat").read_text()
    except OSError:
        return 0
    # Version 1 counts the groups below only in its totals.
    found = re.findall(r"^(?:total_)?inactive_file (\d+)", text, re.M)
    return int(found[-1]) if found else 0


def read_number(folder: Path, *names: str) -> int | None:
    """The first of these files that holds a number; version 2 writes "max" for no limit."""
    for name in names:
        try:
            return int((folder / name).read_text())
        except (OSError, ValueError):
            continue
    return None
