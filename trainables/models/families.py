"""Each encoder family's names for its parts, and its limits. Cheap to import (no torch).

A family's name is the ``model_type`` that transformers gives a model's configuration.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from trainables.models import recipes
from trainables.models.recipes import Recipe
from trainables.poolings import needs_pooler, pools
from trainables.registry import Entry, Registry
from trainables.task_entry import CLASS, NATIVE, PLAIN, SPAN
from trainables.task_registry import TASKS

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Family(Entry):
    """The facts about a family's encoders: where they store what the settings change, and what they cannot do.

    Attributes:
        names: beginnings of words by which the names of its published models can be recognised.
        kin: the family among ``bert``, ``roberta`` and ``deberta`` whose limits apply to it; None: no limits apply.
        stack: path of the list of layers in the encoder.
        beneath: paths of modules under the first layer or shared by all layers: embeddings and their kin. Not every
            encoder has each of them.
        dropout: fields of the configuration for dropout, except on attention weights; none if it has no such dropout.
        attention_dropout: fields of the configuration for dropout on attention weights.
        shares_layers: whether all layers share one set of weights.
        has_pooler: whether the encoder has a pretrained pooler that gives a text's vector.
        can_checkpoint: whether transformers can recompute the layers' activations in the backward pass.
        own_attention: whether it computes attention itself instead of calling the function that transformers offers.
        attention: ``module:function`` that replaces the attention of a built encoder by one with the same result that
            takes less memory; None leaves transformers' own.
        large_vocabulary: whether even its base model needs the memory of a large one, by its vocabulary.
        native_heads: questions for which transformers defines a model of the family with a head.
        positions: kind of positions. ``table`` is a table of finite length, used from its first row on. ``table after
            padding`` is used only from the row after the padding's.
        padding: id of the padding token that its code assumes; None: the configuration's.
        recommended: published recipes for fine-tuning, smallest models first; a model gets the first that suits its
            size. A family without its own recipes has BERT's.
    """

    names: tuple[str, ...] = ()
    kin: str | None = None
    stack: str = "encoder.layer"
    beneath: tuple[str, ...] = ("embeddings",)
    dropout: tuple[str, ...] = ("hidden_dropout_prob",)
    attention_dropout: tuple[str, ...] = ("attention_probs_dropout_prob",)
    shares_layers: bool = False
    has_pooler: bool = True
    can_checkpoint: bool = True
    own_attention: bool = False
    attention: str | None = None
    large_vocabulary: bool = False
    native_heads: frozenset[str] = frozenset({CLASS, SPAN})
    positions: Literal["table", "table after padding", "rotary"] = "table"
    padding: int | None = None
    recommended: tuple[Recipe, ...] = recipes.BERT


_ROBERTA = Family(
    names=("roberta", "distilroberta"), kin="roberta", positions="table after padding", recommended=recipes.ROBERTA
)
_DEBERTA = Family(
    names=("deberta",),
    kin="deberta",
    # DeBERTa's attention sums three products.
    own_attention=True,
    attention="trainables.models.disentangled:use_disentangled_attention",
    beneath=("embeddings", "encoder.rel_embeddings", "encoder.LayerNorm", "encoder.conv"),
    has_pooler=False,
    recommended=recipes.DEBERTA,
)

FAMILIES = Registry(
    "headroom.families",
    Family,
    {
        "bert": Family(names=("bert",), kin="bert"),
        "roberta": _ROBERTA,
        "xlm-roberta": replace(
            _ROBERTA, names=("xlm-roberta",), large_vocabulary=True, recommended=recipes.XLM_ROBERTA
        ),
        "camembert": replace(_ROBERTA, names=("camembert",)),
        "deberta": _DEBERTA,
        "deberta-v2": replace(_DEBERTA, names=("deberta-v2", "deberta-v3", "mdeberta"), recommended=recipes.DEBERTA_V2),
        "electra": Family(
            names=("electra",),
            beneath=("embeddings", "embeddings_project"),
            has_pooler=False,
            recommended=recipes.ELECTRA,
        ),
        "distilbert": Family(
            names=("distilbert",),
            stack="transformer.layer",
            dropout=("dropout",),
            attention_dropout=("attention_dropout",),
            has_pooler=False,
            recommended=recipes.DISTILBERT,
        ),
        "albert": Family(
            names=("albert",),
            stack="encoder.albert_layer_groups",
            shares_layers=True,
            can_checkpoint=False,
            recommended=recipes.ALBERT,
        ),
        "modernbert": Family(
            names=("modernbert", "ettin"),
            stack="layers",
            dropout=("embedding_dropout", "mlp_dropout"),
            attention_dropout=("attention_dropout",),
            has_pooler=False,
            positions="rotary",
            recommended=recipes.MODERNBERT,
        ),
        "mpnet": Family(
            names=("mpnet",),
            beneath=("embeddings", "encoder.relative_attention_bias"),
            can_checkpoint=False,
            # MPNet's attention adds a relative bias that all layers share.
            own_attention=True,
            positions="table after padding",
            padding=1,
        ),
        "eurobert": Family(
            names=("eurobert",),
            stack="layers",
            beneath=("embed_tokens",),
            dropout=(),
            attention_dropout=("attention_dropout",),
            has_pooler=False,
            native_heads=frozenset({CLASS}),
            positions="rotary",
        ),
    },
)
"""Families by transformers' ``model_type``."""


