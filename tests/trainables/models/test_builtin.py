"""Built-in encoders: seeded weights, and tokenizers of their family."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from trainables.models.builtin import MAX_LENGTH, MAX_VOCABULARY, builtin_config, builtin_pad_token_id, train_tokenizer
from trainables.models.encoder import TextClassifier
from trainables.models.load import load_encoder, load_tokenizer
from trainables.models.names import BUILTIN_NAMES, UnknownModelError, resolve_model
from trainables.poolings import POOLINGS
from trainables.settings import HeadSettings

TokenizerFolder = Callable[[str], Path]

# transformers before 5.20 scripts parts of DeBERTa when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def _encoder(name: str, folder: Path, seed: int = 0) -> PreTrainedModel:
    return load_encoder(resolve_model(name), seed=seed, tokenizer_folder=folder).model


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_a_pair_gets_the_special_tokens_of_the_family(name: str, tokenizer_folder: TokenizerFolder) -> None:
    tokenizer = load_tokenizer(tokenizer_folder(name))
    first, second = (tokenizer.encode(text, add_special_tokens=False) for text in ("café", "abc"))
    encoded = tokenizer("café", "abc")
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    middle = [sep, sep] if "roberta" in name else [sep]
    assert encoded["input_ids"] == [cls, *first, *middle, *second, sep]
    if "token_type_ids" in encoded:
        assert encoded["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert ("token_type_ids" in encoded) == (middle == [sep])
    assert tokenizer.unk_token_id not in encoded["input_ids"]
    assert len(tokenizer) <= MAX_VOCABULARY
    assert tokenizer.model_max_length == MAX_LENGTH
    special = [cls, sep, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id]
    assert max(special) < len(tokenizer)
    assert tokenizer.pad_token_id == builtin_pad_token_id(name), "it is known before the tokenizer is trained"


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-roberta", "tiny-deberta"])
def test_the_same_texts_give_the_same_tokenizer(name: str, texts: list[str], tmp_path: Path) -> None:
    for copy in ("a", "b"):
        train_tokenizer(name, texts, tmp_path / copy)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "tokenizer.json" in files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_common_words_become_few_tokens(texts: list[str], tokenizer_folder: TokenizerFolder) -> None:
    words = sum(len(text.split()) for text in texts)
    for name in ("tiny-bert", "tiny-roberta", "tiny-deberta"):
        tokenizer = load_tokenizer(tokenizer_folder(name))
        tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
        assert tokens < 2 * words, name


def test_texts_in_many_scripts_keep_the_vocabulary_in_bounds(tmp_path: Path) -> None:
    texts = ["".join(map(chr, range(start, start + 40))) for start in range(0x4E00, 0x4E00 + 3000, 40)]
    for name in ("tiny-bert", "tiny-roberta", "tiny-deberta"):
        train_tokenizer(name, texts, tmp_path / name)
        assert len(load_tokenizer(tmp_path / name)) <= MAX_VOCABULARY


def test_nothing_to_train_a_tokenizer_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 2 texts are empty"):
        train_tokenizer("tiny-bert", ["", " \n"], tmp_path)


def test_only_built_in_names_are_built() -> None:
    with pytest.raises(UnknownModelError, match="tiny-bert"):
        builtin_config("bert-base-uncased", vocab_size=10, pad_token_id=0)


def test_a_built_in_encoder_needs_a_tokenizer() -> None:
    with pytest.raises(ValueError, match="tokenizer_folder"):
        load_encoder(resolve_model("tiny-bert"), seed=0)


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_weights_follow_the_seed_alone(name: str, tokenizer_folder: TokenizerFolder) -> None:
    folder = tokenizer_folder(name)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first = _encoder(name, folder, seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(12)
    again = _encoder(name, folder, seed=1).state_dict()
    other = _encoder(name, folder, seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if first[key].dim() == 2]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)
    assert {tensor.dtype for tensor in first.values()} == {torch.float32}


def test_the_report_says_that_everything_is_fresh(tokenizer_folder: TokenizerFolder) -> None:
    loaded = load_encoder(resolve_model("tiny-bert"), seed=0, tokenizer_folder=tokenizer_folder("tiny-bert"))
    assert loaded.report.freshly_initialised == tuple(name for name, _ in loaded.model.named_parameters())
    assert loaded.report.checkpoint_dtype is None


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_every_pooling_works_at_full_length_or_says_why_not(name: str, tokenizer_folder: TokenizerFolder) -> None:
    tokenizer = load_tokenizer(tokenizer_folder(name))
    encoder = _encoder(name, tokenizer_folder(name))
    batch = tokenizer(["a b", "c " * 600], ["d", "e"], padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == MAX_LENGTH
    for pooling in (name for name, entry in POOLINGS.items() if entry.pool):
        if pooling == "pooler" and "deberta" in name:
            with pytest.raises(ValueError, match=r"deberta-v2.*use cls, mean, max or attention"):
                TextClassifier(encoder, classes=3, head=HeadSettings(pooling), seed=0)
            continue
        classifier = TextClassifier(encoder, classes=3, head=HeadSettings(pooling), seed=0)
        with torch.no_grad():
            assert classifier(batch).shape == (2, 3)
