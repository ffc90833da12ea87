"""Packed weights change how fast a model answers, and nothing else."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModel

from trainables.models.encoder import replace_attention
from trainables.models.packed import pack_linears

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 50}
SMALL = {
    "distilbert": {"n_layers": 2, "n_heads": 2, "dim": 32, "hidden_dim": 64, "vocab_size": 50},
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "electra": SIZES | {"embedding_size": 16},
    "modernbert": SIZES
    | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
}


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", *SMALL])
def test_a_packed_encoder_of_any_family_gives_the_same_vectors(family: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SMALL.get(family) or SIZES))
    plain = AutoModel.from_config(config)
    replace_attention(plain)
    plain.eval()
    packed = copy.deepcopy(plain)
    pack_linears(packed)
    inputs = {"input_ids": torch.randint(3, 50, (3, 17)), "attention_mask": torch.ones(3, 17, dtype=torch.int64)}
    inputs["attention_mask"][1, 9:] = 0
    with torch.inference_mode():
        expected, got = (model(**inputs).last_hidden_state for model in (plain, packed))
    real = inputs["attention_mask"].bool()
    assert torch.allclose(got[real], expected[real], atol=1e-5)
    layers = [module for module in packed.modules() if type(module) is torch.nn.Linear]
    assert all("forward" in vars(layer) for layer in layers)
