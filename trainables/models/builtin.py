"""Small encoders built on demand: their configurations, seeded weights, and tokenizers trained on the data.

They let a search run anywhere, without a hub or a download. There are three families because they differ where code
breaks. BERT has token types and a pooler, RoBERTa offsets its positions, and DeBERTa has neither token types nor a
pooler.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    DebertaV2Config,
    DebertaV2Tokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaTokenizer,
)

from trainables.models.encoder import replace_attention
from trainables.models.names import BUILTIN_NAMES, UnknownModelError

MAX_LENGTH = 512
"""Longest input of a built-in encoder in tokens, special tokens included."""

MAX_VOCABULARY = 4_000
_MAX_ALPHABET = 1_000

_BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_DEBERTA_SPECIALS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
_CONTINUED = "##"
_VISIBLE_SPACE = "▁"


@dataclass(frozen=True)
class _Size:
    layers: int
    hidden: int
    heads: int
    intermediate: int


_SIZES = {
    "tiny": _Size(layers=2, hidden=128, heads=2, intermediate=256),
    "small": _Size(layers=4, hidden=256, heads=4, intermediate=1024),
}


def builtin_config(name: str, *, vocab_size: int, pad_token_id: int) -> PreTrainedConfig:
    """Return the configuration of a built-in encoder for a tokenizer of ``vocab_size`` tokens.

    Raises:
        UnknownModelError: ``name`` is no built-in name.
    """
    size_name, family = _split_name(name)
    size = _SIZES[size_name]
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "pad_token_id": pad_token_id,
        "num_hidden_layers": size.layers,
        "hidden_size": size.hidden,
        "num_attention_heads": size.heads,
        "intermediate_size": size.intermediate,
    }
    return _CONFIGS[family](common)


def builtin_pad_token_id(name: str) -> int:
    """Return the number of the padding token in the tokenizer that is trained for a built-in encoder.

    Raises:
        UnknownModelError: ``name`` is no built-in name.
    """
    return 1 if _split_name(name)[1] == "roberta" else 0


def _bert_config(common: dict[str, Any]) -> PreTrainedConfig:
    return BertConfig(**common, max_position_embeddings=MAX_LENGTH, type_vocab_size=2)


def _roberta_config(common: dict[str, Any]) -> PreTrainedConfig:
    # RoBERTa numbers its positions from padding_idx + 1, so the table needs that many rows more.
    positions = MAX_LENGTH + int(common["pad_token_id"]) + 1
    return RobertaConfig(
        **common,
        max_position_embeddings=positions,
        type_vocab_size=1,
        bos_token_id=_ROBERTA_SPECIALS.index("<s>"),
        eos_token_id=_ROBERTA_SPECIALS.index("</s>"),
    )


def _deberta_config(common: dict[str, Any]) -> PreTrainedConfig:
    # The choices of the published v3 models: disentangled attention with shared keys and no absolute positions.
    choices: dict[str, Any] = {
        "max_position_embeddings": MAX_LENGTH,
        "type_vocab_size": 0,
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    }
    return DebertaV2Config(**common, **choices)


def build_encoder(config: PreTrainedConfig, *, seed: int) -> PreTrainedModel:
    """Return an fp32 encoder on the CPU whose random weights depend on ``config`` and ``seed`` alone.

    The global random state is restored. Not thread-safe (see ``load.load_encoder``, which holds the lock).
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also reseed the accelerators, which fork_rng does not restore here.
        torch.default_generator.manual_seed(seed)
        model: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    replace_attention(model)
    model.eval()
    return model


def train_tokenizer(name: str, texts: Sequence[str], folder: Path) -> None:
    """Train the tokenizer of a built-in encoder and save it to ``folder`` in the transformers layout.

    The same texts in the same order give the same files. The vocabulary holds ``MAX_VOCABULARY`` tokens at most.

    Raises:
        UnknownModelError: ``name`` is no built-in name.
        ValueError: no text holds anything but white space.
    """
    _, family = _split_name(name)
    if not any(text.strip() for text in texts):
        raise ValueError(f"the tokenizer of {name!r} cannot be trained: all {len(texts)} texts are empty")
    _TOKENIZERS[family](texts).save_pretrained(folder)


def _bert_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """Train a lower-cased WordPiece tokenizer, whose pieces inside a word carry a prefix."""
    blank = BertTokenizer()
    alphabet = _alphabet(blank, texts)
    continued = [_CONTINUED + character for character in alphabet]
    trained = _train_bpe(blank, texts, [*_BERT_SPECIALS, *alphabet, *continued], alphabet, continued=_CONTINUED)
    return BertTokenizer(vocab=trained.get_vocab(), model_max_length=MAX_LENGTH)


def _roberta_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer, to which no character is unknown."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = _train_bpe(RobertaTokenizer(), texts, _ROBERTA_SPECIALS, alphabet)
    merges: Any = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=merges, model_max_length=MAX_LENGTH)


def _deberta_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """Train a Unigram tokenizer with a visible space: the pieces of BPE, scored by their smoothed log frequency."""
    blank = DebertaV2Tokenizer()
    trained = _train_bpe(blank, texts, _DEBERTA_SPECIALS, [_VISIBLE_SPACE, *_alphabet(blank, texts)])
    counts = Counter(token for text in texts for token in trained.encode(text).tokens)
    vocabulary = trained.get_vocab()
    pieces = sorted(vocabulary.keys() - set(_DEBERTA_SPECIALS), key=vocabulary.__getitem__)
    total = sum(counts[piece] + 1 for piece in pieces)
    scored = [(piece, math.log((counts[piece] + 1) / total)) for piece in pieces]
    specials = [(token, 0.0) for token in _DEBERTA_SPECIALS]
    return DebertaV2Tokenizer(vocab=[*specials, *scored], model_max_length=MAX_LENGTH)


def _train_bpe(
    blank: PreTrainedTokenizerBase,
    texts: Sequence[str],
    first: Sequence[str],
    alphabet: Sequence[str],
    *,
    continued: str = "",
) -> Tokenizer:
    """Train BPE on texts that ``blank`` cuts into words; the tokens ``first`` get the ids 0, 1, ….

    One trainer serves all families because it is deterministic. The library's WordPiece and Unigram trainers are not:
    they number tokens, or sum scores, in the order of a hash map. For the same reason the whole alphabet (and, for
    pieces inside a word, its prefixed twin) is given instead of derived.
    """
    backend = blank.backend_tokenizer
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix=continued))
    tokenizer.pre_tokenizer = backend.pre_tokenizer
    if backend.normalizer is not None:
        tokenizer.normalizer = backend.normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        special_tokens=list(first),
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=continued,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _alphabet(blank: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
    """Return the most frequent characters of the normalised texts, without white space, in code point order."""
    normalizer = blank.backend_tokenizer.normalizer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update("".join(normalizer.normalize_str(text).split()))
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    return sorted(frequent[:_MAX_ALPHABET])


def _split_name(name: str) -> tuple[str, str]:
    if name not in BUILTIN_NAMES:
        raise UnknownModelError(f"{name!r} is not a built-in encoder; use one of {', '.join(BUILTIN_NAMES)}")
    size, _, family = name.partition("-")
    return size, family


_CONFIGS: dict[str, Callable[[dict[str, Any]], PreTrainedConfig]] = {
    "bert": _bert_config,
    "roberta": _roberta_config,
    "deberta": _deberta_config,
}
_TOKENIZERS: dict[str, Callable[[Sequence[str]], PreTrainedTokenizerBase]] = {
    "bert": _bert_tokenizer,
    "roberta": _roberta_tokenizer,
    "deberta": _deberta_tokenizer,
}
