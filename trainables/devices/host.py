"""The host's memory, or the part that a container (control group) may use."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
"""Bytes in one GiB."""


@dataclass(frozen=True)
class HostMemory:
    """The host's memory; ``free_bytes`` is available without swapping, beside other processes' use."""

    total_bytes: int
    free_bytes: int


def host_memory(root: Path = Path("/")) -> HostMemory:
    """Read the memory sizes from the kernel's files under ``root``; without them, ask the system for the total."""
    sizes = _numbers(root / "proc/meminfo")
    total = sizes.get("MemTotal:", 0) * 1024 or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = sizes.get("MemAvailable:", 0) * 1024 or total
    for limit, used in _limits(root):
        total, free = min(total, limit), min(free, max(0, limit - used))
    return HostMemory(total, free)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of every control group of this process that has a limit."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _limits_up(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _limits_up(
                root / "sys/fs/cgroup/memory",
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )


def _limits_up(mount: Path, path: str, limit: str, used: str, cached: str) -> Iterator[tuple[int, int]]:
    group = mount / path.strip("/")
    # In a container the path may be the host's, of which only the top is mounted.
    for folder in (group, *group.parents):
        text = _text(folder / limit)
        if text.isdecimal():
            # Cached files count as used until their memory is needed.
            reclaimable = _numbers(folder / "memory.stat").get(cached, 0)
            yield int(text), max(0, int(_text(folder / used) or 0) - reclaimable)
        if folder == mount:
            return


def _numbers(path: Path) -> dict[str, int]:
    """Return the first number of each line, keyed by the line's first word."""
    words = (line.split() for line in _text(path).splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
