"""Windows of rows with their predictions, one after the other; nothing is kept of them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainables.data.errors import DataError
from trainables.data.model_inputs import ModelInputs
from trainables.data.streams import Window
from trainables.devices.cpu import CpuDevice
from trainables.devices.current import current_device
from trainables.devices.device import MemoryDevice
from trainables.machine import MachineFiles
from trainables.prediction.columns import ERROR, Cell, Columns, as_columns, column_names, kind_of
from trainables.prediction.predictor import Predictor, TokenisedWindow
from trainables.prediction.request import Resources
from trainables.prediction.rows import ReadRows, RowReader
from trainables.saved import SavedModel, load_model_folder

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class _ReadWindow:
    window: Window
    read: ReadRows
    tokenised: TokenisedWindow | None


class WindowPredictor:
    """A saved model that adds columns to windows of rows.

    Attributes:
        saved: the model.
        kinds: column that predictions add → type of its cells.

    Raises:
        ModelLoadError: the folder holds no saved model, or is damaged.
        DataError: a card is asked for, and there is none.
    """

    def __init__(self, folder: Path, resources: Resources) -> None:
        self.saved: SavedModel = load_model_folder(folder)
        self._resources = resources
        self._device = _device(resources)
        self._predictor: Predictor | None = None
        task = self.saved.settings.task
        self.kinds = {name: kind_of(name, task) for name in column_names(task)}

    def added(self, *, skip_bad: bool) -> dict[str, type]:
        """Return every column that is added, with the type of its cells; see ``predicted`` for ``skip_bad``."""
        return {**self.kinds, **({ERROR: str} if skip_bad else {})}

    @property
    def inputs(self) -> ModelInputs:
        """The columns of the training data that the model reads; the usual ones if the folder does not name them."""
        return self.saved.inputs or ModelInputs()

    @property
    def device(self) -> MemoryDevice:
        return self._device

    def prepare(self) -> None:
        """Move the model to its device and plan its passes, unless that was done; the first prediction does it too.

        Raises:
            MemoryExhaustedError: the model alone exceeds the budget.
        """
        if self._predictor is None:
            self._predictor = Predictor(
                self.saved,
                self._device,
                MachineFiles(),
                precision=self._resources.precision,
                is_limited=self._resources.budget_gib is not None,
            )

    def predicted(
        self,
        windows: Iterable[Window],
        reader: RowReader,
        *,
        source: str,
        skip_bad: bool,
        done: Callable[[float], None] = lambda rows: None,
    ) -> Iterator[tuple[Window, Columns]]:
        """Yield each window with the columns that its predictions add, one cell for each row.

        Args:
            source: name of the data in messages.
            skip_bad: give a row that cannot be read no prediction, and the reason in the column ``error``.
            done: called now and then with the number of finished rows of the current window.

        Raises:
            DataError: a row cannot be read.
            MemoryExhaustedError: not even one row fits into the budget.
        """
        with self._enforced():
            self.prepare()
            stages = self._read(windows, reader, source, skip_bad)
            if self._device.torch_device.type == "cuda":
                # The card computes meanwhile. On the CPU both would only wait for each other.
                stages = read_ahead(stages)
            for stage in stages:
                yield stage.window, self._columns(stage, skip_bad, done)

    def _enforced(self) -> AbstractContextManager[None]:
        # Counting every tensor of the CPU takes time, and is only needed for a limit.
        limited = self._resources.budget_gib is not None or self._device.torch_device.type == "cuda"
        return self._device.enforce() if limited else nullcontext()

    def _read(self, windows: Iterable[Window], reader: RowReader, source: str, skip_bad: bool) -> Iterator[_ReadWindow]:
        assert self._predictor is not None
        for window in windows:
            read = reader.read(window)
            if read.faults and not skip_bad:
                raise fault_error(source, window, read)
            yield _ReadWindow(
                window, read, self._predictor.tokenised(read.texts, read.criteria) if read.places else None
            )

    def _columns(self, stage: _ReadWindow, skip_bad: bool, done: Callable[[float], None]) -> Columns:
        assert self._predictor is not None
        window, read = stage.window, stage.read
        columns: Columns = {name: [None] * len(window) for name in self.kinds}
        if stage.tokenised is not None:
            answers = self._predictor.answers(stage.tokenised, lambda share: done(share * len(window)))
            for name, cells in as_columns(answers, read.texts, self.saved.settings.task).items():
                for place, cell in zip(read.places, cells, strict=True):
                    columns[name][place] = cell
        if skip_bad:
            errors: list[Cell] = [read.faults.get(place) for place in range(len(window))]
            columns[ERROR] = errors
        return columns


def fault_error(source: str, window: Window, read: ReadRows) -> DataError:
    """Return the error about the first bad row of a window that has one."""
    place = min(read.faults)
    return DataError(f"{source}: row {window.first + place:,}, {read.faults[place]}")


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, the next of which another thread is making meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="rows") as thread:
        upcoming = thread.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = thread.submit(next, items, None)
            yield item


def _device(resources: Resources) -> MemoryDevice:
    if resources.device == "cpu":
        return CpuDevice(resources.budget_gib)
    device = current_device(resources.budget_gib)
    if resources.device == "cuda" and device.torch_device.type != "cuda":
        raise DataError(
            "device: cuda was asked for, and torch finds no CUDA card here; leave it out, or see headroom doctor"
        )
    return device
