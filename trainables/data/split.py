"""Training, validation and test parts: no group is in two parts, and classes are spread evenly over them.

A search sees ``read_development`` alone; ``read_test_rows`` returns the test part.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.errors import DataError
from trainables.data.rows import Rows, read_rows
from trainables.files import Stamp, stamp_of
from trainables.settings import DataSettings, Redraw

_TRIES = 32
_ASSIGNMENTS = 20_000  # Bounds the time. With many groups a single try is as even as the best of several.
_FEW_GROUPS = 30
_LEAST_SHARE = 1e-6
_DECIMALS = 9  # Ties are common. Rounding breaks them alike on machines that sum in different orders.
_UNASSIGNED = -1
_NO_ROWS: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Row indices of each part, ascending; together they cover every row once."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Development:
    """The part of the data that a search sees: all rows outside the test part, and their splits.

    Attributes:
        rows: the rows in the file's order.
        splits: a single split, or one per fold; their test parts are empty.
        fingerprint: fingerprint of all rows of the file, which identifies a study's data.
        tied: groups tied together by equal texts, over all rows of the file.
        test_labels: labels of the test rows, ``(rows,)``; nothing else of these rows is available here.
        test_groups: number of groups in the test part.
    """

    rows: Rows
    splits: tuple[Split, ...]
    fingerprint: str
    tied: "Tied"
    test_labels: NDArray[np.int64]
    test_groups: int

    @property
    def fewest_rows(self) -> int:
        """Number of training rows in the smallest split."""
        return min(len(split.train) for split in self.splits)


@dataclass(frozen=True, eq=False)
class Tied:
    """Groups tied together by texts that stand in several of them.

    Attributes:
        names: for each row, the unit of splitting: its group, or the first by name of the groups tied to it.
        texts: number of texts that occur in several groups.
        most_rows: number of rows in the largest set of tied groups; 0 if no groups are tied.
    """

    names: tuple[str, ...]
    texts: int
    most_rows: int


def tie_equal_texts(rows: Rows) -> Tied:
    """Find the groups that hold equal texts; texts that differ in case or blanks alone are equal."""
    leader = {group: group for group in rows.groups}

    def first_of(group: str) -> str:
        while leader[group] != group:
            leader[group] = group = leader[leader[group]]
        return group

    group_of_text: dict[str, str] = {}
    shared = set()
    for text, group in zip(rows.texts, rows.groups, strict=True):
        key = " ".join(text.casefold().split())
        other = group_of_text.setdefault(key, group)
        if other != group:
            shared.add(key)
            first, second = sorted((first_of(other), first_of(group)))
            leader[second] = first
    names = tuple(map(first_of, rows.groups))
    ties = Counter(name for name, group in zip(names, rows.groups, strict=True) if name != group)
    sizes = Counter(names)
    return Tied(names, len(shared), max((sizes[name] for name in ties), default=0))


def split_rows(
    rows: Rows, *, validation_share: float, test_share: float, seed: int, groups: Sequence[str] | None = None
) -> Split:
    """Split by group so that each part holds its share of every class's rows, as nearly as the groups allow.

    The same groups, labels and seed give the same split, whatever the order of the rows.

    Args:
        groups: for each row, the unit that stays together; None uses the rows' own groups.

    Raises:
        DataError: the shares leave a part empty, or the groups do not suffice for every class in every part.
    """
    shares = np.array([1 - validation_share - test_share, validation_share, test_share])
    if shares.min() < _LEAST_SHARE:
        raise DataError(
            f"data.validation_share={validation_share} and data.test_share={test_share} leave a part empty; "
            "set both above 0 and their sum below 1"
        )
    part_of_row = _spread(rows, groups or rows.groups, shares, seed, "training, validation and test")
    train, validation, test = (np.flatnonzero(part_of_row == part) for part in range(len(shares)))
    return Split(train, validation, test)


def fold_rows(rows: Rows, *, folds: int, seed: int, groups: Sequence[str] | None = None) -> tuple[Split, ...]:
    """Return one split per fold: each group is validated in one fold and trained on in the others.

    The folds hold equal shares of every class's rows, as nearly as the groups allow. Their test parts are empty.

    Args:
        groups: see ``split_rows``.

    Raises:
        DataError: the groups do not suffice for every class in every fold.
    """
    fold_of_row = _spread(
        rows, groups or rows.groups, np.full(folds, 1 / folds), seed, f"the {folds} folds (data.folds)"
    )
    return tuple(
        Split(np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold), _NO_ROWS)
        for fold in range(folds)
    )


def read_development(
    data: DataSettings, labels: Sequence[str] | None, split_seed: int, redraw: Redraw | None = None
) -> Development:
    """Read the user's rows, set the test part aside and split the others.

    Args:
        labels: the class names; see ``read_rows``.
        redraw: another draw of the training and validation parts; the test part depends on ``split_seed`` alone.

    A process caches the latest result until the file changes, also for the labels that it found. The choice of test
    rows does not depend on the folds.

    Raises:
        DataError: the data cannot be used.
    """
    stamp: Stamp | None
    try:
        stamp = stamp_of(Path(data.path))
    except (OSError, ValueError):
        # The path names the built-in data, or reading it will raise the right error.
        stamp = None
    wanted = None if labels is None else tuple(labels)
    development = _latest.get((data, wanted, split_seed, redraw, stamp))
    if development is None:
        development = _read_development(data, wanted, split_seed, redraw)
        _latest.clear()
        for names in (wanted, development.rows.class_names):
            _latest[data, names, split_seed, redraw, stamp] = development
    return development


# The latest result, under the labels that were asked for and those that it has.
_latest: dict[tuple[DataSettings, tuple[str, ...] | None, int, Redraw | None, Stamp | None], Development] = {}


def read_test_rows(data: DataSettings, labels: Sequence[str] | None, split_seed: int) -> Rows:
    """Return the rows that no search sees, in the file's order; for use after a configuration is chosen.

    Raises:
        DataError: the data cannot be used.
    """
    rows, split, _ = _read_and_split(data, labels, split_seed)
    return rows.take(split.test)


def _read_development(
    data: DataSettings, labels: tuple[str, ...] | None, split_seed: int, redraw: Redraw | None
) -> Development:
    everything, split, tied = _read_and_split(data, labels, split_seed)
    development_rows = np.sort(np.concatenate([split.train, split.validation]))
    rows = everything.take(development_rows)
    units = _split_by(data, everything, tied)
    groups = [units[row] for row in development_rows]
    if redraw is not None:
        splits: tuple[Split, ...] = (_redrawn(rows, groups, data, redraw),)
    elif data.folds is None:
        train, validation = (np.searchsorted(development_rows, part) for part in (split.train, split.validation))
        splits = (Split(train, validation, _NO_ROWS),)
    else:
        splits = fold_rows(rows, folds=data.folds, seed=split_seed, groups=groups)
    return Development(
        rows,
        splits,
        everything.fingerprint,
        tied,
        test_labels=everything.labels[split.test],
        test_groups=len({everything.groups[row] for row in split.test}),
    )


def _redrawn(rows: Rows, groups: Sequence[str], data: DataSettings, redraw: Redraw) -> Split:
    """Split the rows outside the test part anew, into parts of the usual shares or by a fold.

    Raises:
        DataError: the groups do not suffice for every class in every part.
    """
    if redraw.folds is not None and redraw.fold is not None:
        return fold_rows(rows, folds=redraw.folds, seed=redraw.seed, groups=groups)[redraw.fold]
    share = data.validation_share / (1 - data.test_share)
    part_of_row = _spread(rows, groups, np.array([1 - share, share]), redraw.seed, "training and validation")
    return Split(np.flatnonzero(part_of_row == 0), np.flatnonzero(part_of_row == 1), _NO_ROWS)


def _read_and_split(data: DataSettings, labels: Sequence[str] | None, split_seed: int) -> tuple[Rows, Split, Tied]:
    rows = read_rows(data, labels)
    tied = tie_equal_texts(rows)
    shares = {"validation_share": data.validation_share, "test_share": data.test_share}
    try:
        split = split_rows(rows, **shares, seed=split_seed, groups=_split_by(data, rows, tied))
    except DataError as error:
        if not tied.texts or data.equal_texts == "apart":
            raise
        raise DataError(
            f"{error}; {tied.texts} texts stand in several groups and tie them together, up to {tied.most_rows} of"
            f" {len(rows)} rows, which data.equal_texts=apart allows"
        ) from None
    return rows, split, tied


def _split_by(data: DataSettings, rows: Rows, tied: Tied) -> tuple[str, ...]:
    return tied.names if data.equal_texts == "together" else rows.groups


def _spread(rows: Rows, groups: Sequence[str], shares: NDArray[np.float64], seed: int, parts: str) -> NDArray[np.int64]:
    """Return the part of each row, ``(rows,)``; ``parts`` names them in errors."""
    names, group_of_row = np.unique(np.array(groups, dtype=object), return_inverse=True)
    classes, class_of_row = np.unique(rows.labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (group_of_row, class_of_row), 1)
    holders = np.count_nonzero(counts, axis=0)
    rarest = int(holders.argmin())
    fewer = ", or lower data.folds" if "data.folds" in parts else ""
    if holders[rarest] < len(shares):
        raise DataError(
            f"class {rows.class_names[classes[rarest]]} occurs in {holders[rarest]} group(s), and {parts} need it in"
            " one each at least; add groups that hold it (or raise data.max_rows), or merge it with another"
            f" class{fewer}"
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
    """Return the part of each group, ``(groups,)``: the most even of several assignments in random orders.

    Return None if none of them gives every part every class.
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
    """Assign groups greedily in ``order``, first as many as every part needs to hold every class.

    ``weights`` is ``(groups, classes)``, each group's share of a class's rows: a rare class counts as much as a common
    one. A group goes to the part that is filled least, for its classes, relative to its share.
    """
    parts = np.full(len(weights), _UNASSIGNED)
    held = np.zeros((len(shares), weights.shape[1]))

    # Counting in the group's own rows brings few groups nearer to the shares, but keeps large groups out of small
    # parts. With many groups the parts come out even without it.
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
