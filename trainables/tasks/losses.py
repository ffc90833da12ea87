"""Losses of a choice between classes, summed so that how a batch is cut changes nothing."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainables.settings import LossSettings

_BETA = 0.999
"""Of the effective number of samples: from some thousand rows on, more of a class add hardly anything new."""

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

    def sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Weighted sum over the rows: logits (rows, classes) in any type, labels (rows,); a scalar in fp32."""
        # The logits come in the autocast type; a sum of losses wants fp32.
        logits = logits.float()
        weights = None
        if self._weights is not None:
            weights = torch.tensor(self._weights, dtype=torch.float32, device=logits.device)
        if self._settings.name == "focal":
            return _focal_sum(logits, labels, weights, self._settings.gamma)
        smoothing = self._settings.smoothing if self._settings.name == "label_smoothing" else 0.0
        return functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="sum")

    def weight(self, labels: Tensor) -> float:
        """What rows with these labels (rows,), on the CPU, weigh together."""
        return float(len(labels)) if self._weights is None else float(self._weights[labels.numpy()].sum())

    def _weigh(self, weights: np.ndarray) -> None:
        if self._settings.name == "focal":
            weights = weights * np.where(np.arange(self._classes) == 0, 1 - self._settings.alpha, self._settings.alpha)
        self._weights = weights


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


def _focal_sum(logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    """Lin et al., "Focal Loss for Dense Object Detection" (2017), equation 5: what is right already counts less."""
    assert weights is not None
    log_p = logits.log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    missed = (1 - log_p.exp()).clamp(min=_LEAST)
    return -(weights[labels] * missed**gamma * log_p).sum()
