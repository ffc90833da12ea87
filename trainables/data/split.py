"""Training, validation and test parts: no group crosses them, classes are spread evenly over them."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.rows import DataError, Rows, read_rows
from trainables.settings import DataSettings

_PARTS = 3
_TRIES = 32
_ASSIGNMENTS = 20_000  # Bounds the time: with many groups a single try is as even as the best of several.
_FEW_GROUPS = 30
_LEAST_SHARE = 1e-6
_DECIMALS = 9  # Ties are common; rounding breaks them alike on machines that sum in different orders.
_UNASSIGNED = -1


@dataclass(frozen=True, eq=False)
class Split:
    """Row indices of each part, ascending; together they are every row once."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_rows(rows: Rows, *, validation_share: float, test_share: float, seed: int) -> Split:
    """Splits by group so that each part holds its share of every class's rows, as nearly as the groups allow.

    The same groups, labels and seed give the same split, in whatever order the rows come.

    Raises:
        DataError: the shares leave a part empty, or the groups do not suffice for every class in every part.
    """
    shares = np.array([1 - validation_share - test_share, validation_share, test_share])
    if shares.min() < _LEAST_SHARE:
        raise DataError(
            f"data.validation_share={validation_share} and data.test_share={test_share} leave a part empty; "
            "set both above 0 and their sum below 1"
        )
    names, group_of_row = np.unique(np.array(rows.groups, dtype=object), return_inverse=True)
    classes, class_of_row = np.unique(rows.labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (group_of_row, class_of_row), 1)
    _require_spreadable(counts, classes)

    part_of_row = _best_assignment(counts, shares, np.random.default_rng(seed))[group_of_row]
    train, validation, test = (np.flatnonzero(part_of_row == part) for part in range(_PARTS))
    return Split(train, validation, test)


def read_and_split(data: DataSettings, classes: int, split_seed: int) -> tuple[Rows, Split]:
    """Read the user's rows and cut them into parts; a process that did it before remembers, unless the file changed.

    Raises:
        DataError: the data cannot be used.
    """
    path = Path(data.path)
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None
    return _read_and_split(data, classes, split_seed, stamp)


@lru_cache(maxsize=1)
def _read_and_split(
    data: DataSettings, classes: int, split_seed: int, stamp: tuple[int, int] | None
) -> tuple[Rows, Split]:
    rows = read_rows(data, classes)
    split = split_rows(rows, validation_share=data.validation_share, test_share=data.test_share, seed=split_seed)
    return rows, split


def _require_spreadable(counts: NDArray[np.int64], classes: NDArray[np.int64]) -> None:
    holders = np.count_nonzero(counts, axis=0)
    rarest = int(holders.argmin())
    if holders[rarest] < _PARTS:
        raise DataError(
            f"class {classes[rarest]} occurs in {holders[rarest]} group(s), and training, validation and "
            "test need it in one each at the least; add groups that hold it (or raise data.max_rows), "
            "or merge it with another class"
        )


def _best_assignment(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The part of each group, ``(groups,)``: the most even of several assignments in random orders."""
    weights = counts / counts.sum(axis=0)
    best, least = None, np.inf
    for _ in range(min(_TRIES, 1 + _ASSIGNMENTS // len(counts))):
        parts = _assign(weights, shares, rng.permutation(len(counts)))
        held = np.stack([weights[parts == part].sum(axis=0) for part in range(_PARTS)])
        unevenness = float(((held - shares[:, None]) ** 2 / shares[:, None]).sum().round(_DECIMALS))
        if held.min() > 0 and unevenness < least:
            best, least = parts, unevenness
    if best is None:
        raise DataError(
            "no split by group was found that gives training, validation and test every class; "
            "add groups that hold the rare classes (or raise data.max_rows), or merge those classes"
        )
    return best


def _assign(weights: NDArray[np.float64], shares: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assigns groups greedily in ``order``, first so many that every part holds every class.

    ``weights`` is ``(groups, classes)``, each group's share of a class's rows: a rare class counts as much as
    a common one. A group goes to the part that, for its classes, is filled least against its share.
    """
    parts = np.full(len(weights), _UNASSIGNED)
    held = np.zeros((_PARTS, weights.shape[1]))

    # Counting the group's own rows in as well brings few groups nearer to the shares, but keeps large groups out of
    # small parts, where they would be missed: with many groups the parts come out even without it.
    foresight = 0.5 if len(weights) <= _FEW_GROUPS else 0.0

    def give(group: int, candidates: NDArray[np.int64]) -> None:
        filled = (held[candidates] + foresight * weights[group]) / shares[candidates, None]
        part = candidates[(filled @ weights[group]).round(_DECIMALS).argmin()]
        parts[group] = part
        held[part] += weights[group]

    for label in np.count_nonzero(weights, axis=0).argsort(kind="stable"):
        for group in order[weights[order, label] > 0]:
            lacking = np.flatnonzero(held[:, label] == 0)
            if len(lacking) == 0:
                break
            if parts[group] == _UNASSIGNED:
                give(group, lacking)
    for group in order[parts[order] == _UNASSIGNED]:
        give(group, np.arange(_PARTS))
    return parts
