"""The memory of a trial's device at each stage: a log line, and facts to store."""

import logging
from typing import Literal

from trainables.devices.device import MemoryDevice
from trainables.devices.host import GIB
from trainables.reports import Fact

Stage = Literal["trial start", "model loaded", "training start", "training end", "trial end"]

_LOG = logging.getLogger("headroom.memory")


class StageLog:
    """Log of the device's memory at every stage of one trial, and of the change since the previous stage."""

    def __init__(self, device: MemoryDevice) -> None:
        self._device = device
        self._allocated: int | None = None
        self._facts: dict[str, Fact] = {}

    def reached(self, stage: Stage) -> None:
        """Log a line to ``headroom.memory`` and store its figures."""
        device = self._device
        total = device.total_bytes()
        sizes = {"allocated": device.live_bytes(), "reserved": device.reserved_bytes(), "free": device.free_bytes()}
        change = 0 if self._allocated is None else sizes["allocated"] - self._allocated
        self._allocated = sizes["allocated"]
        shown = ", ".join(f"{name} {size / GIB:.3f} GiB ({100 * size / total:.1f} %)" for name, size in sizes.items())
        _LOG.info("%s: %s, total %.3f GiB; allocated changed by %+.3f GiB", stage, shown, total / GIB, change / GIB)
        prefix = f"memory/{stage.replace(' ', '_')}"
        self._facts |= {f"{prefix}/{name}_gib": size / GIB for name, size in sizes.items()}
        self._facts |= {f"{prefix}/change_gib": change / GIB, "memory/total_gib": total / GIB}

    def facts(self) -> dict[str, Fact]:
        """Return the figures of the stages so far, by ``memory/<stage>/<figure>_gib``."""
        return dict(self._facts)
