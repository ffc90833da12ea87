"""Table ``repeats.csv``: configurations trained on several seeds, with redrawn splits and answers on many test rows.

``make_repeats.py`` makes it. The rows are of several *worlds*: demo data of a seed of their own, with 320 rows to train
and validate on, and 480 test rows. Every world has its own configurations. Number 0 is the recommended one. Seed k
redraws training and validation part, initial weights and order; it is paired over the configurations of a world.

A test part of any size is a draw of groups from the world's test rows, scored from the answers that the table holds.
Needs numpy besides the standard library.
"""

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from curves.table import FOLDER, Entry, Scalar

WORLDS = 16
CONFIGURATIONS = 5
SEEDS = 6
EPOCHS = 3

RECOMMENDED: dict[str, Scalar] = {"optim.lr": 1e-3, "train.batch_size": 32, "optim.weight_decay": 0.01}
"""The recommended settings of an encoder with random weights; all others have their defaults."""

SPACE: dict[str, Entry] = {
    "optim.lr": {"low": 3e-4, "high": 3e-3, "log": True},
    "train.batch_size": {"choices": (16, 32, 64)},
    "optim.weight_decay": {"low": 1e-3, "high": 0.1, "log": True},
    "head.pooling": {"choices": ("cls", "mean", "max")},
    "model.dropout": {"low": 0.0, "high": 0.2},
    "schedule.name": {"choices": ("linear", "cosine", "constant")},
}

_HEADER = (
    "world",
    "index",
    "seed",
    "params",
    "values",
    "corrected",
    "deviation",
    "answers",
    "cpu_s",
)


@dataclass(frozen=True, eq=False)
class Run:
    """One training.

    Attributes:
        index: number of the configuration in its world; 0 is the recommended one.
        values: macro-F1 on the validation part after every epoch, (epochs,).
        corrected: value on rows that did not choose the best epoch (``trainables.training.out_of_bag``).
        deviation: noise of the best epoch's value by its rows, likewise.
        answers: answers (0 or 1) of the best epoch's model on the world's test rows, (test rows,).
    """

    world: int
    index: int
    seed: int
    params: Mapping[str, Scalar]
    values: tuple[float, ...]
    corrected: float
    deviation: float
    answers: NDArray[np.int8]
    cpu_s: float

    @property
    def value(self) -> float:
        """Value that a search would record: that of the best epoch."""
        return max(self.values)


@dataclass(frozen=True, eq=False)
class World:
    """Test rows of one world: labels (test rows,), and the number of each row's group (test rows,)."""

    labels: NDArray[np.int8]
    groups: NDArray[np.int64]


def writer_to(stream: IO[str]) -> "csv.DictWriter[str]":
    return csv.DictWriter(stream, _HEADER, lineterminator="\n")


def as_row(run: Run) -> dict[str, object]:
    """Return a run as a row: values in thousandths of a point, answers packed eight to a byte."""
    return {
        "world": run.world,
        "index": run.index,
        "seed": run.seed,
        # The seeds of a configuration share its settings: the first one's row holds them.
        "params": json.dumps(run.params) if run.seed == 0 else "",
        "values": _joined(run.values),
        "corrected": f"{run.corrected:.5f}",
        "deviation": f"{run.deviation:.5f}",
        "answers": packed(run.answers),
        "cpu_s": f"{run.cpu_s:.2f}",
    }


def read_runs(file: Path | None = None) -> list[Run]:
    """Return the runs in the order of the file.

    Raises:
        FileNotFoundError: it was not made yet.
    """
    params: dict[tuple[int, int], Mapping[str, Scalar]] = {}
    runs = []
    with (file or FOLDER / "repeats.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            key = int(row["world"]), int(row["index"])
            if row["params"]:
                params[key] = json.loads(row["params"])
            runs.append(
                Run(
                    *key,
                    int(row["seed"]),
                    params[key],
                    _split(row["values"]),
                    float(row["corrected"]),
                    float(row["deviation"]),
                    unpacked(row["answers"]),
                    float(row["cpu_s"]),
                )
            )
    return runs


def write_worlds(worlds: Sequence[World], file: Path | None = None) -> None:
    """Write the test rows of every world: labels packed as answers are, and the size of each group in order."""
    with (file or FOLDER / "repeats_worlds.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["world", "labels", "group_sizes"])
        for number, world in enumerate(worlds):
            sizes = np.bincount(world.groups)
            writer.writerow([number, packed(world.labels), " ".join(map(str, sizes))])


def read_worlds(file: Path | None = None) -> list[World]:
    """Return the test rows of every world.

    Raises:
        FileNotFoundError: they were not made yet.
    """
    with (file or FOLDER / "repeats_worlds.csv").open(newline="", encoding="utf-8") as stream:
        worlds = []
        for row in csv.DictReader(stream):
            sizes = [int(size) for size in row["group_sizes"].split()]
            groups = np.repeat(np.arange(len(sizes)), sizes)
            worlds.append(World(unpacked(row["labels"])[: len(groups)], groups))
        return worlds


def packed(bits: NDArray[np.int8]) -> str:
    return base64.b64encode(np.packbits(bits.astype(np.uint8)).tobytes()).decode()


def unpacked(text: str) -> NDArray[np.int8]:
    """Return the packed bits, and up to seven zeros behind them."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8)).astype(np.int8)


def _joined(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _split(cell: str) -> tuple[float, ...]:
    return tuple(map(float, cell.split()))
