"""Models with a head that transformers defines."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from trainables.internals import model_class
from trainables.models.encoder import enable_checkpointing, freeze_layers
from trainables.models.families import FAMILIES, UnsupportedError
from trainables.models.native import NativeModel
from trainables.settings import OptimSettings
from trainables.task_entry import CLASS, SPAN
from trainables.training.groups import parameter_groups

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

AUTO: dict[str, Any] = {CLASS: AutoModelForSequenceClassification, SPAN: AutoModelForQuestionAnswering}
SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DISTILBERT: dict[str, Any] = {"vocab_size": 50, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
CLASSES = 40


def config_of(family: str) -> PreTrainedConfig:
    sizes = DISTILBERT if family == "distilbert" else SIZES | {"intermediate_size": 64, "num_key_value_heads": 2}
    if family.startswith("deberta"):
        sizes = sizes | {"relative_attention": True, "pos_att_type": ["p2c"], "norm_rel_ebd": "layer_norm"}
    return AutoConfig.for_model(family, **sizes, **TOKENS)


def encoder_of(family: str) -> PreTrainedModel:
    encoder: PreTrainedModel = AutoModel.from_config(config_of(family))
    return encoder.eval()


@pytest.mark.parametrize("question", [CLASS, SPAN])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_entries_know_for_which_families_transformers_defines_a_head(family: str, question: str) -> None:
    assert (model_class(AUTO[question], config_of(family)) is not None) == (question in FAMILIES[family].native_heads)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_begins_as_transformers_begins_it_and_the_encoder_stays(family: str) -> None:
    encoder = encoder_of(family)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    torch.manual_seed(3)
    random = torch.random.get_rng_state()
    model = NativeModel(encoder, CLASS, classes=CLASSES, seed=1)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not model.model.training
    config = config_of(family)
    config.num_labels = CLASSES
    theirs = AutoModelForSequenceClassification.from_config(config).state_dict()
    ours = model.model.state_dict()
    assert ours.keys() == theirs.keys()
    prefix = f"{model.model.base_model_prefix}."
    for name, tensor in ours.items():
        bare = name.removeprefix(prefix) if name.startswith(prefix) else None
        if bare in before:
            assert torch.equal(tensor, before[bare]), name
        elif tensor.unique().numel() == 1:
            assert torch.equal(tensor, theirs[name]), name
        else:
            assert tensor.std().item() == pytest.approx(theirs[name].std().item(), rel=0.2), name
    again = NativeModel(encoder_of(family), CLASS, classes=CLASSES, seed=1).model.state_dict()
    of_head = [name for name in ours if not name.startswith(prefix)]
    assert of_head
    assert all(torch.equal(ours[name], again[name]) for name in of_head), "the seed decides"


def test_a_pooler_is_as_the_familys_model_wants_it() -> None:
    bert, roberta = encoder_of("bert"), encoder_of("roberta")
    bert.register_module("pooler", None)
    assert roberta.pooler is not None
    NativeModel(bert, CLASS, seed=0)
    NativeModel(roberta, CLASS, seed=0)
    assert bert.pooler.dense.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert roberta.pooler is None


def test_a_family_without_such_a_head_says_so() -> None:
    with pytest.raises(UnsupportedError, match=r"head\.pooling: 'native': transformers defines no eurobert model"):
        NativeModel(encoder_of("eurobert"), SPAN, seed=0)


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "deberta-v2"])
def test_layers_of_its_encoder_are_frozen_recomputed_and_trained_at_their_rates(family: str) -> None:
    encoder = encoder_of(family)
    freeze_layers(encoder, 1)
    model = NativeModel(encoder, CLASS, seed=0)
    enable_checkpointing(encoder)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, OptimSettings(lr=1.0, layer_decay=0.5))
    rates = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
    assert rates.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    prefix = f"model.{encoder.base_model_prefix}."
    stack = f"{prefix}{FAMILIES[family].stack}"
    assert {rate for name, rate in rates.items() if name.startswith(f"{stack}.1.")} == {0.5}
    assert not any(name.startswith(f"{stack}.0.") for name in rates)
    assert {rate for name, rate in rates.items() if not name.startswith(prefix)} == {1.0}
    ids = torch.full((2, 7), 5)
    model.train()({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).sum().backward()
    assert all(model.get_parameter(name).grad is not None for name in rates)
