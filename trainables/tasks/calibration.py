"""Calibration: one temperature per question divides the logits, so that probabilities are as often right as they say.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: temperature scaling (section 4.2) and the
expected calibration error (equation 3).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.tasks.protocol import Batch

METHOD = "temperature scaling (Guo et al., ICML 2017, section 4.2), folded into the last layer's weights"
ESTIMATOR = "expected calibration error in 15 bins of equal width by confidence (Guo et al., ICML 2017, equation 3)"

_BINS = 15
_LOWEST, _HIGHEST = 0.1, 10.0
"""Bounds of a temperature."""


@dataclass(frozen=True, eq=False)
class Choices:
    """Choices that a model made on rows that did not train it, with the true options.

    Attributes:
        logits: (inputs, options); those of impossible options are far below all others.
        truth: true option of each choice: int array (choices,).
        counts: number of inputs of each choice, whose probabilities are averaged: int array (choices,).
        weights: weight of each choice in the fit: float array (choices,).
    """

    logits: Tensor
    truth: NDArray[np.int64]
    counts: NDArray[np.int64]
    weights: NDArray[np.float64]

    def margin_at(self, threshold: float) -> float:
        """Return the difference of the logits of two options at which the second one has a probability.

        For 0 and 1, which no logits give, it lies beyond all choices by 1.
        """
        if 0 < threshold < 1:
            return math.log(threshold / (1 - threshold))
        margins = self.logits[:, 1] - self.logits[:, 0]
        return float(margins.min()) - 1 if threshold <= 0 else float(margins.max()) + 1

    def shifted(self, shift: float) -> "Choices":
        """Return the same choices with a number subtracted from the logits of the second of two options."""
        return replace(self, logits=self.logits - torch.tensor([0.0, shift]))

    def log_probabilities(self, temperature: float) -> Tensor:
        """Return the logarithms of the options' probabilities, (choices, options), in double precision."""
        per_input = (self.logits.double() / temperature).log_softmax(dim=1)
        if (self.counts == 1).all():
            return per_input
        choice = torch.from_numpy(np.repeat(np.arange(len(self.counts)), self.counts))
        sums = torch.zeros(len(self.counts), per_input.shape[1], dtype=per_input.dtype)
        sums.index_add_(0, choice, per_input.exp())
        return (sums / torch.from_numpy(self.counts).unsqueeze(1)).clamp(min=torch.finfo(sums.dtype).tiny).log()

    def loss(self, temperature: float) -> float:
        """Return the mean negative log-likelihood of the true options."""
        of_truth = self.log_probabilities(temperature).gather(1, torch.from_numpy(self.truth).unsqueeze(1)).squeeze(1)
        return float(-np.average(of_truth.numpy(), weights=self.weights))

    def error(self, temperature: float) -> float:
        """Return the expected calibration error, in which every choice counts alike."""
        return calibration_error(self.log_probabilities(temperature).exp().numpy(), self.truth)


@runtime_checkable
class CalibratedTask(Protocol):
    """A task whose probabilities can be calibrated; its model names its ``output_layers``."""

    def outputs_to_calibrate(self, outputs: Any, batch: Batch) -> Tensor:
        """Return what ``choices`` needs of an evaluation pass, (inputs, k) in fp32 with the same k for every pass."""
        ...

    def choices(self, outputs: Tensor, rows: NDArray[np.int64]) -> Mapping[str, Choices]:
        """Return the choices of each question, by the name of the model's layer that answers it.

        Args:
            outputs: outputs of ``outputs_to_calibrate`` for all inputs of the rows in their order, on the CPU.
            rows: row numbers, (rows,).
        """
        ...


@dataclass(frozen=True)
class Temperature:
    """Number by which logits are divided.

    Attributes:
        note: reason why it is not the one of the highest likelihood; None if it is.
    """

    value: float
    note: str | None = None


def fit_temperature(choices: Choices) -> Temperature:
    """Return the temperature under which the true options are likeliest, from 0.1 to 10.

    It stays 1 where the choices cannot determine it: all have the same true option, or all are right.
    """
    # Imported here, since most processes calibrate nothing.
    from scipy.optimize import minimize_scalar

    if len(np.unique(choices.truth)) < 2:
        return Temperature(1.0, "every row has the same true answer, which determines no temperature; it stays at 1")
    if (choices.log_probabilities(1.0).argmax(dim=1).numpy() == choices.truth).all():
        return Temperature(1.0, "every answer is right, and any lower temperature is likelier still; it stays at 1")
    # The loss of choices with one input each is convex in 1 / T, so it has one minimum.
    bounds = (math.log(_LOWEST), math.log(_HIGHEST))
    fitted = math.exp(minimize_scalar(lambda x: choices.loss(math.exp(x)), bounds=bounds, method="bounded").x)
    # The search approaches a bound without reaching it.
    best = min((1.0, _LOWEST, _HIGHEST, fitted), key=choices.loss)
    return Temperature(best, f"bounded by {best:g}" if best in (_LOWEST, _HIGHEST) else None)


@dataclass(frozen=True)
class Calibration:
    """Calibration of one question.

    Attributes:
        rows: number of choices that the temperature was fitted on.
        shift: number that was subtracted from the logit of the second of two classes before, so that its threshold is
            a probability of 0.5.
        errors: expected calibration error on each part of the data, before and after.
    """

    temperature: Temperature
    rows: int
    errors: Mapping[str, tuple[float, float]]
    shift: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``scores.json``."""
        errors = {part: {"before": before, "after": after} for part, (before, after) in self.errors.items()}
        note = {"note": self.temperature.note} if self.temperature.note else {}
        shift = {"shift": self.shift} if self.shift else {}
        return {"temperature": self.temperature.value, **note, **shift, "choices": self.rows, "error": errors}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error: the gap between confidence and accuracy, from 0 (none) to 1.

    The rows are sorted into 15 bins of equal width by confidence, the probability of their likeliest class. The gap
    between a bin's accuracy and its mean confidence is weighted by its rows. Source: Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017, equation 3, with their number of bins. The error judges probabilities and does
    not depend on thresholds.

    Args:
        probabilities: (rows, classes).
        labels: (rows,).
    """
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    # A bin includes its upper edge, as in the paper.
    places = np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    gaps = np.bincount(places, weights=right - confidence, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def softened_probability(threshold: float, temperature: float) -> float:
    """Return the probability of one of two classes after calibration that was ``threshold`` before."""
    if not 0 < threshold < 1:
        return threshold
    softened: float = 1 / (1 + (1 / threshold - 1) ** (1 / temperature))
    return softened
