"""The machine's record of predicted and measured peaks, which corrects later predictions."""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Self

from trainables.files import Stamp, stamp_of
from trainables.planning.lines import append_line, latest_lines

_SHARE_COVERED = 0.99
_MOST = 1.5


@dataclass(frozen=True)
class Circumstances:
    """Everything that a prediction's error may depend on beside the workload."""

    device: str
    precision: str
    torch: str
    transformers: str

    @classmethod
    def here(cls, device: str, precision: str) -> Self:
        """Return the circumstances with the installed versions.

        Args:
            device: the card's name, or ``cpu``.
            precision: ``fp32`` or ``bf16``.
        """
        return cls(device, precision, version("torch"), version("transformers"))


class Ledger:
    """A file of one JSON line per trial; any number of processes may append to it and read it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, where: Circumstances, *, predicted_gib: float, measured_gib: float) -> None:
        """Record a trial's peak beside its uncorrected prediction."""
        append_line(self._file, {**asdict(where), "predicted_gib": predicted_gib, "measured_gib": measured_gib})

    def correction(self, where: Circumstances) -> float:
        """Return the correction factor (≥ 1) for a prediction: 99 % of the measured peaks stay within the result.

        The factor is rounded to whole per cents: a finer one would change with every trial and invalidate earlier
        findings. It never lowers a prediction. A peak below its prediction costs a few rows per pass, but a peak above
        it costs a recovery.
        """
        try:
            return _correction(self._file, stamp_of(self._file), where)
        except FileNotFoundError:
            return 1.0


# Planning asks for every plan, and the file changes only when a trial ends.
@lru_cache(maxsize=16)
def _correction(file: Path, stamp: Stamp, where: Circumstances) -> float:
    ratios = sorted(_ratios(file, where))
    if not ratios:
        return 1.0
    return min(_MOST, max(1.0, round(ratios[math.ceil(_SHARE_COVERED * len(ratios)) - 1], 2)))


def _ratios(file: Path, where: Circumstances) -> list[float]:
    wanted = asdict(where)
    ratios = []
    for entry in latest_lines(file):
        try:
            if all(entry[name] == value for name, value in wanted.items()):
                ratios.append(float(entry["measured_gib"]) / float(entry["predicted_gib"]))
        except (ValueError, KeyError, TypeError, ZeroDivisionError):
            continue  # An entry of another version.
    return ratios
