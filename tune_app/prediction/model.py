"""A saved model in memory, which predicts frames and dictionaries."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import pandas as pd

from tune_app.errors import UserError
from tune_app.folders import check_own_folders

if TYPE_CHECKING:
    from trainables.data.streams import Window
    from trainables.prediction.columns import Columns
    from trainables.prediction.rows import RowReader

Row = Mapping[str, Any]

ROLES = ("text", "criterion")
"""Roles of the columns that a model reads."""

_DTYPES = {str: "object", int: "Int64", float: "float64"}


class Model:
    """Saved model that predicts rows. Get one from ``tune_app.load_model``.

    Attributes:
        folder: the model's folder.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: Literal["cpu", "cuda"] | None,
        budget_gib: float | None,
        precision: Literal["auto", "fp32", "bf16"],
    ) -> None:
        from trainables.prediction.request import Resources
        from trainables.prediction.windows import WindowPredictor

        check_own_folders()
        self.folder = Path(folder)
        with prediction_errors():
            self._predictor = WindowPredictor(self.folder, Resources(device, budget_gib, precision))

    def __repr__(self) -> str:
        return f"<Model {self.folder}: {self.task}, adds {', '.join(self.adds)}>"

    @property
    def task(self) -> str:
        """Name of the model's task."""
        return self._predictor.saved.settings.task.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self._predictor.saved.class_names

    @property
    def reads(self) -> dict[str, str]:
        """Role (``text``, ``criterion``) → column of the training data; a criterion only if the model reads one."""
        inputs = self._predictor.inputs
        return {"text": inputs.text, **({} if inputs.criterion is None else {"criterion": inputs.criterion})}

    @property
    def known_criteria(self) -> tuple[str, ...] | None:
        """The criteria that rows may have; None if any will do."""
        return self._predictor.inputs.criteria

    @property
    def kinds(self) -> dict[str, type]:
        """Column that predictions add → type of its cells: ``str``, ``int`` or ``float``."""
        return dict(self._predictor.kinds)

    @property
    def adds(self) -> tuple[str, ...]:
        """Names of the columns that predictions add."""
        return tuple(self._predictor.kinds)

    @overload
    def predict(
        self,
        rows: pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        any_criterion: bool = False,
        skip_bad: bool = False,
    ) -> pd.DataFrame: ...

    @overload
    def predict(
        self,
        rows: Iterable[Row],
        *,
        columns: Mapping[str, str] | None = None,
        any_criterion: bool = False,
        skip_bad: bool = False,
    ) -> Iterator[dict[str, Any]]: ...

    def predict(
        self,
        rows: pd.DataFrame | Iterable[Row],
        *,
        columns: Mapping[str, str] | None = None,
        any_criterion: bool = False,
        skip_bad: bool = False,
    ) -> pd.DataFrame | Iterator[dict[str, Any]]:
        """Return the rows with the columns of ``adds`` beside their own.

        A frame gives a new frame with the same index. Dictionaries give an iterator of new dictionaries, in their
        order; it reads some thousand rows ahead and keeps no others in memory.

        Args:
            columns: role (``text``, ``criterion``) → name of the column, where it is not the training data's.
            any_criterion: predict rows with criteria that the model was not trained on, too.
            skip_bad: give a row that cannot be read no prediction, and the reason in a column ``error``.

        Raises:
            UserError: a column is missing or would be overwritten, a row cannot be read, or the memory does not
                suffice. An iterator raises it when it comes to the row.
        """
        named = checked_roles(columns or {})
        if isinstance(rows, pd.DataFrame):
            return self._predicted_frame(rows, named, any_criterion, skip_bad)
        return self._predicted_rows(rows, named, any_criterion, skip_bad)

    def _predicted_frame(
        self, frame: pd.DataFrame, named: Mapping[str, str], any_criterion: bool, skip_bad: bool
    ) -> pd.DataFrame:
        from trainables.data.streams import WINDOW_ROWS, Window

        with prediction_errors():
            reader = self._reader(named, [str(name) for name in frame.columns], any_criterion, skip_bad)
        read = reader.columns
        cells = {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in read}

        def windows() -> "Iterator[Window]":
            for start in range(0, len(frame), WINDOW_ROWS):
                part = [column[start : start + WINDOW_ROWS] for column in cells.values()]
                yield Window(start + 1, [dict(zip(read, row, strict=True)) for row in zip(*part, strict=True)])

        kinds = self._predictor.added(skip_bad=skip_bad)
        added: dict[str, list[Any]] = {name: [] for name in kinds}
        with prediction_errors():
            for _, columns in self._predicted(windows(), reader, "the frame", skip_bad):
                for name, of_window in columns.items():
                    added[name] += of_window
        return frame.assign(**{name: _series(values, kinds[name], frame.index) for name, values in added.items()})

    def _predicted_rows(
        self, rows: Iterable[Row], named: Mapping[str, str], any_criterion: bool, skip_bad: bool
    ) -> Iterator[dict[str, Any]]:
        from trainables.data.streams import WINDOW_ROWS, Window

        left = iter(rows)
        ahead = [dict(row) for row in islice(left, WINDOW_ROWS)]
        if not ahead:
            return

        def windows() -> "Iterator[Window]":
            records, first = ahead, 1
            while records:
                yield Window(first, records)
                first, records = first + len(records), [dict(row) for row in islice(left, WINDOW_ROWS)]

        with prediction_errors():
            reader = self._reader(
                named, list(dict.fromkeys(name for row in ahead for name in row)), any_criterion, skip_bad
            )
            for window, columns in self._predicted(windows(), reader, "the rows", skip_bad):
                for place, record in enumerate(window.records):
                    yield {**record, **{name: column[place] for name, column in columns.items()}}

    def _reader(self, named: Mapping[str, str], present: list[str], any_criterion: bool, skip_bad: bool) -> "RowReader":
        from trainables.prediction.rows import RowReader, inputs_in, require_free

        reader = RowReader(
            inputs_in(
                self._predictor.saved.inputs,
                named,
                present,
                "the data",
                "columns={{'{role}': …}}",
                any_criterion=any_criterion,
            )
        )
        require_free("the data", present, self._predictor.added(skip_bad=skip_bad))
        return reader

    def _predicted(
        self, windows: "Iterator[Window]", reader: "RowReader", source: str, skip_bad: bool
    ) -> "Iterator[tuple[Window, Columns]]":
        return self._predictor.predicted(windows, reader, source=source, skip_bad=skip_bad)


