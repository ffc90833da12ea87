"""The host's memory, or what a container (control group) may use of it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostMemory:
    """``free_bytes`` is what could be had without swapping, other processes' use taken off."""

    total_bytes: int
    free_bytes: int


def host_memory(root: Path = Path("/")) -> HostMemory:
    """Read it from the kernel's files under ``root``; without them, ask the system for the total."""
    sizes = _numbers(root / "proc/meminfo")
    total = sizes.get("MemTotal:", 0) * 1024 or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = sizes.get("MemAvailable:", 0) * 1024 or total
    for limit, used in _limits(root):
        total, free = min(total, limit), min(free, max(0, limit - used))
    return HostMemory(total, free)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of every control group that this process is in and that has a limit."""
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
            # Files that were read count as used until somebody wants their memory.
            reclaimable = _numbers(folder / "memory.stat").get(cached, 0)
            yield int(text), max(0, int(_text(folder / used) or 0) - reclaimable)
        if folder == mount:
            return


def _numbers(path: Path) -> dict[str, int]:
    """The first number of each line by the word before it."""
    words = (line.split() for line in _text(path).splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
