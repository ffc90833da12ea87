"""Predictions from one file to another, in this order: check every row, then predict and write window by window.

Memory holds a window or two, however long the file is. The input is read before it is predicted, so that a bad last row
is found before the first prediction, and the time left is known; JSONL once more, for the names of its columns.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from trainables.content import model_fingerprint
from trainables.data.errors import DataError
from trainables.data.model_inputs import ModelInputs
from trainables.data.streams import RowFile, Window
from trainables.prediction.outputs import Output, output_for
from trainables.prediction.partial import Partial, discard, opened_partial
from trainables.prediction.request import Ended, Request, suffix_of
from trainables.prediction.rows import RowReader, inputs_in, require_free
from trainables.prediction.windows import WindowPredictor, fault_error
from trainables.scratch import scratch_folder


class Watcher(Protocol):
    """Watcher of a run."""

    def doing(self, what: str) -> None:
        """Note what the run does before its first prediction."""
        ...

    def begins(self, rows: int, resumed: int) -> None:
        """Note that predicting begins, after the first ``resumed`` of ``rows`` rows."""
        ...

    def done(self, rows: float) -> None:
        """Note how many rows of the input are predicted."""
        ...


def predict_file(request: Request, watcher: Watcher, stream: BinaryIO | None = None) -> Ended:
    """Predict every row of a file, and write its rows and columns with the predictions beside them.

    ``request.out`` appears whole at the end. Until then its rows are in a file beside it, where ``resume`` finds them.

    Args:
        stream: binary stream for the output where ``request.out`` is None.

    Raises:
        DataError: the input, a row, a column or the output file cannot be used.
        ModelLoadError: the folder holds no saved model, or is damaged.
        MemoryExhaustedError: not even one row fits into the budget.
        OSError: the output cannot be written.
    """
    if request.out is not None:
        suffix_of(request.out)
    watcher.doing("loading the model")
    predictor = WindowPredictor(request.model, request.resources)
    with scratch_folder("predict") as scratch:
        stored = predictor.saved.inputs
        expected = [request.columns.get("text", (stored or ModelInputs()).text)]
        rows = RowFile(request.source, expected, scratch=scratch, called=request.called)
        watcher.doing("checking the rows")
        survey = _surveyed(rows, stored, request)
        require_free(rows.source, survey.titles, predictor.added(skip_bad=request.skip_bad))
        run = _Run(request, predictor, rows, survey, watcher)
        if request.out is None:
            assert stream is not None, "without a file there must be a stream"
            return run.to_stream(stream)
        return run.to_file(request.out)


@dataclass(frozen=True)
class _Survey:
    """The result of reading the whole input once.

    Attributes:
        titles: column → its name in the header.
        inputs: the columns to read.
        bad: number of rows that cannot be read.
    """

    rows: int
    titles: Mapping[str, str]
    inputs: ModelInputs
    bad: int


def _surveyed(file: RowFile, stored: ModelInputs | None, request: Request) -> _Survey:
    titles = dict(file.titles)
    if not titles:
        # Rows of JSONL need not have the same columns.
        for window in file.windows():
            for record in window.records:
                titles.update({name: name for name in record})
    rows = bad = 0
    inputs = inputs_in(
        stored,
        request.columns,
        list(titles),
        file.source,
        "--columns {role}=COLUMN",
        any_criterion=request.any_criterion,
    )
    reader = RowReader(inputs)
    for window in file.windows():
        read = reader.read(window)
        if read.faults and not request.skip_bad:
            raise DataError(f"{fault_error(file.source, window, read)}, or keep such rows with --skip-bad")
        rows, bad = rows + len(window), bad + len(read.faults)
    return _Survey(rows, titles, inputs, bad)


class _Run:
    def __init__(
        self, request: Request, predictor: WindowPredictor, rows: RowFile, survey: _Survey, watcher: Watcher
    ) -> None:
        self._request = request
        self._predictor = predictor
        self._rows = rows
        self._survey = survey
        self._watcher = watcher
        self._added = predictor.added(skip_bad=request.skip_bad)

    def to_stream(self, stream: BinaryIO) -> Ended:
        output = self._output(".csv")
        self._watcher.begins(self._survey.rows, 0)
        header = output.header()
        for _, data in self._encoded(output, self._rows.windows(), 0):
            # The header waits for the first rows, before which the run may still fail.
            stream.write(header + data)
            stream.flush()
            header = b""
        stream.write(header)
        stream.flush()
        return Ended(self._survey.rows, self._survey.bad, 0)

    def to_file(self, out: Path) -> Ended:
        output = self._output(suffix_of(out))
        with opened_partial(out, self._identity(), resume=self._request.resume) as partial:
            resumed, digest = partial.progress.rows, partial.progress.digest
            windows = self._left(partial)
            self._watcher.begins(self._survey.rows, resumed)
            try:
                if not partial.progress.size_bytes and (header := output.header()):
                    partial.append(header, 0, "")
                for window, data in self._encoded(output, windows, resumed):
                    digest = _digest(digest, window)
                    partial.append(data, window.first - 1 + len(window), digest)
                self._watcher.doing("finishing the file")
                output.finish(partial.path, out)
            except BaseException:
                if not partial.progress.rows:
                    discard(out)
                raise
        discard(out)
        return Ended(self._survey.rows, self._survey.bad, resumed)

    def _encoded(self, output: Output, windows: Iterator[Window], finished: int) -> Iterator[tuple[Window, bytes]]:
        """Yield each window with its encoded rows and predictions.

        Args:
            finished: number of the input's rows before the windows.
        """

        def done(rows: float) -> None:
            self._watcher.done(finished + rows)

        predicted = self._predictor.predicted(
            windows,
            RowReader(self._survey.inputs),
            source=self._rows.source,
            skip_bad=self._request.skip_bad,
            done=done,
        )
        for window, columns in predicted:
            yield window, output.encode(window, columns)
            finished = window.first - 1 + len(window)
            done(0)

    def _left(self, partial: Partial) -> Iterator[Window]:
        """Return the windows whose predictions the output lacks.

        Raises:
            DataError: the rows before them are not those that the output was begun with.
        """
        progress, windows = partial.progress, self._rows.windows()
        digest, rows = "", 0
        while rows < progress.rows:
            window = next(windows, None)
            if window is None:
                break
            digest, rows = _digest(digest, window), rows + len(window)
        if (rows, digest) != (progress.rows, progress.digest):
            raise DataError(
                f"--resume: the first rows of {self._rows.source} are not those that the output was begun with; begin"
                " anew without --resume"
            )
        return windows

    def _output(self, suffix: str) -> Output:
        return output_for(suffix, self._survey.titles, self._rows.schema, self._added)

    def _identity(self) -> dict[str, Any]:
        """Return what the output depends on beside the rows, by the names that a message uses."""
        folder = self._request.model
        folders = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
        inputs, resources = self._survey.inputs, self._request.resources
        return {
            "model": [model_fingerprint(one) for one in folders],
            "choice of columns": [inputs.text, inputs.criterion],
            "input header": list(self._survey.titles),
            "--any-criterion": self._request.any_criterion,
            "--skip-bad": self._request.skip_bad,
            "--precision": resources.precision,
        }


def _digest(before: str, window: Window) -> str:
    """Return the digest of all rows up to the end of a window, given that of the rows before it."""
    digest = hashlib.sha256(before.encode())
    for record in window.records:
        digest.update(repr(record).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