def named_family(model: str) -> str | None:
    """Return the family that a published model's name shows, by the last part of the name; None if it shows none.

    The longest of the families' names that begin a word of it decides: ``xlm-roberta-base`` is no ``roberta``.
    """
    leaf = model.lower().rstrip("/").rpartition("/")[2]
    shown = [
        (len(name), family_name)
        for family_name, family in FAMILIES.items()
        for name in family.names
        if re.search(rf"(?<![a-z]){re.escape(name)}", leaf)
    ]
    return max(shown)[1] if shown else None


_SHORTEST_TABLE = 512
"""Number of tokens that every published encoder accepts."""


@dataclass(frozen=True)
class Architecture:
    """The architecture that a model's configuration describes.

    Attributes:
        layers: number of layers; None if unknown.
        positions: rows of the table of positions; None if unknown, or if there is no table.
        padding: id of the padding token.
        hidden: hidden size; None if unknown.
        pretrained: False for a built-in encoder, whose weights are random.
    """

    model_type: str
    layers: int | None = None
    positions: int | None = None
    padding: int = 0
    hidden: int | None = None
    pretrained: bool = True

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture | None":
        """Read a ``config.json``; None if it names no family. A number that is no integer counts as absent."""
        model_type = config.get("model_type")
        if not isinstance(model_type, str):
            return None
        numbers = {name: value for name, value in config.items() if type(value) is int}
        layers = numbers.get("num_hidden_layers", numbers.get("n_layers"))
        # Later DeBERTa models have relative positions and no table.
        positions = numbers.get("max_position_embeddings") if config.get("position_biased_input", True) else None
        hidden = numbers.get("hidden_size", numbers.get("dim"))
        return cls(model_type, layers, positions, numbers.get("pad_token_id", 0), hidden)

    @property
    def longest(self) -> int | None:
        """The most tokens of an input, special tokens included; None if there is no limit, or it is unknown."""
        family = FAMILIES.get(self.model_type)
        if family is None or self.positions is None:
            return None
        padding = self.padding if family.padding is None else family.padding
        unused = {"table": 0, "table after padding": padding + 1}.get(family.positions)
        return None if unused is None else self.positions - unused


@dataclass(frozen=True)
class Obstacle:
    """A setting that a model cannot follow, with the reason and the remedy."""

    setting: str
    value: Any
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"

    @property
    def problem(self) -> str:
        """The obstacle without its remedy."""
        return f"{self.setting}: {json.dumps(self.value)}: {self.why}"


class UnsupportedError(ValueError):
    """A model cannot follow a setting. The message is one line with the setting, its value and the remedy."""


def obstacles(architecture: Architecture, params: Mapping[str, Any]) -> list[Obstacle]:
    """Return an obstacle for each setting, by dotted name, that a model cannot follow; absent ones are defaults."""
    given = {name: params[name] for name in LIMITED_SETTINGS if params.get(name) is not None}
    checked = (_CHECKS[name](architecture, name, value) for name, value in given.items())
    return [obstacle for obstacle in checked if obstacle is not None]


def _dropout_obstacle(model: Architecture, setting: str, value: float) -> Obstacle | None:
    family = FAMILIES.get(model.model_type)
    if family is None:
        return Obstacle(setting, value, _unknown(model), "leave it null")
    if value == 0 or getattr(family, setting.partition(".")[2]):
        return None
    return Obstacle(setting, value, f"{model.model_type} encoders have no such dropout", "leave it null")


def _freezing_obstacle(model: Architecture, setting: str, layers: int) -> Obstacle | None:
    if layers == 0:
        return None
    if model.model_type not in FAMILIES:
        return Obstacle(setting, layers, _unknown(model), "set it to 0")
    if FAMILIES[model.model_type].shares_layers:
        return Obstacle(setting, layers, _sharing(model), "set it to 0")
    if model.layers is not None and layers > model.layers:
        return Obstacle(
            setting,
            layers,
            f"this {model.model_type} encoder has {model.layers} layers",
            f"give at most {model.layers}",
        )
    return None


def _checkpointing_obstacle(model: Architecture, setting: str, wanted: bool) -> Obstacle | None:
    family = FAMILIES.get(model.model_type)
    if not wanted or family is None or family.can_checkpoint:
        return None
    why = f"{model.model_type} encoders do not support gradient checkpointing"
    return Obstacle(setting, wanted, why, "set it to false")


