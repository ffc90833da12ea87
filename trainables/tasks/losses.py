"""Losses for a choice between classes and for a choice of a span, as sums that do not depend on a batch's split."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainables.settings import LossSettings

_BETA = 0.999
"""Parameter of the effective number of samples: beyond some thousand rows, more of a class add hardly anything new."""

_IMPOSSIBLE = -1e20
"""A log-probability below this means a masked position."""

_LEAST = 1e-6
"""A bound that keeps the slope of (1 - p)^gamma finite at p = 1."""


class ClassLoss:
    """Cross-entropy, smoothed or focal, with each row weighted by its class.

    Training minimises the sum of a batch's losses divided by the sum of its weights. Until ``learn_from`` is called,
    every class has the same weight.
    """

    def __init__(self, settings: LossSettings, classes: int) -> None:
        self._settings = settings
        self._classes = classes
        self._weights: np.ndarray | None = None
        if settings.class_weighting != "none" or settings.name == "focal":
            self._weigh(np.ones(classes))

    def learn_from(self, labels: np.ndarray) -> None:
        """Set the class weights from the class frequencies in the training part, labels (rows,)."""
        if self._weights is not None:
            counts = np.bincount(labels, minlength=self._classes)
            self._weigh(class_weights(counts, self._settings.class_weighting))

    def sum(self, logits: Tensor, labels: Tensor, row_weight: Tensor | None = None) -> Tensor:
        """Return the weighted sum of losses over the rows; a scalar in fp32.

        Args:
            logits: (rows, classes), of any type.
            labels: (rows,).
            row_weight: (rows,), factor for each row beside its class's weight; None means 1.
        """
        # The logits have the autocast type, but a sum of losses needs fp32.
        logits = logits.float()
        weights = self.weights_on(logits.device)
        if self._settings.name == "focal":
            losses = _focal(logits, labels, weights, self._settings.gamma)
        else:
            smoothing = self._settings.smoothing if self._settings.name == "label_smoothing" else 0.0
            losses = functional.cross_entropy(
                logits, labels, weight=weights, label_smoothing=smoothing, reduction="none"
            )
        return losses.sum() if row_weight is None else (losses * row_weight).sum()

    def weight(self, labels: Tensor) -> float:
        """Return the total weight of rows with these labels (rows,), on the CPU."""
        return float(len(labels)) if self._weights is None else float(self._weights[labels.numpy()].sum())

    def weights_on(self, device: torch.device) -> Tensor | None:
        """Return the weights (classes,) of a row by its class in fp32; None if all are 1."""
        if self._weights is None:
            return None
        return torch.tensor(self._weights, dtype=torch.float32, device=device)

    def _weigh(self, weights: np.ndarray) -> None:
        if self._settings.name == "focal":
            weights = weights * np.where(np.arange(self._classes) == 0, 1 - self._settings.alpha, self._settings.alpha)
        self._weights = weights


class SpanLoss:
    """Mean of two losses like those of ``ClassLoss``, over the positions of a span's first and of its last token.

    Rows without a span are the first class and rows with one the second, both for the weights and for ``alpha``.
    """

    def __init__(self, settings: LossSettings) -> None:
        self._settings = settings
        self._classes = ClassLoss(settings, classes=2)

    def learn_from(self, has_span: np.ndarray) -> None:
        """Set the weights of both classes from their frequencies in the training part, has_span (rows,)."""
        self._classes.learn_from(has_span.astype(np.int64))

    def sum(self, scores: Tensor, span: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sum of losses over the inputs; a scalar in fp32.

        Args:
            scores: (inputs, length, 2) in fp32, impossible positions masked.
            span: (inputs, 2), positions of the first and last token; 0 and 0 for no span.
            weight: (inputs,), weight of each input apart from its class.
        """
        settings = self._settings
        log_p = scores.log_softmax(dim=1)
        log_hit = log_p.gather(1, span.unsqueeze(1)).squeeze(1)
        losses = -log_hit
        if settings.name == "focal":
            losses = losses * _missed(log_hit) ** settings.gamma
        elif settings.name == "label_smoothing":
            possible = log_p > _IMPOSSIBLE
            spread = -log_p.masked_fill(~possible, 0.0).sum(dim=1) / possible.sum(dim=1)
            losses = (1 - settings.smoothing) * losses + settings.smoothing * spread
        return (losses.mean(dim=1) * self._weights(span, weight)).sum()

    def weight(self, span: Tensor, weight: Tensor) -> float:
        """Return the total weight of these inputs, on the CPU."""
        return float(self._weights(span, weight).sum())

    def _weights(self, span: Tensor, weight: Tensor) -> Tensor:
        of_class = self._classes.weights_on(span.device)
        return weight if of_class is None else weight * of_class[(span[:, 0] > 0).long()]


def class_weights(counts: np.ndarray, weighting: str) -> np.ndarray:
    """Return weights (classes,) for class counts (classes,), scaled so that a row's mean weight is 1.

    ``inverse`` is 1 / n; ``effective_number`` is (1 - b) / (1 - b^n) with b = 0.999. Source: Cui et al.,
    "Class-Balanced Loss Based on Effective Number of Samples" (2019), equation 2. An absent class has the weight of a
    class with one row.

    Raises:
        ValueError: the weighting is unknown.
    """
    occurring = np.maximum(counts, 1).astype(float)
    if weighting == "none":
        weights = np.ones(len(counts))
    elif weighting == "inverse":
        weights = 1 / occurring
    elif weighting == "effective_number":
        weights = (1 - _BETA) / (1 - _BETA**occurring)
    else:
        raise ValueError(f"loss.class_weighting: {weighting!r} is not none, inverse or effective_number")
    scaled: np.ndarray = weights * counts.sum() / (weights * counts).sum()
    return scaled


def _focal(logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    """Return focal losses, in which correct rows count less.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), equation 5.
    """
    assert weights is not None
    log_p = logits.log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -weights[labels] * _missed(log_p) ** gamma * log_p


def _missed(log_p: Tensor) -> Tensor:
    return (1 - log_p.exp()).clamp(min=_LEAST)
