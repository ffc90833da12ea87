"""The user's rows: a data file read into one form, with every cell checked before a trial needs it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainables import cells
from trainables.data.errors import DataError
from trainables.data.labels import read_labels
from trainables.data.quotes import require_no_swallowed_rows
from trainables.data.table import Table, listed, read_table
from trainables.settings import DataSettings

__all__ = ["DataError", "Rows", "read_rows", "require_evidence", "unlabelled_rows"]

_NO_EVIDENCE = -1
_FEWEST_GROUPS = 3  # training, validation and test


@dataclass(frozen=True, eq=False)
class Rows:
    """Checked (text, criterion) pairs, one entry per row in each column, in the file's order.

    ``criteria`` is ``None`` if the data holds texts alone. ``labels`` is ``(rows,)``. ``evidence`` is ``(rows, 2)``:
    the first character and the one after the last, counted in the text, or -1 and -1. ``remarks`` name surprising
    choices made when the file was read.
    """

    texts: tuple[str, ...]
    criteria: tuple[str, ...] | None
    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    evidence: NDArray[np.int64]
    class_names: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content in order; equal content has an equal fingerprint, whatever its file."""
        digest = hashlib.sha256()
        for name, column in (("text", self.texts), ("criterion", self.criteria), ("group", self.groups)):
            digest.update(f"{name}:{'absent' if column is None else len(column)}\n".encode())
            for value in column or ():
                encoded = value.encode()
                # The length distinguishes ("ab", "c") from ("a", "bc").
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(self.evidence.astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """Return the rows at ``indices``, in that order."""
        return replace(
            self,
            texts=tuple(self.texts[index] for index in indices),
            criteria=None if self.criteria is None else tuple(self.criteria[index] for index in indices),
            labels=self.labels[indices],
            groups=tuple(self.groups[index] for index in indices),
            evidence=self.evidence[indices],
        )

    def followed_by(self, others: "Rows") -> "Rows":
        """Return these rows followed by others of the same file."""
        criteria = None
        if self.criteria is not None and others.criteria is not None:
            criteria = self.criteria + others.criteria
        return replace(
            self,
            texts=self.texts + others.texts,
            criteria=criteria,
            labels=np.concatenate([self.labels, others.labels]),
            groups=self.groups + others.groups,
            evidence=np.concatenate([self.evidence, others.evidence]),
        )


def unlabelled_rows(texts: Sequence[str], criteria: Sequence[str] | None, class_names: Sequence[str]) -> Rows:
    """Return rows whose labels, groups and evidence are unknown; all labels are 0 and mean nothing."""
    return Rows(
        texts=tuple(texts),
        criteria=None if criteria is None else tuple(criteria),
        labels=np.zeros(len(texts), dtype=np.int64),
        groups=("",) * len(texts),
        evidence=np.full((len(texts), 2), _NO_EVIDENCE, dtype=np.int64),
        class_names=tuple(class_names),
    )


def read_rows(data: DataSettings, labels: Sequence[str] | None = None) -> Rows:
    """Read and check ``data.path`` (``demo``: the built-in data).

    Args:
        labels: the class names in their order; None finds them in the data.

    Raises:
        DataError: the file, a column or a cell cannot be used, or the rows do not suffice for training.
    """
    table = read_table(data.path, data.columns)
    require_no_swallowed_rows(table)
    rows = _checked_rows(table, labels)
    if data.max_rows is not None:
        rows = _whole_groups(rows, data.max_rows)
    _require_learnable(rows, data)
    return rows


def _checked_rows(table: Table, names: Sequence[str] | None) -> Rows:
    texts = table.parse("text", cells.text)
    criteria = tuple(table.parse("criterion", cells.text)) if table.has("criterion") else None
    labels = read_labels(table, names)
    has_groups = table.has("group_id")
    groups = table.parse("group_id", cells.group) if has_groups else _groups_of_one(texts)
    return Rows(
        texts=tuple(texts),
        criteria=criteria,
        labels=labels.numbers,
        groups=tuple(groups),
        evidence=_evidence(table, texts),
        class_names=labels.class_names,
        remarks=(*_remarks(table), *(_zeros_remark(table, groups) if has_groups else ())),
    )


def _groups_of_one(texts: Sequence[str]) -> list[str]:
    """Return a name for each row that depends on its text alone, so files in another order are split alike."""
    seen: Counter[str] = Counter()
    names = []
    for text in texts:
        seen[text] += 1
        names.append(f"{hashlib.sha256(text.encode()).hexdigest()[:24]}-{seen[text]}")
    return names


def _remarks(table: Table) -> tuple[str, ...]:
    """Return one line for each surprising choice made when the file was read."""
    remarks = []
    if table.columns.criterion is None:
        remarks.append("texts without criteria (data.columns.criterion is null)")
    elif not table.has("criterion"):
        remarks.append(f"texts without criteria: the data has no column {table.columns.criterion!r}")
    if table.columns.group_id is None:
        remarks.append("every row is its own group (data.columns.group_id is null)")
    elif not table.has("group_id"):
        remarks.append(f"every row is its own group: the data has no column {table.columns.group_id!r}")
    if table.unread:
        remarks.append(f"columns that are not read: {listed(table.unread)}")
    return tuple(remarks)


def _zeros_remark(table: Table, groups: Sequence[str]) -> list[str]:
    """Return a line on group ids that differ in leading zeros alone; none without such ids."""
    ids_of_number: dict[str, list[str]] = {}
    for group in sorted(set(groups)):
        if group.isdecimal():
            ids_of_number.setdefault(group.lstrip("0"), []).append(group)
    alike = [ids for ids in ids_of_number.values() if len(ids) > 1]
    if not alike:
        return []
    pair = " and ".join(map(repr, alike[0][:2]))
    return [
        f"column {table.columns.group_id!r}: {pair} are two groups ({len(alike):,} such numbers); write the leading"
        " zeros everywhere or nowhere where they mean the same"
    ]


def _evidence(table: Table, texts: list[str]) -> NDArray[np.int64]:
    evidence = np.full((len(texts), 2), _NO_EVIDENCE, dtype=np.int64)
    if not table.has("evidence_start"):
        return evidence
    starts = table.parse("evidence_start", cells.integer)
    ends = table.parse("evidence_end", cells.integer)
    for index, (text, start, end) in enumerate(zip(texts, starts, ends, strict=True)):
        if start is None and end is None:
            continue
        if start is None or end is None:
            field = "evidence_start" if start is None else "evidence_end"
            raise table.error(index + 1, field, "is empty, but the other end of the evidence is given; give both")
        if not 0 <= start < end <= len(text):
            field = "evidence_end" if 0 <= start < len(text) else "evidence_start"
            problem = f"the evidence from {start} to {end} is not within the text's {len(text)} characters"
            remedy = "write its first character, counted from 0, and the one after its last"
            raise table.error(index + 1, field, f"{problem}; {remedy}")
        evidence[index] = start, end
    return evidence


def _whole_groups(rows: Rows, max_rows: int) -> Rows:
    """Return as many whole groups as fit into ``max_rows`` rows, independent of their position in the file."""
    sizes = Counter(rows.groups)
    taken: set[str] = set()
    room = max_rows
    # Files are often sorted, so their first groups would be a biased sample. The order of hashes is not biased.
    for group in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if sizes[group] <= room:
            taken.add(group)
            room -= sizes[group]
    if not taken:
        raise DataError(
            f"data.max_rows={max_rows} is less than the smallest group, and groups are taken whole; "
            f"raise it to {min(sizes.values())} at least"
        )
    return rows.take(np.flatnonzero([group in taken for group in rows.groups]))


def require_evidence(rows: Rows, data: DataSettings) -> None:
    """Check that there are evidence spans to train and score on.

    Raises:
        DataError: no row has evidence.
    """
    if (rows.evidence[:, 0] == _NO_EVIDENCE).all():
        columns = data.columns
        raise DataError(
            f"{data.path} holds no evidence, which this task learns to find; fill in the columns"
            f" {columns.evidence_start!r} and {columns.evidence_end!r}, name them otherwise with"
            " data.columns.evidence_start and data.columns.evidence_end, or set task.name=criteria"
        )


def _require_learnable(rows: Rows, data: DataSettings) -> None:
    what = data.path if data.max_rows is None else f"{data.path} cut to data.max_rows={data.max_rows}"
    more = "add rows" if data.max_rows is None else "raise data.max_rows"
    groups = len(set(rows.groups))
    if groups < _FEWEST_GROUPS:
        raise DataError(
            f"{what} holds {groups} group(s), and training, validation and test need one each at least; "
            f"{more}, or name the column of finer groups with data.columns.group_id"
        )
    if len(rows.class_names) < 2:
        raise DataError(
            f"{what} holds only the class {rows.class_names[0]}, so there is nothing to learn; add rows of another"
        )
    counts = np.bincount(rows.labels, minlength=len(rows.class_names))
    if not counts.all():
        raise DataError(f"{what} holds no row of the class {rows.class_names[counts.argmin()]}; {more}")
