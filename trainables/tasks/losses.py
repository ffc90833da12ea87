"""Losses of a choice between classes and of a choice of a span, summed so that the cut of a batch changes nothing."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainables.settings import LossSettings

_BETA = 0.999
"""Of the effective number of samples: from some thousand rows on, more of a class add hardly anything new."""

_IMPOSSIBLE = -1e20
"""Below this log-probability a position was masked."""

_LEAST = 1e-6
"""Keeps the slope of (1 - p)^gamma finite where p is 1."""


class ClassLoss:
    """Cross-entropy, smoothed or focal, each row weighted by its class.

    The sum of a batch's losses over the sum of its weights is what is minimised. Until ``learn_from`` every class
    weighs the same.
    """

    def __init__(self, settings: LossSettings, classes: int) -> None:
        self._settings = settings
        self._classes = classes
        self._weights: np.ndarray | None = None
        if settings.class_weighting != "none" or settings.name == "focal":
            self._weigh(np.ones(classes))

    def learn_from(self, labels: np.ndarray) -> None:
        """Weigh the classes by how often they occur in the training part, labels (rows,)."""
        if self._weights is not None:
            counts = np.bincount(labels, minlength=self._classes)
            self._weigh(class_weights(counts, self._settings.class_weighting))

    def sum(self, logits: Tensor, labels: Tensor, row_weight: Tensor | None = None) -> Tensor:
        """Weighted sum over the rows; a scalar in fp32.

        Args:
            logits: (rows, classes), of any type.
            labels: (rows,).
            row_weight: (rows,), what each counts beside its class's weight; None: 1.
        """
        # The logits come in the autocast type; a sum of losses wants fp32.
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
        """What rows with these labels (rows,), on the CPU, weigh together."""
        return float(len(labels)) if self._weights is None else float(self._weights[labels.numpy()].sum())

    def weights_on(self, device: torch.device) -> Tensor | None:
        """Weights (classes,) of a row by its class in fp32; None where all are 1."""
        if self._weights is None:
            return None
        return torch.tensor(self._weights, dtype=torch.float32, device=device)

    def _weigh(self, weights: np.ndarray) -> None:
        if self._settings.name == "focal":
            weights = weights * np.where(np.arange(self._classes) == 0, 1 - self._settings.alpha, self._settings.alpha)
        self._weights = weights


class SpanLoss:
    """The same losses over the positions of a span's first and last token, of which their mean is taken.

    Rows without a span are the first class, rows with one the second: so they are weighted, and so ``alpha`` is meant.
    """

    def __init__(self, settings: LossSettings) -> None:
        self._settings = settings
        self._classes = ClassLoss(settings, classes=2)

    def learn_from(self, has_span: np.ndarray) -> None:
        """Weigh the two by how often they occur in the training part, has_span (rows,)."""
        self._classes.learn_from(has_span.astype(np.int64))

    def sum(self, scores: Tensor, span: Tensor, weight: Tensor) -> Tensor:
        """Weighted sum over the inputs; a scalar in fp32.

        Args:
            scores: (inputs, length, 2) in fp32, impossible positions masked.
            span: (inputs, 2), positions of the first and last token; 0 and 0 for no span.
            weight: (inputs,), what each counts before its class is looked at.
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
        """What these inputs, on the CPU, weigh together."""
        return float(self._weights(span, weight).sum())

    def _weights(self, span: Tensor, weight: Tensor) -> Tensor:
        of_class = self._classes.weights_on(span.device)
        return weight if of_class is None else weight * of_class[(span[:, 0] > 0).long()]


def class_weights(counts: np.ndarray, weighting: str) -> np.ndarray:
    """Weights (classes,) for classes that occur so often (classes,), the mean weight of a row being 1.

    ``inverse`` is 1 / n; ``effective_number`` is (1 - b) / (1 - b^n) with b = 0.999: Cui et al., "Class-Balanced Loss
    Based on Effective Number of Samples" (2019), equation 2. A class that does not occur weighs as one that does once.

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
    """Lin et al., "Focal Loss for Dense Object Detection" (2017), equation 5: what is right already counts less."""
    assert weights is not None
    log_p = logits.log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -weights[labels] * _missed(log_p) ** gamma * log_p


def _missed(log_p: Tensor) -> Tensor:
    return (1 - log_p.exp()).clamp(min=_LEAST)
