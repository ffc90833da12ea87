"""Losses and class weights: compared with torch's, computed by hand, and independent of how a batch is split."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trainables.settings import LossSettings
from trainables.tasks.losses import ClassLoss, class_weights

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10)
NAMES = ("cross_entropy", "label_smoothing", "focal")
WEIGHTINGS = ("none", "inverse", "effective_number")


def drawn(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    return torch.randn(rows, 3, generator=generator, requires_grad=True), labels


def learnt(loss: LossSettings) -> ClassLoss:
    made = ClassLoss(loss, 3)
    made.learn_from(LABELS)
    return made


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_mean_is_torchs_weighted_mean(weighting: str, smoothing: float) -> None:
    logits, labels = drawn(40)
    loss = learnt(LossSettings("label_smoothing", smoothing=smoothing, class_weighting=weighting))
    weights = torch.from_numpy(class_weights(np.bincount(LABELS), weighting)).float()
    expected = functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    assert float(loss.sum(logits, labels).detach()) / loss.weight(labels) == pytest.approx(expected.item(), rel=1e-5)


def test_focal_by_hand() -> None:
    probabilities = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])
    loss = ClassLoss(LossSettings("focal", gamma=2.0, alpha=0.25), 3)
    by_hand = 0.25 * 0.3**2 * -np.log(0.7) + 0.75 * 0.5**2 * -np.log(0.5)
    assert float(loss.sum(probabilities.log(), torch.tensor([1, 0]))) == pytest.approx(by_hand, rel=1e-5)
    assert loss.weight(torch.tensor([1, 0])) == pytest.approx(1.0)


def test_focal_without_gamma_and_alpha_is_cross_entropy() -> None:
    logits, labels = drawn(20)
    logits = logits.detach()
    focal, plain = ClassLoss(LossSettings("focal", gamma=0.0), 3), ClassLoss(LossSettings(), 3)
    mean = float(focal.sum(logits, labels)) / focal.weight(labels)
    assert mean == pytest.approx(float(plain.sum(logits, labels)) / plain.weight(labels), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0])
def test_focal_has_a_finite_gradient_where_nothing_is_missed(gamma: float) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    ClassLoss(LossSettings("focal", gamma=gamma), 3).sum(logits, torch.tensor([0])).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_inverse_weights_give_every_class_the_same_say() -> None:
    counts = np.bincount(LABELS)
    weights = class_weights(counts, "inverse")
    assert weights * counts == pytest.approx([100 / 3] * 3)


def test_effective_numbers_lie_between_equal_weights_and_the_inverse() -> None:
    counts = np.array([9000, 1000])
    ratios = [weights[1] / weights[0] for weights in (class_weights(counts, name) for name in WEIGHTINGS)]
    assert ratios[0] == 1.0
    assert ratios[1] == pytest.approx(9.0)
    assert ratios[2] == pytest.approx((1 - 0.999**9000) / (1 - 0.999**1000))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_class_that_does_not_occur_breaks_nothing(weighting: str) -> None:
    assert np.isfinite(class_weights(np.array([5, 0, 3]), weighting)).all()


def test_an_unknown_weighting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.class_weighting: 'square' is not none, inverse or effective_number"):
        class_weights(np.array([1, 2]), "square")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, 29), max_size=6), seed=st.integers(0, 99))
def test_the_gradient_does_not_depend_on_the_cut(name: str, weighting: str, cuts: set[int], seed: int) -> None:
    loss = learnt(LossSettings(name, alpha=0.3, class_weighting=weighting))
    logits, labels = drawn(30, seed)
    (loss.sum(logits, labels) / loss.weight(labels)).backward()
    whole = logits.grad
    assert whole is not None
    logits.grad = None
    pieces = list(zip(sorted({0, *cuts}), [*sorted(cuts), 30], strict=True))
    counted = sum(loss.weight(labels[start:end]) for start, end in pieces)
    for start, end in pieces:
        (loss.sum(logits[start:end], labels[start:end]) / counted).backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("label_smoothing", {"smoothing": 0.3}),
        ("focal", {"gamma": 4.0}),
        ("focal", {"alpha": 0.8}),
        *((name, {"class_weighting": weighting}) for name in NAMES for weighting in WEIGHTINGS[1:]),
    ],
)
def test_every_knob_changes_the_gradient(name: str, changed: dict[str, float]) -> None:
    gradients = []
    for chosen in (LossSettings(name), replace(LossSettings(name), **changed)):
        loss, (logits, labels) = learnt(chosen), drawn(30)
        (loss.sum(logits, labels) / loss.weight(labels)).backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    assert not torch.allclose(*gradients, atol=1e-4)
