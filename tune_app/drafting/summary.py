"""Figures of the data that decide a draft's settings, with the lines that show them."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trainables.data.split import Development
    from trainables.settings import TrialSettings

PERCENTILES = (50, 90, 95, 99, 100)
_MOST_CLASSES = 20
_FEW_ROWS_OF_CLASS = 10
_MANY_CLASSES = 50
_MOST_CUT = 0.05
_LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)
_MOST_LETTERS = 100_000


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths of uncut inputs, special tokens included, ``(inputs,)``.

    Attributes:
        model: model whose tokenizer counted them.
        rows: rows that they are taken from: all of them, or more.
    """

    tokens: NDArray[np.int64]
    model: str
    rows: int

    def percentile(self, share: int) -> int:
        return int(np.percentile(self.tokens, share, method="higher"))

    def cut_share(self, max_length: int) -> float:
        """Return the share of inputs that are longer."""
        return float(np.mean(self.tokens > max_length))

    @property
    def suggested(self) -> int:
        """The smallest usual length that cuts few inputs, or the largest."""
        return next((length for length in _LENGTHS if self.cut_share(length) <= _MOST_CUT), _LENGTHS[-1])

    def lines(self) -> list[str]:
        """Return lines that show the lengths."""
        measured = "every row" if len(self.tokens) == self.rows else f"{len(self.tokens):,} of {self.rows:,} rows"
        parts = ", ".join(f"{'longest' if p == 100 else f'{p}%'} {self.percentile(p):,}" for p in PERCENTILES)
        return [f"Length in tokens of {self.model}, of {measured} outside the test part: {parts}."]


@dataclass(frozen=True, eq=False)
class Summary:
    """Figures of the data.

    Attributes:
        rows_of_class: number of rows of each class, over all parts, in the order of the classes.
        train_rows: rows of the training part.
        validation_rows: rows of the validation part.
        marks_evidence: whether a row belongs to one of two classes exactly if it holds evidence.
        foreign_letters: share of the texts' letters that are not Latin.
    """

    rows_of_class: dict[str, int]
    train_rows: int
    validation_rows: int
    marks_evidence: bool
    foreign_letters: float
    lengths: Lengths

    @property
    def rows(self) -> int:
        return sum(self.rows_of_class.values())

    @property
    def imbalance(self) -> float:
        """Ratio of the rows of the most frequent class to those of the rarest."""
        counts = self.rows_of_class.values()
        return max(counts) / min(counts)

    def class_lines(self) -> list[str]:
        """Return a table of the classes; of many, only the most frequent and the rarest."""
        ranked = sorted(self.rows_of_class.items(), key=lambda item: -item[1])
        shown = [name for name, _ in ranked]
        if len(shown) > _MOST_CLASSES:
            shown = [*shown[: _MOST_CLASSES - 5], *shown[-5:]]
        width = max(map(len, [*shown, "class"]))
        lines = [f"{'class':<{width}}  {'rows':>9}   share"]
        lines += [
            f"{name:<{width}}  {self.rows_of_class[name]:>9,}  {self.rows_of_class[name] / self.rows:>6.1%}"
            for name in shown
        ]
        left = len(ranked) - len(shown)
        return [*lines, *([f"and {left:,} more classes between them"] if left else [])]

    def warnings(self) -> list[str]:
        """Return lines on what the data does not suffice for."""
        small = [name for name, rows in self.rows_of_class.items() if rows < _FEW_ROWS_OF_CLASS]
        lines = []
        if small:
            named = ", ".join(map(repr, small[:5])) + (", …" if len(small) > 5 else "")
            lines.append(
                f"Warning: fewer than {_FEW_ROWS_OF_CLASS} rows of {named}: their scores say little; merge them."
            )
        if len(self.rows_of_class) > _MANY_CLASSES:
            lines.append(f"Warning: {len(self.rows_of_class):,} classes; a label column seldom holds so many.")
        return lines


def summarise(development: "Development", settings: "TrialSettings", model: str) -> Summary:
    """Summarise the data.

    Args:
        model: model whose tokenizer counts tokens.

    Raises:
        DataError, UnknownModelError, ModelLoadError: see ``trainables.inputs.input_lengths``.
    """
    from trainables.inputs import input_lengths
    from trainables.machine import MachineFiles

    rows, split = development.rows, development.splits[0]
    counts = np.bincount(rows.labels, minlength=len(rows.class_names))
    counts = counts + np.bincount(development.test_labels, minlength=len(rows.class_names))
    return Summary(
        rows_of_class=dict(zip(rows.class_names, counts.tolist(), strict=True)),
        train_rows=len(split.train),
        validation_rows=len(split.validation),
        marks_evidence=marks_evidence(rows.labels, rows.evidence),
        foreign_letters=foreign_letters(rows.texts),
        lengths=Lengths(input_lengths(settings, model, MachineFiles().tokenizers), model, len(rows)),
    )


def marks_evidence(labels: NDArray[np.int64], evidence: NDArray[np.int64]) -> bool:
    """Return whether the rows with evidence are one class, and the rows without another.

    Args:
        labels: class of each row, ``(rows,)``.
        evidence: span of each row, ``(rows, 2)``; negative where there is none.
    """
    has = evidence[:, 0] >= 0
    with_it, without = set(labels[has].tolist()), set(labels[~has].tolist())
    return len(with_it) == len(without) == 1 and with_it != without


def foreign_letters(texts: Sequence[str]) -> float:
    """Return the share of letters that are not Latin, in some of the texts."""
    letters: Counter[bool] = Counter()
    for text in texts[:: max(1, len(texts) // 200)]:
        letters.update(_is_latin(sign) for sign in text[:500] if sign.isalpha())
        if letters.total() > _MOST_LETTERS:
            break
    return letters[False] / max(1, letters.total())


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")
