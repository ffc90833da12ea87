"""Published configurations of the encoders that users name, so that planning needs no download.

Cheap to import (no torch).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_OWNERS = ("google-bert/", "FacebookAI/", "distilbert/", "albert/", "almanach/")

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_BERT = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2}
# Positions are numbered from padding_idx + 1, hence two more rows.
_ROBERTA = {
    "model_type": "roberta",
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-5,
}
_CAMEMBERT = {**_ROBERTA, "model_type": "camembert", "vocab_size": 32005, "bos_token_id": 5, "eos_token_id": 6}
_XLM_ROBERTA = {**_ROBERTA, "model_type": "xlm-roberta", "vocab_size": 250002}
_DEBERTA = {
    "model_type": "deberta",
    "vocab_size": 50265,
    "max_position_embeddings": 512,
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
}
_DEBERTA_V3 = {
    "model_type": "deberta-v2",
    "vocab_size": 128100,
    "max_position_embeddings": 512,
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
}
_MODERNBERT = {
    "model_type": "modernbert",
    "vocab_size": 50368,
    "max_position_embeddings": 8192,
    "global_attn_every_n_layers": 3,
    "local_attention": 128,
}

_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {**_BERT, **_BASE},
    "bert-large-uncased": {**_BERT, **_LARGE},
    "roberta-base": {**_ROBERTA, **_BASE},
    "roberta-large": {**_ROBERTA, **_LARGE},
    "xlm-roberta-base": {**_XLM_ROBERTA, **_BASE},
    "xlm-roberta-large": {**_XLM_ROBERTA, **_LARGE},
    "camembert-base": {**_CAMEMBERT, **_BASE},
    "microsoft/deberta-base": {**_DEBERTA, **_BASE},
    "microsoft/deberta-v3-base": {**_DEBERTA_V3, **_BASE},
    "microsoft/deberta-v3-large": {**_DEBERTA_V3, **_LARGE},
    "google/electra-base-discriminator": {**_BERT, **_BASE, "model_type": "electra", "embedding_size": 768},
    "distilbert-base-uncased": {
        "model_type": "distilbert",
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
    },
    "albert-base-v2": {
        **_BASE,
        "model_type": "albert",
        "vocab_size": 30000,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "embedding_size": 128,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "answerdotai/ModernBERT-base": {
        **_MODERNBERT,
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
    },
    "answerdotai/ModernBERT-large": {
        **_MODERNBERT,
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "intermediate_size": 2624,
    },
    "microsoft/mpnet-base": {
        **_BASE,
        "model_type": "mpnet",
        "vocab_size": 30527,
        "max_position_embeddings": 514,
        "relative_attention_num_buckets": 32,
        "layer_norm_eps": 1e-5,
    },
    "EuroBERT/EuroBERT-210m": {
        **_BASE,
        "model_type": "eurobert",
        "num_key_value_heads": 12,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    },
}

ARCHITECTURE_NAMES = tuple(_ARCHITECTURES)


def known_values(name: str) -> Mapping[str, Any] | None:
    """Return the values in which a well-known hub model differs from its family's defaults, or None.

    The owner's name may be omitted.
    """
    for owner in _OWNERS:
        name = name.removeprefix(owner)
    return _ARCHITECTURES.get(name)


def known_config(name: str) -> "PreTrainedConfig | None":
    """Return the configuration of a well-known hub model, with or without the owner's name, or None."""
    from transformers import AutoConfig

    known = known_values(name)
    if known is None:
        return None
    values = dict(known)
    config: PreTrainedConfig = AutoConfig.for_model(values.pop("model_type"), **values)
    return config
