"""One optimizer step: the gradient of the whole effective batch, however it is split."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn import functional
from transformers import BertConfig, BertModel

from trainables.data.tokens import Example, pad_batch
from trainables.models.encoder import TextClassifier
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, HeadSettings, TaskSettings, TrialSettings
from trainables.tasks.criteria import CriteriaTask
from trainables.tasks.protocol import Batch
from trainables.training.divergence import NonFiniteLossError
from trainables.training.split import RowLimits, effective_batches, micro_batches
from trainables.training.step import accumulate_gradient, train_step

ROWS, CLASSES = 32, 3


class RandomExamples:
    """Random tokens of random lengths with random labels."""

    def __init__(self) -> None:
        draw = np.random.default_rng(5)
        self.lengths = draw.integers(2, 24, size=ROWS)
        self._tokens = [draw.integers(1, 40, size=length).astype(np.int32) for length in self.lengths]
        self._labels = torch.from_numpy(draw.integers(0, CLASSES, size=ROWS))

    def __len__(self) -> int:
        return ROWS

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        batch = pad_batch([Example(self._tokens[row], None) for row in indices], pad_token_id=0)
        return batch | {"labels": self._labels[torch.as_tensor(np.asarray(indices))]}


EXAMPLES = RandomExamples()
TASK = CriteriaTask(TrialSettings(DataSettings("demo"), trial_seeds(0), task=TaskSettings(classes=CLASSES)))


def small_model() -> TextClassifier:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    return TextClassifier(BertModel(config), head=HeadSettings("mean", dropout=0.0), classes=CLASSES, seed=4).train()


MODEL = small_model()


def gradient() -> dict[str, torch.Tensor]:
    """Return the model's present gradient and clear it."""
    taken = {name: weight.grad.clone() for name, weight in MODEL.named_parameters() if weight.grad is not None}
    MODEL.zero_grad(set_to_none=True)
    return taken


@given(
    rows=st.integers(1, ROWS), effective_batch=st.integers(1, ROWS), most=st.integers(1, 2000), seed=st.integers(0, 9)
)
@examples(max_examples=25, derandomize=True, deadline=None)
def test_the_gradient_is_that_of_the_whole_effective_batch_in_one_pass(
    rows: int, effective_batch: int, most: int, seed: int
) -> None:
    # Check a full batch, the first, and the ragged last one.
    batches = list(effective_batches(np.arange(rows), effective_batch, np.random.default_rng(seed)))
    for batch in {len(batch): batch for batch in (batches[0], batches[-1])}.values():
        # Any limit of tokens a pass, but at least one row.
        limit = np.maximum(1, most // np.maximum(1, np.arange(EXAMPLES.lengths.max() + 1)))
        pieces = micro_batches(batch, EXAMPLES.lengths, RowLimits(limit, limit, limit))
        assert sorted(np.concatenate(pieces).tolist()) == sorted(batch.tolist())
        loss = accumulate_gradient(MODEL, TASK, map(EXAMPLES.batch, pieces), counted=len(batch), precision="fp32")
        accumulated = gradient()

        whole = EXAMPLES.batch(batch)
        expected_loss = functional.cross_entropy(MODEL(whole), whole["labels"])
        expected_loss.backward()
        expected = gradient()

        assert loss == pytest.approx(expected_loss.item(), abs=1e-5)
        assert accumulated.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(accumulated[name], value, atol=1e-5, rtol=1e-5, msg=name)


def batches_of(*sizes: int) -> list[Batch]:
    bounds = np.cumsum([0, *sizes])
    return [EXAMPLES.batch(range(start, end)) for start, end in pairwise(bounds)]


def test_gradients_left_over_from_an_unfinished_step_have_no_effect() -> None:
    results = []
    for left_over in (False, True):
        model = small_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if left_over:
            accumulate_gradient(model, TASK, batches_of(7), counted=7, precision="fp32")
        train_step(model, TASK, batches_of(5, 4), optimizer, clip_norm=0.0, precision="fp32")
        results.append(model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize(("clip_norm", "moved_by"), [(0.01, 0.01), (0.0, None)])
def test_the_gradient_of_the_effective_batch_is_clipped_as_a_whole_and_zero_means_not_at_all(
    clip_norm: float, moved_by: float | None
) -> None:
    model = small_model()
    before = torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])
    accumulate_gradient(model, TASK, batches_of(5, 4, 3), counted=12, precision="fp32")
    norm = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]).norm().item()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train_step(model, TASK, batches_of(5, 4, 3), optimizer, clip_norm=clip_norm, precision="fp32")
    after = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(norm if moved_by is None else moved_by, rel=1e-3)


def test_a_loss_that_is_not_finite_is_an_error_before_the_step() -> None:
    model = small_model()
    with torch.no_grad():
        model.head.output.bias.fill_(float("nan"))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(NonFiniteLossError, match=r"training loss became nan: the model's own weights hold head"):
        train_step(model, TASK, batches_of(4), optimizer, clip_norm=1.0, precision="fp32")
    torch.testing.assert_close(model.state_dict(), before, equal_nan=True, atol=0.0, rtol=0.0)
