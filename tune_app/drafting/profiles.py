"""Profiles of a file's columns: their values' kinds and sizes, from which their roles are guessed."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from trainables import cells

if TYPE_CHECKING:
    import pandas as pd

_MOST_READ = 20_000
_MOST_LISTED = 1000
_URL = re.compile(r"(https?://|www\.)\S+$")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?$")


@dataclass(frozen=True, eq=False)
class Profile:
    """Content of one column.

    Attributes:
        filled: number of cells that are not blank.
        distinct: number of different values among them; 0 if cells hold lists or objects.
        sample: an even sample of the filled cells, without surrounding blanks; empty if cells hold lists or objects.
        values: the different values in order of appearance, at most 1,001.
        series: the column itself.
    """

    name: str
    filled: int
    distinct: int
    sample: tuple[str, ...]
    values: tuple[str, ...]
    series: "pd.Series[str]"

    @property
    def rows(self) -> int:
        return len(self.series)

    def cells(self) -> list[object]:
        """Return every cell as read, None for a missing one."""
        return [
            None if missing else cell for cell, missing in zip(self.series.tolist(), self.series.isna(), strict=True)
        ]

    @property
    def is_nested(self) -> bool:
        """True if cells hold lists or objects."""
        return self.filled > 0 and not self.sample

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The sampled cells as numbers; empty if one is none."""
        found = tuple(_number(cell) for cell in self.sample)
        return tuple(number for number in found if number is not None) if None not in found else ()

    @property
    def is_whole(self) -> bool:
        """True if the cells are whole numbers."""
        return bool(self.numbers) and all(number.is_integer() for number in self.numbers)

    @property
    def fraction(self) -> str | None:
        """The first sampled number that is not whole, if the cells are numbers."""
        return next(
            (cell for cell, number in zip(self.sample, self.numbers, strict=False) if not number.is_integer()), None
        )

    @cached_property
    def mean_characters(self) -> float:
        return sum(map(len, self.sample)) / len(self.sample) if self.sample else 0.0

    @cached_property
    def mean_words(self) -> float:
        return sum(len(cell.split()) for cell in self.sample) / len(self.sample) if self.sample else 0.0

    @property
    def holds_texts(self) -> bool:
        """True if the cells look like texts: mostly several words, or long without blanks, as in Chinese."""
        if not self.sample or self.numbers:
            return False
        if sum(bool(_URL.match(cell) or _DATE.match(cell)) for cell in self.sample) > len(self.sample) / 2:
            return False
        several = sum(" " in cell or not cell.isascii() for cell in self.sample)
        return several >= len(self.sample) / 2 and (self.mean_words >= 3 or self.mean_characters >= 15)


def profiles(frame: "pd.DataFrame") -> dict[str, Profile]:
    """Return the profile of each column that is not empty, by name."""
    found = (_profile(str(name), frame[name]) for name in frame.columns)
    return {profile.name: profile for profile in found if profile.filled}


def _profile(name: str, series: "pd.Series[str]") -> Profile:
    filled = series[series.notna()]
    try:
        values = filled.unique().tolist()
        # Blank cells are empty in any format.
        blank = [value for value in values if isinstance(value, str) and not value.strip()]
        filled = filled[~filled.isin(blank)] if blank else filled
        step = max(1, len(filled) // _MOST_READ)
        sample = tuple(_text(cell) for cell in filled.iloc[::step].tolist())
        listed = dict.fromkeys(_text(value) for value in values[: _MOST_LISTED + 1] if value not in blank)
        return Profile(name, len(filled), len(values) - len(blank), sample, tuple(listed), series)
    except (TypeError, ValueError, NotImplementedError):
        # Lists and objects cannot be compared, and are no texts.
        return Profile(name, len(filled), 0, (), (), series)


def _text(cell: object) -> str:
    return (cells.written(cell) or "").strip()


def _number(cell: str) -> float | None:
    with suppress(ValueError):
        number = float(cell)
        return number if math.isfinite(number) else None
    return None
