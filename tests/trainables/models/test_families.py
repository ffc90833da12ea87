"""Part names and limits of the families, checked against the real encoders of transformers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trainables.models.encoder import enable_checkpointing, freeze_layers
from trainables.models.families import (
    FAMILIES,
    Architecture,
    UnsupportedError,
    beneath_layers,
    layer_stack,
    named_family,
    obstacles,
    set_dropout,
)

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

LAYERS = 3
DROPOUTS = ("dropout", "attention_dropout")
WITHOUT_SHARED_LAYERS = [name for name, family in FAMILIES.items() if not family.shares_layers]

CHECKPOINTED = [name for name, family in FAMILIES.items() if family.can_checkpoint]


def small_config(family: str, **values: Any) -> Any:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 64}
    if family == "eurobert":
        sizes["num_key_value_heads"] = 2
    if family in ("electra", "albert"):
        sizes["embedding_size"] = 16
    if family.startswith("deberta"):
        sizes |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    return AutoConfig.for_model(family, **(sizes | tokens | {"vocab_size": 50, **values}))


@pytest.fixture
def encoder() -> Callable[..., PreTrainedModel]:
    """Return a function that builds a family's small encoder: the same weights every time, in training mode."""

    def build(family: str, dropout: float | None = None, attention_dropout: float | None = None) -> PreTrainedModel:
        config = small_config(family)
        set_dropout(config, dropout, attention_dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model: PreTrainedModel = AutoModel.from_config(config)
        return model.train()

    return build


def hidden(model: PreTrainedModel, seed: int = 0) -> torch.Tensor:
    ids = torch.arange(3, 27).view(2, 12)
    mask = torch.ones_like(ids)
    mask[:, -1] = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        output: torch.Tensor = model(ids, attention_mask=mask).last_hidden_state
    return output


def trained(model: PreTrainedModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("family", "which"),
    [(name, which) for name, family in FAMILIES.items() for which in DROPOUTS if getattr(family, which)],
)
def test_either_dropout_changes_the_computation_alone(
    family: str, which: str, encoder: Callable[..., PreTrainedModel]
) -> None:
    none, some = encoder(family, 0.0, 0.0), encoder(family, **{"dropout": 0.0, "attention_dropout": 0.0, which: 0.5})
    assert torch.equal(hidden(none, 1), hidden(none, 2)), "nothing else is random"
    assert not torch.equal(hidden(some, 1), hidden(some, 2))
    torch.testing.assert_close(hidden(some.eval()), hidden(none.eval()))


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_that_is_left_alone_stays(family: str) -> None:
    config = small_config(family)
    before = config.to_dict()
    set_dropout(config, None, None)
    assert config.to_dict() == before


@pytest.mark.parametrize("family", WITHOUT_SHARED_LAYERS)
def test_the_stack_holds_the_layers_and_what_is_beneath_comes_before(
    family: str, encoder: Callable[..., PreTrainedModel]
) -> None:
    model = encoder(family, 0.0, 0.0)
    order: list[nn.Module] = []
    watched = [*beneath_layers(model), *layer_stack(model)]
    for module in watched:
        module.register_forward_hook(lambda module, *_: order.append(module))
    hidden(model)
    assert len(layer_stack(model)) == LAYERS
    assert [module for module in order if module in set(layer_stack(model))] == list(layer_stack(model))
    assert order[0] is next(beneath_layers(model))


@pytest.mark.parametrize("family", WITHOUT_SHARED_LAYERS)
def test_every_weight_of_an_encoder_has_its_place(family: str, encoder: Callable[..., PreTrainedModel]) -> None:
    model = encoder(family)
    freeze_layers(model, LAYERS)
    above = {name.split(".")[0] for name in trained(model)}
    assert above <= {"pooler", "final_norm", "norm"}, "a norm or a pooler is above the layers, and nothing else is"


@pytest.mark.parametrize("family", WITHOUT_SHARED_LAYERS)
def test_no_gradient_goes_below_the_first_layer_that_is_trained(
    family: str, encoder: Callable[..., PreTrainedModel]
) -> None:
    model = encoder(family)
    freeze_layers(model, 2)
    inputs: list[bool] = []
    layer_stack(model)[2].register_forward_pre_hook(lambda _, args: inputs.append(args[0].requires_grad))
    hidden(model).square().sum().backward()
    assert inputs == [False]
    assert all(parameter.grad is not None for parameter in layer_stack(model)[2].parameters())


@pytest.mark.parametrize("family", CHECKPOINTED)
def test_checkpointing_changes_no_gradient(family: str, encoder: Callable[..., PreTrainedModel]) -> None:
    rate = 0.2 if FAMILIES[family].dropout else None
    plain, again = encoder(family, rate, 0.2), encoder(family, rate, 0.2)
    enable_checkpointing(again)
    computed: list[nn.Module] = []
    for model in (plain, again):
        # The hook sits on a module within the layer: hooks of the layer itself run outside the checkpoint.
        within = next(module for module in layer_stack(model)[0].modules() if isinstance(module, nn.Linear))
        within.register_forward_hook(lambda module, *_: computed.append(module))
        hidden(model).square().sum().backward()
        assert computed.count(within) == (2 if model is again else 1)
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_have_a_pooler_are_those_that_say_so(
    family: str, encoder: Callable[..., PreTrainedModel]
) -> None:
    assert (getattr(encoder(family), "pooler", None) is not None) == FAMILIES[family].has_pooler


@pytest.mark.parametrize(
    ("family", "values"), [*((family, {}) for family in FAMILIES), ("deberta-v2", {"position_biased_input": False})]
)
def test_the_longest_input_runs_and_one_token_more_does_not(family: str, values: dict[str, Any]) -> None:
    config = small_config(family, max_position_embeddings=24, **values)
    longest = Architecture.of(config.to_dict()).longest
    model = AutoModel.from_config(config).eval()
    assert (longest is None) == (FAMILIES[family].positions == "rotary" or "position_biased_input" in values)
    if longest is None:
        model(torch.full((1, 40), 5))
        return
    model(torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, longest + 1), 5))


