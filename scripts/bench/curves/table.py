"""Tables of real training curves beside this file, and the spaces that their configurations were drawn from.

A bench replays searches on them. Every configuration was trained to its end, so a search that stops trials early can be
compared with the full curves. ``make.py`` describes how the tables were made. Needs only the standard library.

A table is a CSV file with one row per configuration and seed: ``index``, ``seed``, the configuration by dotted name,
``v1`` to ``vK``, ``cpu_s`` and ``failed``. Rows come in the order in which they were trained, all of seed 0 first.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Scalar = bool | int | float | str
Entry = Mapping[str, tuple[Scalar, ...] | float | bool]

FOLDER = Path(__file__).parent
RUNGS_PER_EPOCH = 4
EPOCHS = {"tiny": 8, "minilm": 4}
TRAINING_ROWS = {"tiny": 259, "minilm": 264}

SPACES: dict[str, dict[str, Entry]] = {
    "tiny": {
        "model.name": {"choices": ("tiny-bert", "tiny-roberta")},
        "head.pooling": {"choices": ("cls", "mean", "max", "attention")},
        "head.layers": {"choices": (0, 1, 2)},
        "head.width": {"choices": (32, 64, 128, 256)},
        "head.dropout": {"low": 0.0, "high": 0.5},
        "model.dropout": {"low": 0.0, "high": 0.3},
        "optim.lr": {"low": 1e-5, "high": 1e-2, "log": True},
        "optim.weight_decay": {"low": 1e-4, "high": 0.3, "log": True},
        "optim.layer_decay": {"low": 0.5, "high": 1.0},
        "schedule.name": {"choices": ("linear", "cosine", "constant")},
        "schedule.warmup_ratio": {"low": 0.0, "high": 0.3},
        "train.batch_size": {"choices": (16, 32, 64)},
        "loss.class_weighting": {"choices": ("none", "inverse", "effective_number")},
        "train.clip_norm": {"choices": (0.0, 0.5, 1.0, 5.0)},
    },
    "minilm": {
        "optim.lr": {"low": 5e-6, "high": 1e-3, "log": True},
        "train.batch_size": {"choices": (8, 16, 32)},
        "optim.weight_decay": {"low": 1e-4, "high": 0.3, "log": True},
        "optim.layer_decay": {"low": 0.6, "high": 1.0},
        "schedule.name": {"choices": ("linear", "cosine", "constant")},
        "schedule.warmup_ratio": {"low": 0.0, "high": 0.3},
        "head.pooling": {"choices": ("cls", "mean", "max", "attention")},
        "head.layers": {"choices": (0, 1, 2)},
        "head.dropout": {"low": 0.0, "high": 0.5},
        "model.dropout": {"low": 0.0, "high": 0.3},
        "model.freeze_layers": {"choices": (0, 1, 2, 3, 4)},
        "loss.class_weighting": {"choices": ("none", "inverse", "effective_number")},
        "tok.max_length": {"choices": (64, 96, 128)},
    },
}
"""Space of each table, in the notation of a configuration file."""


@dataclass(frozen=True)
class Curve:
    """One training run.

    Attributes:
        index: the configuration's number in its table; runs of several seeds share it.
        params: dotted name → value, of the types that the space gives them.
        seed: of initial weights and order; all runs of a table share the split of the data.
        values: macro-F1 (0 to 1) on validation at every rung, ``RUNGS_PER_EPOCH`` to an epoch: (rungs,). The last of an
            epoch is of the whole validation part, the others of a fixed sample of it. NaN from where the run failed.
        cpu_s: seconds of one CPU that the whole run took, loading and evaluation included.
        failed: why it failed, or an empty text.
    """

    index: int
    params: dict[str, Scalar]
    seed: int
    values: tuple[float, ...]
    cpu_s: float
    failed: str = ""

    @property
    def epochs(self) -> tuple[float, ...]:
        """Return the values at the ends of epochs: (epochs,)."""
        return self.values[RUNGS_PER_EPOCH - 1 :: RUNGS_PER_EPOCH]


def header(table: str) -> list[str]:
    """Return the names of a table's columns."""
    values = [f"v{rung}" for rung in range(1, EPOCHS[table] * RUNGS_PER_EPOCH + 1)]
    return ["index", "seed", *SPACES[table], *values, "cpu_s", "failed"]


def as_row(table: str, curve: Curve) -> dict[str, Scalar]:
    """Return a curve as a row by column: values with 4 decimals, empty where they are NaN."""
    values = ("" if math.isnan(value) else f"{value:.4f}" for value in curve.values)
    cells = [curve.index, curve.seed, *curve.params.values(), *values, f"{curve.cpu_s:.2f}", curve.failed]
    return dict(zip(header(table), cells, strict=True))


def read_table(table: str, file: Path | None = None) -> list[Curve]:
    """Return the curves of a table in the order of its file, or of another file of that form.

    Raises:
        KeyError: there is no such table, or the file lacks a column.
        FileNotFoundError: it was not made yet.
    """
    with (file or FOLDER / f"{table}.csv").open(newline="", encoding="utf-8") as stream:
        return [_curve(table, row) for row in csv.DictReader(stream)]


def _curve(table: str, row: Mapping[str, str]) -> Curve:
    rungs = EPOCHS[table] * RUNGS_PER_EPOCH
    return Curve(
        index=int(row["index"]),
        params={name: _value(entry, row[name]) for name, entry in SPACES[table].items()},
        seed=int(row["seed"]),
        values=tuple(float(row[f"v{rung}"] or math.nan) for rung in range(1, rungs + 1)),
        cpu_s=float(row["cpu_s"]),
        failed=row["failed"],
    )


def _value(entry: Entry, cell: str) -> Scalar:
    choices = entry.get("choices")
    if not isinstance(choices, tuple):
        return float(cell)
    kind = type(choices[0])
    return kind(cell)
