"""A training session on tiny encoders of every family."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.settings import TrialSettings, with_params
from trainables.training.session import TrainingSession
from trainables.training.step import NonFiniteLossError


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-roberta", "tiny-deberta"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_padding_does_not_change_the_logits(
    name: str, settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(with_params(settings, {"model.name": name}))
    session.model.eval()
    by_length = np.argsort(session.examples.lengths)
    short, long = by_length[:4], by_length[-2:]
    assert session.examples.lengths[long].min() > 1.5 * session.examples.lengths[short].max()
    with torch.no_grad():
        alone = session.model(session.examples.batch(short[:1]))
        padded = session.model(session.examples.batch(np.concatenate([short, long])))
    torch.testing.assert_close(padded[:1], alone, atol=1e-5, rtol=1e-5)


def test_every_epoch_has_an_order_of_its_own(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    # A rate of zero freezes the weights, so that only the order can tell epochs apart.
    session = session_of(with_params(settings, {"optim.lr": 0.0}))
    first = session.train_epoch()
    assert session.train_epoch() == first
    session.progress.values.append(0.5)
    assert session.train_epoch() != first


def test_ruined_weights_are_not_scored(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    # One step per epoch: its loss was still finite.
    session = session_of(with_params(settings, {"optim.lr": 1e36, "train.batch_size": 1000, "train.clip_norm": 0.0}))
    session.train_epoch()
    with pytest.raises(NonFiniteLossError, match=r"outputs on validation are not finite; a lower optim\.lr"):
        session.evaluate("validation")


def test_evaluation_holds_no_gradients(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(settings)
    session.train_epoch()
    session.evaluate("validation")
    assert all(parameter.grad is None for parameter in session.model.parameters())


def test_facts_tell_how_the_batch_is_cut_and_what_was_trained(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    changed = with_params(settings, {"train.batch_size": 64, "train.grad_accum": 2, "memory.micro_batch": 57})
    cut = {"effective_batch": 128, "micro_batch": 57, "accumulation_steps": 3, "eval_batch": 16}
    session = session_of(changed)
    session.train_epoch()
    facts = session.facts()
    tokens_per_s = facts.pop("tokens_per_s")
    assert isinstance(tokens_per_s, float)
    assert tokens_per_s > 0
    assert facts.items() >= (cut | {"device": "cpu", "precision": "fp32", "recoveries": 0}).items()


def test_a_micro_batch_is_never_larger_than_the_effective_batch(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    facts = session_of(with_params(settings, {"train.batch_size": 4, "memory.micro_batch": 57})).facts()
    assert (facts["micro_batch"], facts["accumulation_steps"]) == (4, 1)
