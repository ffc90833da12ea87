"""The texts and criteria that a model reads of rows, and why a row cannot be read."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from trainables import cells
from trainables.data.errors import DataError
from trainables.data.model_inputs import ModelInputs
from trainables.data.streams import Record, Window


@dataclass(frozen=True)
class ReadRows:
    """What a model reads of a window.

    Attributes:
        places: places of the readable rows in the window, in their order.
        texts: the text of each readable row.
        criteria: the criterion of each; None if the model reads texts alone.
        faults: place → why the row cannot be read.
    """

    places: Sequence[int]
    texts: Sequence[str]
    criteria: Sequence[str] | None
    faults: Mapping[int, str]


class RowReader:
    """Reader of the columns that a model needs.

    Args:
        inputs: the model's inputs; see ``inputs_in``.
    """

    def __init__(self, inputs: ModelInputs) -> None:
        self._inputs = inputs
        self._known = None if inputs.criteria is None else frozenset(inputs.criteria)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in (self._inputs.text, self._inputs.criterion) if name is not None)

    def read(self, window: Window) -> ReadRows:
        """Return the texts and criteria of the rows that have them."""
        places, texts, criteria, faults = list[int](), list[str](), list[str](), dict(window.faults)
        for place, record in enumerate(window.records):
            if place in faults:
                continue
            try:
                text = _parsed(record, self._inputs.text)
                criterion = None if self._inputs.criterion is None else self._criterion(record, self._inputs.criterion)
            except ValueError as error:
                faults[place] = str(error)
                continue
            places.append(place)
            texts.append(text)
            if criterion is not None:
                criteria.append(criterion)
        return ReadRows(places, texts, None if self._inputs.criterion is None else criteria, faults)

    def _criterion(self, record: Record, column: str) -> str:
        criterion = _parsed(record, column)
        if self._known is not None and criterion not in self._known:
            shown = ", ".join(map(repr, sorted(self._known)[:5])) + (", …" if len(self._known) > 5 else "")
            raise ValueError(
                f"column {column!r}: {criterion[:100]!r} is none of the criteria that the model was trained on"
                f" ({shown}); correct it, or allow any criterion"
            )
        return criterion


def _parsed(record: Record, column: str) -> str:
    """Return a text as it stands in its cell.

    Raises:
        ValueError: there is no usable text; the message names the column.
    """
    if column not in record:
        raise ValueError(f"has no column {column!r}; add it")
    cell = record[column]
    try:
        # NaN is the only value that differs from itself: pandas' missing value.
        return cells.text(None if cell != cell else cell)
    except ValueError as error:
        raise ValueError(f"column {column!r}: {error}") from None


def inputs_in(
    stored: ModelInputs | None,
    named: Mapping[str, str],
    columns: Sequence[str],
    source: str,
    naming: str,
    *,
    any_criterion: bool = False,
) -> ModelInputs:
    """Return the columns to read from data with these columns.

    Args:
        stored: the columns of the training data; None if they are unknown, where a criterion is read if there is one.
        named: role (``text`` or ``criterion``) → column, as a person named them.
        columns: names of the data's columns.
        source: name of the data in messages.
        naming: how a person names the column of ``{role}``, for messages.
        any_criterion: accept criteria that the model was not trained on.

    Raises:
        DataError: a needed column is missing, or the model reads no criteria and one was named.
    """
    inputs = stored or ModelInputs()
    if any_criterion:
        inputs = replace(inputs, criteria=None)
    if stored is None and "criterion" not in named and inputs.criterion not in columns:
        inputs = replace(inputs, criterion=None)
    if inputs.criterion is None and "criterion" in named:
        raise DataError("criterion: the model reads texts alone; leave the criterion out")
    inputs = replace(inputs, text=named.get("text", inputs.text), criterion=named.get("criterion", inputs.criterion))
    needed = {"text": inputs.text, "criterion": inputs.criterion}
    for role, column in needed.items():
        if column is not None and column not in columns:
            shown = ", ".join(map(repr, columns[:12])) or "none"
            raise DataError(
                f"{source} has no column {column!r}, its columns are {shown}; name the right one with"
                f" {naming.format(role=role)}"
            )
    return inputs


def require_free(source: str, present: Collection[str], added: Iterable[str]) -> None:
    """Reject an input with a column that the output adds.

    Raises:
        DataError: there is one.
    """
    taken = [name for name in added if name in present]
    if taken:
        raise DataError(
            f"{source}: the column {taken[0]!r} would be overwritten by the predictions; rename it or leave it out"
        )
