"""Text classifier, and the requirements of every model on its encoder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DistilBertConfig, DistilBertModel, ElectraConfig, ElectraModel, PreTrainedModel

from trainables.models.encoder import (
    TextClassifier,
    enable_checkpointing,
    freeze_layers,
)
from trainables.models.families import UnsupportedError
from trainables.models.load import load_encoder, load_tokenizer
from trainables.models.names import resolve_model
from trainables.poolings import POOLINGS
from trainables.settings import HeadSettings

TokenizerFolder = Callable[[str], Path]

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def _classifier(name: str, folder: Path, head: HeadSettings | None = None) -> TextClassifier:
    encoder = load_encoder(resolve_model(name), seed=5, tokenizer_folder=folder).model
    return TextClassifier(encoder, classes=3, head=head or HeadSettings(), seed=6).eval()


@pytest.mark.parametrize("pooling", [name for name, entry in POOLINGS.items() if entry.pool])
def test_a_row_is_scored_alike_alone_and_in_a_padded_batch(pooling: str, tokenizer_folder: TokenizerFolder) -> None:
    folder = tokenizer_folder("tiny-bert")
    tokenizer = load_tokenizer(folder)
    classifier = _classifier("tiny-bert", folder, HeadSettings(pooling))
    with torch.no_grad():
        alone = classifier(tokenizer(["a b c"], return_tensors="pt"))
        together = classifier(tokenizer(["a b c", "d e f g h " * 9], padding=True, return_tensors="pt"))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_token_types_reach_bert_and_are_kept_from_those_that_know_none(
    tokenizer_folder: TokenizerFolder,
) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([1])}
    typed = batch | {"token_type_ids": torch.tensor([[0, 0, 1, 1]])}
    distilbert = DistilBertModel(DistilBertConfig(vocab_size=20, dim=32, n_layers=1, n_heads=2, hidden_dim=32))
    classifiers = {
        name: _classifier(name, tokenizer_folder(name)) for name in ("tiny-bert", "tiny-roberta", "tiny-deberta")
    }
    classifiers["distilbert"] = TextClassifier(distilbert, classes=2, seed=0).eval()
    with torch.no_grad():
        told_apart = {name: not torch.equal(model(batch), model(typed)) for name, model in classifiers.items()}
    assert told_apart == {"tiny-bert": True, "tiny-roberta": False, "tiny-deberta": False, "distilbert": False}


def test_the_head_follows_its_seed_alone(bert: PreTrainedModel) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = TextClassifier(bert, classes=2, seed=1).head.output.weight
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, TextClassifier(bert, classes=2, seed=1).head.output.weight)
    assert not torch.equal(first, TextClassifier(bert, classes=2, seed=2).head.output.weight)
    assert first.requires_grad


def test_memory_prediction_can_trace_it_without_memory() -> None:
    with FakeTensorMode():
        config = ElectraConfig(vocab_size=20, hidden_size=32, embedding_size=16, num_hidden_layers=1)
        classifier = TextClassifier(ElectraModel(config), classes=2, head=HeadSettings("mean"), seed=0)
        ids = torch.ones(7, 64, dtype=torch.long)
        logits = classifier({"input_ids": ids, "attention_mask": ids})
        logits.sum().backward()
    assert logits.shape == (7, 2)
    assert classifier.head.output.weight.grad is not None


def test_frozen_layers_and_embeddings_take_no_part_in_training(bert: PreTrainedModel) -> None:
    freeze_layers(bert, 1)
    trained = {name for name, parameter in bert.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any(name.startswith(("embeddings.", "encoder.layer.0.")) for name in trained)
    assert any(name.startswith("encoder.layer.1.") for name in trained)


def test_more_layers_than_there_are_cannot_be_frozen(bert: PreTrainedModel) -> None:
    with pytest.raises(UnsupportedError, match=r"freeze_layers: 3: this bert encoder has 2 layers; give at most 2"):
        freeze_layers(bert, 3)


def test_checkpointing_changes_no_gradient(bert: PreTrainedModel) -> None:
    inputs = torch.arange(6, 26).view(2, 10)

    def gradients() -> list[torch.Tensor]:
        bert.train()
        for module in bert.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        bert.zero_grad()
        bert(inputs).last_hidden_state.square().sum().backward()
        return [parameter.grad.clone() for parameter in bert.parameters() if parameter.grad is not None]

    plain = gradients()
    enable_checkpointing(bert)
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other)
