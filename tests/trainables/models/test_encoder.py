"""The text classifier and the folder that keeps it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DistilBertConfig, DistilBertModel, ElectraConfig, ElectraModel, PreTrainedModel

from trainables.models.encoder import (
    TextClassifier,
    enable_checkpointing,
    freeze_layers,
    load_model_folder,
    pool,
    save_model_folder,
)
from trainables.models.load import ModelLoadError, load_encoder, load_tokenizer
from trainables.models.names import resolve_model

TokenizerFolder = Callable[[str], Path]

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def _classifier(name: str, folder: Path, **settings: Any) -> TextClassifier:
    encoder = load_encoder(resolve_model(name), seed=5, tokenizer_folder=folder).model
    return TextClassifier(encoder, classes=3, seed=6, **settings).eval()


def test_padding_changes_neither_mean_nor_maximum() -> None:
    hidden = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "cls").tolist() == [[1.0, -4.0]]
    assert pool(hidden, mask, "mean").tolist() == [[2.0, -3.0]]
    assert pool(hidden, mask, "max").tolist() == [[3.0, -2.0]]


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "pooler"])
def test_a_row_is_scored_alike_alone_and_in_a_padded_batch(pooling: str, tokenizer_folder: TokenizerFolder) -> None:
    folder = tokenizer_folder("tiny-bert")
    tokenizer = load_tokenizer(folder)
    classifier = _classifier("tiny-bert", folder, pooling=pooling)
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


def test_a_pooler_that_is_not_there_is_refused_by_family() -> None:
    config = ElectraConfig(vocab_size=20, hidden_size=32, embedding_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(ValueError, match="electra"):
        TextClassifier(ElectraModel(config), classes=2, pooling="pooler", seed=0)


def test_an_unknown_pooling_is_refused(bert: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="'attention' is unknown; use one of cls, mean, max, pooler"):
        TextClassifier(bert, classes=2, pooling="attention", seed=0)


def test_the_head_follows_its_seed_alone(bert: PreTrainedModel) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = TextClassifier(bert, classes=2, seed=1).head.weight
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, TextClassifier(bert, classes=2, seed=1).head.weight)
    assert not torch.equal(first, TextClassifier(bert, classes=2, seed=2).head.weight)
    assert first.requires_grad


def test_memory_prediction_can_trace_it_without_memory() -> None:
    with FakeTensorMode():
        config = ElectraConfig(vocab_size=20, hidden_size=32, embedding_size=16, num_hidden_layers=1)
        classifier = TextClassifier(ElectraModel(config), classes=2, pooling="mean", seed=0)
        ids = torch.ones(7, 64, dtype=torch.long)
        logits = classifier({"input_ids": ids, "attention_mask": ids})
        logits.sum().backward()
    assert logits.shape == (7, 2)
    assert classifier.head.weight.grad is not None


@pytest.mark.parametrize(
    ("name", "pooling"), [("tiny-bert", "pooler"), ("tiny-roberta", "mean"), ("tiny-deberta", "max")]
)
def test_a_saved_model_predicts_the_same(
    name: str, pooling: str, tokenizer_folder: TokenizerFolder, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder(name))
    classifier = _classifier(name, tokenizer_folder(name), pooling=pooling, dropout=0.3)
    folder = tmp_path / "new" / "model"
    save_model_folder(classifier, tokenizer, folder, max_length=48)
    saved = load_model_folder(folder)
    rows = (["a b café", "c"], ["d", "e f"])
    with torch.no_grad():
        expected = classifier(tokenizer(*rows, padding=True, return_tensors="pt"))
        got = saved.classifier(saved.tokenizer(*rows, padding=True, return_tensors="pt"))
    assert torch.equal(got, expected)
    assert not saved.classifier.training
    assert (saved.max_length, saved.classifier.dropout.p) == (48, 0.3)
    assert (saved.classifier.pooling, saved.classifier.classes) == (pooling, 3)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_save_that_fails_leaves_nothing(
    bert: PreTrainedModel, tokenizer_folder: TokenizerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder("tiny-bert"))

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "save_pretrained", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_model_folder(TextClassifier(bert, classes=2, seed=0), tokenizer, tmp_path / "model", max_length=32)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_overwritten(
    bert: PreTrainedModel, tokenizer_folder: TokenizerFolder, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tokenizer = load_tokenizer(tokenizer_folder("tiny-bert"))
    with pytest.raises(FileExistsError, match="not empty"):
        save_model_folder(TextClassifier(bert, classes=2, seed=0), tokenizer, tmp_path, max_length=32)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_damage_to_a_saved_model_is_named(
    bert: PreTrainedModel, tokenizer_folder: TokenizerFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    tokenizer = load_tokenizer(tokenizer_folder("tiny-bert"))
    save_model_folder(TextClassifier(bert, classes=2, seed=0), tokenizer, folder, max_length=32)
    settings_file = folder / "headroom.json"
    settings = json.loads(settings_file.read_text())
    for change, message in (
        ({"classes": 5}, r"headroom_head\.safetensors does not fit"),
        ({"format_version": 99}, "format_version 99"),
    ):
        settings_file.write_text(json.dumps(settings | change))
        with pytest.raises(ModelLoadError, match=message):
            load_model_folder(folder)
    settings_file.unlink()
    with pytest.raises(ModelLoadError, match="no folder of a saved model"):
        load_model_folder(folder)


def test_frozen_layers_and_embeddings_take_no_part_in_training(bert: PreTrainedModel) -> None:
    freeze_layers(bert, 1)
    trained = {name for name, parameter in bert.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any(name.startswith(("embeddings.", "encoder.layer.0.")) for name in trained)
    assert any(name.startswith("encoder.layer.1.") for name in trained)


def test_more_layers_than_there_are_cannot_be_frozen(bert: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="has 2 that can be frozen"):
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
