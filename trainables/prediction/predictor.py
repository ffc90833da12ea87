"""A saved model that answers rows: tokenised together, sorted by length, in passes as large as the memory allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.rows import Rows, unlabelled_rows
from trainables.data.tokens import Reading, tokenise_in_memory
from trainables.devices.device import MemoryDevice
from trainables.devices.errors import MemoryExhaustedError, OutOfMemory
from trainables.machine import MachineFiles
from trainables.models.packed import pack_linears
from trainables.planning.inference_limits import InferenceLimits
from trainables.saved import SavedModel
from trainables.tasks import build_task
from trainables.tasks.protocol import Answers
from trainables.training.evaluate import predict_outputs
from trainables.training.precision import resolve_precision, set_tf32


@dataclass(frozen=True, eq=False)
class TokenisedWindow:
    """Rows, and their reading by each encoder."""

    rows: Rows
    readings: tuple[Reading, ...]


class Predictor:
    """Answers of a saved model.

    Args:
        device: the device that the model is moved to. Its budget is only kept under ``device.enforce``.
        precision: ``auto``, ``fp32`` or ``bf16``, as ``train.precision``.
        is_limited: whether a budget forbids to take memory for speed: a second copy of the weights, on the CPU.
    """

    def __init__(
        self,
        saved: SavedModel,
        device: MemoryDevice,
        files: MachineFiles,
        *,
        precision: str = "auto",
        is_limited: bool = False,
    ) -> None:
        settings = saved.settings
        self._saved = saved
        self._device = device
        self.precision = resolve_precision(precision, device.torch_device)
        set_tf32(settings.train.tf32)
        self._task = build_task(settings)
        self._model = saved.model.to(device.torch_device)
        if device.torch_device.type == "cpu" and self.precision == "fp32" and not is_limited:
            pack_linears(self._model)
        self._limits = InferenceLimits(
            settings,
            self._model,
            saved.encoders,
            self._task,
            device,
            precision=self.precision,
            predictions=files.predictions,
        )

    def tokenised(self, texts: Sequence[str], criteria: Sequence[str] | None) -> TokenisedWindow:
        """Tokenise at least one row; ``criteria`` is None if the model reads texts alone."""
        rows = unlabelled_rows(texts, criteria, self._saved.class_names)
        readings = tuple(
            Reading(tokenise_in_memory(texts, criteria, tokenizer), int(tokenizer.pad_token_id))
            for tokenizer in self._saved.tokenizers
        )
        return TokenisedWindow(rows, readings)

    def answers(self, window: TokenisedWindow, done: Callable[[float], None] = lambda share: None) -> Answers:
        """Return the answers to the rows, in their order.

        A pass that runs out of memory is retried with fewer rows.

        Args:
            done: called before each pass with the share of the inputs that are finished.

        Raises:
            MemoryExhaustedError: not even one row fits.
        """
        examples = self._task.examples(window.rows, window.readings)
        rows = np.arange(len(window.rows))
        inputs = examples.inputs_of(rows)

        def rows_at(length: int, left: int) -> int:
            done(1 - left / len(inputs))
            return self._limits.rows(length, left)

        outputs = predict_outputs(
            self._model,
            self._task,
            examples,
            inputs,
            device=self._device,
            rows_at=rows_at,
            ran_out=self._shrink,
            precision=self.precision,
        )
        return self._task.answers(outputs, rows, self._saved.decision)

    def _shrink(self, failure: OutOfMemory, rows: int, length: int) -> None:
        if not self._limits.shrink(rows, length):
            raise MemoryExhaustedError(failure)