NOTHING = {
    "model.freeze_layers": 0,
    "train.checkpointing": False,
    "optim.layer_decay": 1.0,
    "head.pooling": "cls",
    "tok.max_length": 64,
}
EVERYTHING = {
    "model.dropout": 0.1,
    "model.attention_dropout": 0.1,
    "model.freeze_layers": LAYERS,
    "train.checkpointing": True,
    "optim.layer_decay": 0.9,
    "head.pooling": "attention",
    "tok.max_length": 500,
}


def refused(family: str, params: dict[str, Any]) -> list[str]:
    architecture = Architecture.of(small_config(family).to_dict())
    assert architecture is not None
    return [str(obstacle) for obstacle in obstacles(architecture, params)]


ABLE = [name for name in WITHOUT_SHARED_LAYERS if FAMILIES[name].can_checkpoint and FAMILIES[name].dropout]


@pytest.mark.parametrize("family", ABLE)
def test_families_with_layers_of_their_own_can_do_everything(family: str) -> None:
    assert refused(family, EVERYTHING) == refused(family, NOTHING) == refused(family, {}) == []


def test_albert_says_what_it_cannot_do_by_name() -> None:
    assert refused("albert", NOTHING) == []
    assert refused("albert", EVERYTHING) == [
        "model.freeze_layers: 3: the layers of albert encoders share their weights; set it to 0",
        "train.checkpointing: true: albert encoders do not support gradient checkpointing; set it to false",
        "optim.layer_decay: 0.9: the layers of albert encoders share their weights; set it to 1",
    ]


def test_a_pooler_too_many_layers_and_too_long_inputs_are_refused() -> None:
    params = {"head.pooling": "pooler", "model.freeze_layers": 4, "tok.max_length": 513}
    assert refused("electra", params) == [
        "model.freeze_layers: 4: this electra encoder has 3 layers; give at most 3",
        'head.pooling: "pooler": electra encoders have no trained pooler; use cls, mean, max or attention',
        "tok.max_length: 513: this electra encoder has 512 positions; give at most 512",
    ]
    assert refused("bert", {"head.pooling": "pooler"}) == refused("modernbert", {"tok.max_length": 8192}) == []


def test_an_unknown_family_allows_only_settings_that_need_no_facts() -> None:
    stranger = Architecture("xmod", layers=12, positions=514)
    assert obstacles(stranger, NOTHING | {"tok.max_length": 4096, "head.pooling": "pooler"}) == []
    found = obstacles(stranger, EVERYTHING)
    assert [obstacle.setting for obstacle in found] == [
        "model.dropout",
        "model.attention_dropout",
        "model.freeze_layers",
        "optim.layer_decay",
    ]
    assert all("xmod" in str(obstacle) and "known: bert, roberta" in str(obstacle) for obstacle in found)


def test_dropout_of_a_stranger_is_refused() -> None:
    config = AutoConfig.for_model("xmod")
    set_dropout(config, None, None)
    with pytest.raises(UnsupportedError, match=r"model\.attention_dropout: 0\.1: the layout of xmod encoders"):
        set_dropout(config, None, 0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_can_be_checkpointed_exactly_where_it_says_so(
    family: str, encoder: Callable[..., PreTrainedModel]
) -> None:
    assert encoder(family).supports_gradient_checkpointing == FAMILIES[family].can_checkpoint or family == "albert"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_computes_its_attention_itself_exactly_where_it_says_so(family: str) -> None:
    called: list[str] = []

    def attention(*args: Any, **options: Any) -> Any:
        called.append(family)
        return sdpa_attention_forward(*args, **options)

    AttentionInterface.register("watched", attention)
    AttentionMaskInterface.register("watched", sdpa_mask)
    model = AutoModel.from_config(small_config(family))
    if not FAMILIES[family].own_attention:
        model.set_attn_implementation("watched")
    hidden(model.eval())
    assert bool(called) != FAMILIES[family].own_attention


def test_mpnet_and_eurobert_refuse_only_what_they_lack() -> None:
    assert refused("mpnet", EVERYTHING) == [
        "train.checkpointing: true: mpnet encoders do not support gradient checkpointing; set it to false"
    ]
    assert refused("eurobert", EVERYTHING) == [
        "model.dropout: 0.1: eurobert encoders have no such dropout; leave it null"
    ]
    assert refused("eurobert", {"model.dropout": 0.0}) == []


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("bert-base-uncased", "bert"),
        ("google-bert/bert-large-cased", "bert"),
        ("owner/Tiny-BERT", "bert"),
        ("roberta-large", "roberta"),
        ("FacebookAI/xlm-roberta-base", "xlm-roberta"),
        ("camembert/camembert-large", "camembert"),
        ("microsoft/deberta-v3-base", "deberta-v2"),
        ("microsoft/mdeberta-v3-base", "deberta-v2"),
        ("microsoft/deberta-large", "deberta"),
        ("distilbert-base-uncased", "distilbert"),
        ("albert-base-v2", "albert"),
        ("jhu-clsp/ettin-encoder-150m", "modernbert"),
        ("sentence-transformers/all-mpnet-base-v2", "mpnet"),
        ("EuroBERT/EuroBERT-610m", "eurobert"),
        ("bert-owner/electra", "electra"),
        ("owner/superbert", None),
        ("/models/roberta/mine", None),
    ],
)
def test_a_published_name_shows_the_family(model: str, family: str | None) -> None:
    assert named_family(model) == family
