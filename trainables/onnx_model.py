"""A saved model as an ONNX file, which is kept only if it answers as the model does."""

import logging
import shutil
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainables.data.errors import one_line
from trainables.models.disentangled import restore_attention
from trainables.saved import load_model_folder
from trainables.scratch import scratch_folder
from trainables.tasks.protocol import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

ONNX_FILE = "model.onnx"
TOLERANCE = 1e-4
"""Largest difference between an output of the file and of the model."""

_OUTPUTS = {1: ("logits",), 2: ("logits", "span_logits")}


@dataclass(frozen=True)
class OnnxResult:
    """Result of writing a model as an ONNX file.

    Attributes:
        difference: largest difference of its outputs from the model's; None if it could not be measured.
        rows: number of inputs on which it was measured.
        problem: reason why no file was kept; None if it was.
    """

    difference: float | None
    rows: int
    problem: str | None = None


class _Positional(nn.Module):
    """A model that takes its inputs one by one, as ONNX does."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._names = tuple(names)

    def forward(self, *inputs: Tensor) -> Any:
        return self.model(dict(zip(self._names, inputs, strict=True)))


class _Noting(dict[str, Tensor]):
    """A batch that notes which of its tensors a model reads."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.read: dict[str, None] = {}

    def __getitem__(self, name: str) -> Tensor:
        self.read[name] = None
        return super().__getitem__(name)


def write_onnx(folder: Path, batches: Sequence[Batch]) -> OnnxResult:
    """Write the model of a model folder as ``model.onnx`` into it, for any batch size and length.

    The file computes in fp32. It is compared with the model on the batches, and removed if it differs.

    Args:
        batches: inputs of the model's task, of different lengths and sizes; at least one.
    """
    saved = load_model_folder(folder)
    for encoder in saved.encoders:
        restore_attention(encoder)
    expected = [_outputs(saved.model, batch) for batch in batches]
    noting = _Noting(batches[-1])
    _outputs(saved.model, noting)
    names = [name for name in batches[-1] if name in noting.read]
    rows = sum(len(batch[names[0]]) for batch in batches)
    with scratch_folder("onnx") as building:
        file = building / ONNX_FILE
        try:
            _export(saved.model, batches[-1], names, len(expected[0]), file)
            difference = max(
                float((got - wanted).abs().max())
                for batch, outputs in zip(batches, expected, strict=True)
                for got, wanted in zip(_run(file, batch, names), outputs, strict=True)
            )
        except Exception as error:  # The exporter and the runtime may fail in any way on a family's code.
            return OnnxResult(None, rows, f"{type(error).__name__}: {one_line(error)}")
        if not difference <= TOLERANCE:
            return OnnxResult(difference, rows, f"it differs from the model by {difference:.2g}")
        # Beyond 2 GB the weights have a file of their own.
        for path in building.iterdir():
            shutil.move(path, folder / path.name)
    return OnnxResult(difference, rows)


@torch.inference_mode()
def _outputs(model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    outputs = model(batch)
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _export(model: nn.Module, batch: Batch, names: Sequence[str], outputs: int, file: Path) -> None:
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Positional(model, names).eval(),
            tuple(batch[name] for name in names),
            dynamo=True,
            input_names=list(names),
            output_names=list(_OUTPUTS[outputs]),
            dynamic_shapes=(tuple(dynamic for _ in names),),
            verbose=False,
        )
        assert program is not None
        program.save(file)


def _run(file: Path, batch: Batch, names: Sequence[str]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {name: batch[name].numpy() for name in names})
    return [torch.from_numpy(output) for output in outputs]


@contextmanager
def _quietly() -> "Iterator[None]":
    """Suppress the exporter's notes about packages that no model here needs."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