def _decay_obstacle(model: Architecture, setting: str, decay: float) -> Obstacle | None:
    if decay == 1:
        return None
    if model.model_type not in FAMILIES:
        return Obstacle(setting, decay, _unknown(model), "set it to 1")
    return (
        Obstacle(setting, decay, _sharing(model), "set it to 1") if FAMILIES[model.model_type].shares_layers else None
    )


def _pooling_obstacle(model: Architecture, setting: str, pooling: str) -> Obstacle | None:
    family = FAMILIES.get(model.model_type)
    if family is None or family.has_pooler or not needs_pooler(pooling):
        return None
    why = f"{model.model_type} encoders have no trained pooler"
    return Obstacle(setting, pooling, why, f"use {pools(without_pooler=True)}")


def head_obstacle(task_name: str, pooling: str, model: Architecture | None = None) -> Obstacle | None:
    """Return the obstacle to a task with a pooling; None without one.

    Args:
        model: model whose family may lack the head that transformers would define; None leaves that out.
    """
    task = TASKS[task_name]
    if not task.takes_pooling(pooling):
        if pooling == NATIVE:
            why, remedy = f"no head of transformers answers what task {task_name} asks", f"use {pools()}"
        else:
            why, remedy = f"task {task_name} pools nothing", f"use {NATIVE}, or {PLAIN} for a head of Headroom's own"
        return Obstacle("head.pooling", pooling, why, remedy)
    family = FAMILIES.get(model.model_type) if model else None
    if model is None or family is None or pooling != NATIVE or task.native_head in family.native_heads:
        return None
    why = f"transformers defines no {model.model_type} model with a head for task {task_name}"
    return Obstacle("head.pooling", pooling, why, f"use {pools() if task.chooses_class else PLAIN}")


def _length_obstacle(model: Architecture, setting: str, length: int) -> Obstacle | None:
    if model.longest is None or length <= model.longest:
        return None
    why = f"this {model.model_type} encoder has {model.longest} positions"
    return Obstacle(setting, length, why, f"give at most {model.longest}")


def _unknown(model: Architecture) -> str:
    return f"the layout of {model.model_type} encoders is not known here (known: {', '.join(FAMILIES)})"


def _sharing(model: Architecture) -> str:
    return f"the layers of {model.model_type} encoders share their weights"


_CHECKS: dict[str, Callable[[Architecture, str, Any], Obstacle | None]] = {
    "model.dropout": _dropout_obstacle,
    "model.attention_dropout": _dropout_obstacle,
    "model.freeze_layers": _freezing_obstacle,
    "train.checkpointing": _checkpointing_obstacle,
    "optim.layer_decay": _decay_obstacle,
    "head.pooling": _pooling_obstacle,
    "tok.max_length": _length_obstacle,
}
LIMITED_SETTINGS = tuple(_CHECKS)
"""Settings that not every model can follow."""


def any_can_follow(params: Mapping[str, Any]) -> bool:
    """Return whether every published encoder can follow the settings, given by dotted name."""
    return (
        params.get("model.dropout") is None
        and params.get("model.attention_dropout") is None
        and not params.get("model.freeze_layers")
        and not params.get("train.checkpointing")
        and params.get("optim.layer_decay", 1) == 1
        and not needs_pooler(params.get("head.pooling"))
        and params.get("tok.max_length", 0) <= _SHORTEST_TABLE
    )


def check_supported(config: "PreTrainedConfig", params: Mapping[str, Any]) -> None:
    """Reject settings, given by dotted name, that the model of a configuration cannot follow.

    Raises:
        UnsupportedError: the model cannot follow a setting; the message names the first such setting.
    """
    architecture = Architecture.of(config.to_dict())
    problems = obstacles(architecture, params) if architecture else []
    if problems:
        raise UnsupportedError(str(problems[0]))


def set_dropout(config: "PreTrainedConfig", dropout: float | None, attention_dropout: float | None) -> None:
    """Set dropout in a configuration, in its family's fields; None leaves a field unchanged.

    Raises:
        UnsupportedError: the family is unknown.
    """
    check_supported(config, {"model.dropout": dropout, "model.attention_dropout": attention_dropout})
    family = FAMILIES.get(config.model_type, Family())
    for fields, value in ((family.dropout, dropout), (family.attention_dropout, attention_dropout)):
        for field in fields if value is not None else ():
            setattr(config, field, value)


def layer_stack(encoder: "PreTrainedModel") -> "nn.ModuleList":
    """Return the encoder's layers, bottom first; only for a known family that does not share layers."""
    return cast("nn.ModuleList", encoder.get_submodule(FAMILIES[encoder.config.model_type].stack))


def beneath_layers(encoder: "PreTrainedModel") -> "Iterator[nn.Module]":
    """Yield the modules under an encoder's first layer or shared by all layers; only for a known family."""
    for path in FAMILIES[encoder.config.model_type].beneath:
        module: Any = encoder
        for name in path.split("."):
            module = getattr(module, name, None)
        if module is not None:
            yield module
