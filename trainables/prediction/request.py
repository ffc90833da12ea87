"""The description of a run of predictions, and of its end. Cheap to import (no torch)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainables.data.errors import DataError

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".parquet")
"""Endings of output files, which name their formats."""


@dataclass(frozen=True)
class Resources:
    """Where a model predicts, and with what.

    Attributes:
        device: ``cpu``, ``cuda``, or None for the first card that there is, else the CPU.
        budget_gib: the most memory to hold; None sets no limit on the CPU, and the card's size on a card.
        precision: ``auto``, ``fp32`` or ``bf16``, as ``train.precision``.
    """

    device: Literal["cpu", "cuda"] | None = None
    budget_gib: float | None = None
    precision: str = "auto"


@dataclass(frozen=True)
class Request:
    """One file of predictions.

    Attributes:
        model: folder of a saved model.
        source: path of the input; its suffix names the format.
        out: path of the output; its suffix is one of ``SUFFIXES``. None writes CSV to a stream.
        called: name of the input in messages; None means its path.
        columns: role (``text``, ``criterion``) → column, where it is not the training data's.
        any_criterion: predict rows with criteria that the model was not trained on, too.
        skip_bad: keep rows that cannot be read, with the reason in the column ``error`` instead of a prediction.
        resume: continue the output of a run that was cut off.
    """

    model: Path
    source: str
    out: Path | None = None
    called: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    any_criterion: bool = False
    skip_bad: bool = False
    resume: bool = False
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Ended:
    """End of a run.

    Attributes:
        rows: number of the input's rows.
        bad: number of those without a prediction.
        resumed: number of rows that an earlier run had predicted.
    """

    rows: int
    bad: int
    resumed: int


def suffix_of(out: Path) -> str:
    """Return the suffix that names the format of an output file.

    Raises:
        DataError: it names none.
    """
    # The longest first: .csv.gz ends with no other.
    found = next((suffix for suffix in SUFFIXES if out.name.lower().endswith(suffix)), None)
    if found is None:
        raise DataError(f"--out: {out} ends with none of {', '.join(SUFFIXES)}, which say the format; add one of them")
    return found
