"""What was predicted and what was measured, kept for the machine: by it later predictions are corrected."""

import json
import math
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from trainables.files import checksum
from trainables.private import open_unlinked

_LATEST_BYTES = 2**18
"""Of a long ledger only the end is read: some thousand trials."""

_SHARE_COVERED = 0.99
_MOST = 1.5


@dataclass(frozen=True)
class Circumstances:
    """What a prediction's error may depend on beside the workload."""

    device: str
    precision: str
    torch: str
    transformers: str

    @classmethod
    def here(cls, device: str, precision: str) -> Self:
        """With the versions that are installed.

        Args:
            device: the card's name, or ``cpu``.
            precision: ``fp32`` or ``bf16``.
        """
        return cls(device, precision, version("torch"), version("transformers"))


class Ledger:
    """A file of one JSON line per trial, which any number of processes may add to and read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, where: Circumstances, *, predicted_gib: float, measured_gib: float) -> None:
        """Note the peak of a trial beside its uncorrected prediction."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        entry = {**asdict(where), "predicted_gib": predicted_gib, "measured_gib": measured_gib}
        entry["checksum"] = checksum(entry)
        # One write in append mode: lines of several processes do not mix. The line is ended before and not after it,
        # so that it does not continue one that was cut off.
        descriptor = open_unlinked(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, ("\n" + json.dumps(entry)).encode())
        finally:
            os.close(descriptor)

    def correction(self, where: Circumstances) -> float:
        """By what a prediction is to be multiplied, at least 1: 99 % of the peaks measured so far stay within it.

        To whole per cents, or it would change with every trial, and what was found out under it be found out again.
        One-sided, since a peak below its prediction costs a few rows a pass, one above it costs a recovery.
        """
        ratios = sorted(self._ratios(where))
        if not ratios:
            return 1.0
        return min(_MOST, max(1.0, round(ratios[math.ceil(_SHARE_COVERED * len(ratios)) - 1], 2)))

    def _ratios(self, where: Circumstances) -> list[float]:
        wanted = asdict(where)
        ratios = []
        for line in self._latest_lines():
            try:
                entry = json.loads(line)
                if entry.pop("checksum") == checksum(entry) and all(
                    entry[name] == value for name, value in wanted.items()
                ):
                    ratios.append(float(entry["measured_gib"]) / float(entry["predicted_gib"]))
            except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
                continue  # A line that was cut off when its process died, that is damaged, or of another version.
        return ratios

    def _latest_lines(self) -> list[bytes]:
        try:
            with self._file.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LATEST_BYTES))
                return stream.read().splitlines()
        except FileNotFoundError:
            return []
