"""Temperature of logits, and probabilities under it."""

import numpy as np
import pytest
import torch

from trainables.tasks.calibration import Choices, fit_temperature, softened_probability
from trainables.tasks.share import row_logits


def choices_of(logits: torch.Tensor, truth: np.ndarray, counts: np.ndarray | None = None) -> Choices:
    return Choices(logits, truth, np.ones_like(truth) if counts is None else counts, np.ones(len(truth)))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_is_the_one_that_made_the_answers(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = 4 * torch.randn(20_000, classes, generator=generator)
    truth = (logits / 2.5).softmax(1).multinomial(1, generator=generator).squeeze(1).numpy()
    choices = choices_of(logits, truth)
    fitted = fit_temperature(choices)
    assert fitted.value == pytest.approx(2.5, rel=0.04)
    assert fitted.note is None
    assert choices.error(fitted.value) < 0.015 < 0.1 < choices.error(1.0)


def test_probabilities_of_several_inputs_are_averaged() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 6.0], [1.0, -1.0]])
    counts = np.array([2, 1])
    got = choices_of(logits, np.array([1, 0]), counts).log_probabilities(2.0)
    torch.testing.assert_close(got.float(), row_logits(logits / 2, counts))


def test_a_weight_is_worth_as_many_choices() -> None:
    logits = torch.tensor([[2.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    truth = np.array([0, 1, 1])
    twice = Choices(logits[:2], truth[:2], np.ones(2, dtype=int), np.array([1.0, 2.0]))
    assert twice.loss(1.5) == pytest.approx(choices_of(logits, truth).loss(1.5))


@pytest.mark.parametrize(
    ("logits", "truth", "value", "note"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [1, 1], 1.0, "every row has the same true answer"),
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1], 1.0, "every answer is right"),
        ([[9.0, 0.0], [0.0, 9.0]], [1, 0], 10.0, "bounded by 10"),
        ([[0.01, 0.0], [0.0, 0.01], [0.0, 0.001]], [0, 1, 0], 0.1, "bounded by 0.1"),
    ],
    ids=["one class", "all right", "all wrong", "hardly any confidence"],
)
def test_a_temperature_that_rows_do_not_determine_is_bounded_and_says_why(
    logits: list[list[float]], truth: list[int], value: float, note: str
) -> None:
    fitted = fit_temperature(choices_of(torch.tensor(logits), np.array(truth)))
    assert fitted.value == value
    assert fitted.note is not None
    assert fitted.note.startswith(note)


def test_a_shift_moves_a_threshold_to_one_half() -> None:
    choices = choices_of(torch.tensor([[0.0, -0.5], [0.0, 0.2], [0.0, 3.0]]), np.array([0, 1, 1]))
    for threshold, above in ((0.0, 3), (0.3, 3), (0.5, 2), (0.9, 1), (1.0, 0)):
        shifted = choices.shifted(choices.margin_at(threshold))
        assert int((shifted.log_probabilities(2.0).exp()[:, 1] > 0.5).sum()) == above


def test_a_threshold_keeps_its_side_of_every_probability() -> None:
    logits = torch.tensor([-0.5, 0.2, 3.0])
    for threshold in (0.0, 0.3, 0.5, 0.9, 1.0):
        before = logits.sigmoid() > threshold
        after = (logits / 3).sigmoid() > softened_probability(threshold, 3)
        assert torch.equal(before, after)
