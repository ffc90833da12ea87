"""Parameter groups: the learning rate of each parameter, and the effect of rates on training."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from trainables.models.encoder import TextClassifier, freeze_layers
from trainables.models.families import FAMILIES, UnsupportedError
from trainables.settings import HeadSettings, OptimSettings
from trainables.training.groups import parameter_groups
from trainables.training.optimizer import build_optimizer

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

DECAYING = OptimSettings(lr=1.0, layer_decay=0.5, weight_decay=0.1)
SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DISTILBERT: dict[str, Any] = {"vocab_size": 50, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}


def encoder(family: str) -> PreTrainedModel:
    sizes = DISTILBERT if family == "distilbert" else SIZES | {"intermediate_size": 64}
    if family.startswith("deberta"):
        sizes = sizes | {"relative_attention": True, "pos_att_type": ["p2c"], "norm_rel_ebd": "layer_norm"}
    model: PreTrainedModel = AutoModel.from_config(AutoConfig.for_model(family, **sizes, **TOKENS))
    return model


def classifier(family: str) -> TextClassifier:
    return TextClassifier(encoder(family), classes=2, head=HeadSettings("attention", layers=1, width=16), seed=0)


def by_name(model: nn.Module, settings: OptimSettings) -> dict[str, tuple[float, float]]:
    """Return each parameter's name in a group → its rate and weight decay."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, settings)
    found = [(names[p], (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(found) == len(dict(found)), "none stands in two groups"
    return dict(found)


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if not family.shares_layers])
def test_each_layer_learns_slower_than_the_one_above(family: str) -> None:
    model = classifier(family)
    rates = {name: rate for name, (rate, _) in by_name(model, DECAYING).items()}
    assert rates.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    stack = f"encoder.{FAMILIES[family].stack}"

    def rates_below(*starts: str) -> set[float]:
        return {rate for name, rate in rates.items() if name.startswith(starts)}

    beneath = tuple(f"encoder.{path}." for path in FAMILIES[family].beneath)
    assert rates_below("head.", "pooler.") == {1.0}
    assert rates_below(f"{stack}.1.") == {0.5}
    assert rates_below(f"{stack}.0.") == {0.25}
    assert rates_below(*beneath) == {0.125}
    others = {name for name in rates if not name.startswith(("head.", "pooler.", f"{stack}.", *beneath))}
    assert others <= {"encoder.final_norm.weight", "encoder.norm.weight"}


def test_without_decay_all_learn_at_one_rate_in_the_order_of_the_model() -> None:
    model = classifier("bert")
    groups = parameter_groups(model, OptimSettings(lr=0.3, weight_decay=0.1))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.3, 0.1), (0.3, 0.0)]
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in trainable if p.ndim > 1]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in trainable if p.ndim <= 1]


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_biases_and_norms_are_not_decayed(layer_decay: float) -> None:
    model = classifier("electra")
    for name, (_, decay) in by_name(model, OptimSettings(weight_decay=0.1, layer_decay=layer_decay)).items():
        assert decay == (0.1 if model.get_parameter(name).ndim > 1 else 0.0), name


def test_frozen_parameters_are_in_no_group() -> None:
    model = classifier("bert")
    freeze_layers(model.encoder, 1)
    assert not any(
        name.startswith(("encoder.embeddings.", "encoder.encoder.layer.0.")) for name in by_name(model, DECAYING)
    )


def test_two_encoders_decay_each_for_itself() -> None:
    model = nn.ModuleList([encoder("bert"), encoder("distilbert")])
    rates = {name: rate for name, (rate, _) in by_name(model, DECAYING).items()}
    assert rates["0.encoder.layer.0.output.dense.weight"] == rates["1.transformer.layer.0.ffn.lin1.weight"] == 0.25


def test_layers_that_are_one_and_the_same_cannot_differ() -> None:
    model = classifier("albert")
    assert len(parameter_groups(model, OptimSettings())) == 2
    with pytest.raises(UnsupportedError, match=r"optim\.layer_decay: 0\.5: the layers of albert"):
        parameter_groups(model, DECAYING)


def test_decay_changes_what_is_trained_most_at_the_bottom() -> None:
    def moved(layer_decay: float) -> list[float]:
        torch.manual_seed(0)
        model = classifier("bert").eval()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = build_optimizer(model, OptimSettings(lr=1e-3, layer_decay=layer_decay, weight_decay=0.0))
        ids = torch.arange(3, 27).view(2, 12)
        for _ in range(2):
            optimizer.zero_grad()
            model({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).square().sum().backward()
            optimizer.step()
        after = dict(model.named_parameters())
        watched = [f"encoder.encoder.layer.{layer}.output.dense.weight" for layer in (0, 1)]
        watched += ["head.output.weight"]
        return [float((after[name].detach() - before[name]).abs().mean()) for name in watched]

    plain, decayed = moved(1.0), moved(0.1)
    assert decayed[0] < 0.05 * plain[0]
    assert 0.05 * plain[1] < decayed[1] < 0.5 * plain[1]
    assert decayed[2] > 0.5 * plain[2]