def _series(values: list[Any], kind: type, index: pd.Index) -> "pd.Series[Any]":
    # Whole numbers without gaps stay comparable with the data's own.
    dtype = "int64" if kind is int and None not in values else _DTYPES[kind]
    return pd.Series(values, index=index, dtype=dtype)


def checked_roles(columns: Mapping[str, str]) -> Mapping[str, str]:
    """Return the columns by role as given.

    Raises:
        UserError: a name is no role.
    """
    for role in columns:
        if role not in ROLES:
            raise UserError(f"columns: {role!r} is no role; give {' or '.join(ROLES)}")
    return columns


@contextmanager
def prediction_errors() -> Iterator[None]:
    """Turn an error about the model, the data or the memory into one for a person.

    Raises:
        UserError: the block raised such an error.
    """
    from trainables.data.errors import DataError
    from trainables.devices.errors import MemoryExhaustedError, is_out_of_memory
    from trainables.models.checkpoint import ModelLoadError

    try:
        yield
    except (DataError, ModelLoadError) as error:
        raise UserError(str(error)) from None
    except MemoryExhaustedError as error:
        raise UserError(f"budget_gib: not even one row fits ({error}); raise the budget, or free memory") from None
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"budget_gib: the model does not fit ({str(error).splitlines()[0]}); raise the budget"
        ) from None
