"""Training, validation and test parts: no group crosses them, classes are spread evenly over them.

A search sees ``read_development`` alone; whoever wants the test part asks for it by ``read_test_rows``.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.rows import DataError, Rows, read_rows
from trainables.files import Stamp, stamp_of
from trainables.settings import DataSettings

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


@dataclass(frozen=True, eq=False)
class Development:
    """What a search sees of the data: all rows but those of the test part, and how trials split them.

    Attributes:
        rows: in the order of the file.
        splits: one, or one per fold; their test parts are empty.
        fingerprint: of all rows of the file: that is the data which a study is about.
    """

    rows: Rows
    splits: tuple[Split, ...]
    fingerprint: str


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
    part_of_row = _spread(rows, shares, seed, "training, validation and test")
    train, validation, test = (np.flatnonzero(part_of_row == part) for part in range(len(shares)))
    return Split(train, validation, test)


def fold_rows(rows: Rows, *, folds: int, seed: int) -> tuple[Split, ...]:
    """One split per fold: each group is in the validation part of one fold, and in the training part of the others.

    The folds hold equal shares of every class's rows, as nearly as the groups allow; test parts are empty.

    Raises:
        DataError: the groups do not suffice for every class in every fold.
    """
    fold_of_row = _spread(rows, np.full(folds, 1 / folds), seed, f"the {folds} folds (data.folds)")
    nothing = np.zeros(0, dtype=np.int64)
    return tuple(
        Split(np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold), nothing)
        for fold in range(folds)
    )


def read_development(data: DataSettings, classes: int, split_seed: int) -> Development:
    """Read the user's rows, put the test part aside and split the others.

    A process that did it before remembers, unless the file changed. Which rows are tested does not depend on the folds.

    Raises:
        DataError: the data cannot be used.
    """
    stamp: Stamp | None
    try:
        stamp = stamp_of(Path(data.path))
    except (OSError, ValueError):
        # The built-in data, or what reading will say is wrong.
        stamp = None
    return _read_development(data, classes, split_seed, stamp)


def read_test_rows(data: DataSettings, classes: int, split_seed: int) -> Rows:
    """The rows that no search sees, in the order of the file; for what is done once a configuration has been chosen.

    Raises:
        DataError: the data cannot be used.
    """
    rows, split = _read_and_split(data, classes, split_seed)
    return rows.take(split.test)


@lru_cache(maxsize=1)
def _read_development(data: DataSettings, classes: int, split_seed: int, stamp: Stamp | None) -> Development:
    everything, split = _read_and_split(data, classes, split_seed)
    kept = np.sort(np.concatenate([split.train, split.validation]))
    rows = everything.take(kept)
    if data.folds is None:
        train, validation = (np.searchsorted(kept, part) for part in (split.train, split.validation))
        splits: tuple[Split, ...] = (Split(train, validation, np.zeros(0, dtype=np.int64)),)
    else:
        splits = fold_rows(rows, folds=data.folds, seed=split_seed)
    return Development(rows, splits, everything.fingerprint)


def _read_and_split(data: DataSettings, classes: int, split_seed: int) -> tuple[Rows, Split]:
    rows = read_rows(data, classes)
    split = split_rows(rows, validation_share=data.validation_share, test_share=data.test_share, seed=split_seed)
    return rows, split


def _spread(rows: Rows, shares: NDArray[np.float64], seed: int, parts: str) -> NDArray[np.int64]:
    """The part of each row, ``(rows,)``; ``parts`` names them in errors."""
    names, group_of_row = np.unique(np.array(rows.groups, dtype=object), return_inverse=True)
    classes, class_of_row = np.unique(rows.labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (group_of_row, class_of_row), 1)
    holders = np.count_nonzero(counts, axis=0)
    rarest = int(holders.argmin())
    fewer = ", or lower data.folds" if "data.folds" in parts else ""
    if holders[rarest] < len(shares):
        raise DataError(
            f"class {classes[rarest]} occurs in {holders[rarest]} group(s), and {parts} need it in one each at the "
            f"least; add groups that hold it (or raise data.max_rows), or merge it with another class{fewer}"
        )
    best = _best_assignment(counts, shares, np.random.default_rng(seed))
    if best is None:
        raise DataError(
            f"no split by group was found that gives {parts} every class; "
            f"add groups that hold the rare classes (or raise data.max_rows), or merge those classes{fewer}"
        )
    return best[group_of_row]


def _best_assignment(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """The part of each group, ``(groups,)``: the most even of several assignments in random orders.

    None where none of them gives every part every class.
    """
    weights = counts / counts.sum(axis=0)
    best, least = None, np.inf
    for _ in range(min(_TRIES, 1 + _ASSIGNMENTS // len(counts))):
        parts = _assign(weights, shares, rng.permutation(len(counts)))
        held = np.stack([weights[parts == part].sum(axis=0) for part in range(len(shares))])
        unevenness = float(((held - shares[:, None]) ** 2 / shares[:, None]).sum().round(_DECIMALS))
        if held.min() > 0 and unevenness < least:
            best, least = parts, unevenness
    return best


def _assign(weights: NDArray[np.float64], shares: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assigns groups greedily in ``order``, first so many that every part holds every class.

    ``weights`` is ``(groups, classes)``, each group's share of a class's rows: a rare class counts as much as
    a common one. A group goes to the part that, for its classes, is filled least against its share.
    """
    parts = np.full(len(weights), _UNASSIGNED)
    held = np.zeros((len(shares), weights.shape[1]))

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
        give(group, np.arange(len(shares)))
    return parts
