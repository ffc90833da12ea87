"""The columns that a model was trained on, and the criteria that it knows, as its folder stores them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from trainables.data.rows import Rows
from trainables.settings import ColumnNames

_MOST_CRITERIA = 1000


@dataclass(frozen=True)
class ModelInputs:
    """Columns of the rows that a model reads.

    Attributes:
        text: column of the texts.
        criterion: column of the criteria; None if the model reads texts alone.
        criteria: every criterion of the training part, sorted, if all other rows had one of these; None if criteria are
            free texts, such as questions.
    """

    text: str = "text"
    criterion: str | None = "criterion"
    criteria: tuple[str, ...] | None = None

    @classmethod
    def of(cls, columns: ColumnNames, rows: Rows, train: Sequence[int] | np.ndarray) -> Self:
        """Return the inputs of a model that was trained on some rows, given by number, and chosen and scored on all."""
        if rows.criteria is None:
            return cls(columns.text, None)
        trained = {rows.criteria[row] for row in train}
        is_closed = trained == set(rows.criteria) and len(trained) <= min(_MOST_CRITERIA, len(train) // 2)
        return cls(columns.text, columns.criterion, tuple(sorted(trained)) if is_closed else None)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return the inputs that ``to_json`` described."""
        criteria = value["criteria"]
        return cls(value["text"], value["criterion"], None if criteria is None else tuple(criteria))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
