"""Named spaces to start from: the entries to search, and the settings that go with them.

They serve every task. Once the task is known, entries that its runs do not read are left out, and so are poolings that
it does not take.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

_BASE_MODELS = ["bert-base-uncased", "roberta-base", "microsoft/deberta-v3-base", "answerdotai/ModernBERT-base"]
_LARGE_MODELS = [
    "bert-large-uncased",
    "roberta-large",
    "microsoft/deberta-v3-large",
    "xlm-roberta-large",
    "answerdotai/ModernBERT-large",
]


@dataclass(frozen=True)
class NamedSpace:
    """Named space of the catalogue.

    Attributes:
        entries: entries of the space as a configuration writes them.
        settings: settings that go with the entries, by dotted name. A configuration's own value takes precedence.
        by_family: further settings, by a family of models. They apply to a space with a model of that family.
    """

    entries: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_family: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings_for(self, families: Container[str | None]) -> dict[str, Any]:
        """Return the settings for a space with models of these families."""
        settings = dict(self.settings)
        for family, further in self.by_family.items():
            if family in families:
                settings |= further
        return settings


def _choices(*values: Any) -> dict[str, Any]:
    return {"choices": list(values)}


def _between(low: float, high: float, *, log: bool = False) -> dict[str, Any]:
    return {"low": low, "high": high, **({"log": True} if log else {})}


_NARROW = {
    "model.name": _choices(*_BASE_MODELS),
    "tok.max_length": _choices(128, 256, 384, 512),
    "head.pooling": _choices("native", "cls", "mean"),
    "head.dropout": _choices(0.0, 0.1, 0.2, 0.3),
    "loss.class_weighting": _choices("none", "inverse", "effective_number"),
    "optim.lr": _between(5e-6, 1e-4, log=True),
    "optim.weight_decay": _between(1e-4, 0.1, log=True),
    "schedule.warmup_ratio": _choices(0.0, 0.06, 0.1, 0.2),
    "train.batch_size": _choices(16, 32, 64, 128),
    "task.criteria_weight": _choices(0.2, 0.35, 0.5, 0.65, 0.8),
}

# Every parameter that users have searched, in their ranges.
_WIDE = {
    "model.name": _choices(
        *_BASE_MODELS,
        "bert-large-uncased",
        "roberta-large",
        "microsoft/deberta-v3-large",
        "answerdotai/ModernBERT-large",
        "xlm-roberta-base",
        "google/electra-base-discriminator",
        "distilbert-base-uncased",
        "albert-base-v2",
    ),
    "model.dropout": _between(0.0, 0.5),
    "model.attention_dropout": _between(0.0, 0.3),
    "model.freeze_layers": {"low": 0, "high": 6},
    "tok.max_length": {"low": 128, "high": 512, "step": 32},
    "tok.doc_stride": _choices(32, 64, 96),
    "head.pooling": _choices("cls", "mean", "max", "attention"),
    "head.layers": {"low": 0, "high": 4},
    "head.width": _choices(256, 512, 768, 1024, 1536, 2048),
    "head.activation": _choices("gelu", "relu", "silu"),
    "head.dropout": _between(0.0, 0.5),
    "loss.name": _choices("cross_entropy", "label_smoothing", "focal"),
    "loss.smoothing": _between(0.0, 0.2),
    "loss.gamma": _between(1.0, 5.0),
    "loss.alpha": _between(0.1, 0.9),
    "loss.class_weighting": _choices("none", "inverse", "effective_number"),
    "optim.name": _choices("adamw", "adafactor"),
    "optim.lr": _between(5e-6, 3e-4, log=True),
    "optim.layer_decay": _between(0.8, 1.0),
    "optim.weight_decay": _between(1e-6, 0.2, log=True),
    "optim.beta1": _between(0.80, 0.95),
    "optim.beta2": _between(0.95, 0.9999),
    "optim.eps": _between(1e-9, 1e-6, log=True),
    "schedule.name": _choices("linear", "cosine", "cosine_restarts", "polynomial", "one_cycle", "constant"),
    "schedule.warmup_ratio": _between(0.0, 0.2),
    "schedule.cycles": {"low": 2, "high": 5},
    "schedule.power": _between(0.5, 3.0),
    "train.batch_size": _choices(8, 12, 16, 24, 32, 48, 64),
    "train.grad_accum": _choices(1, 2, 3, 4, 6, 8),
    "train.clip_norm": _between(0.0, 1.5),
    "train.checkpointing": _choices(False, True),
    "augment.name": _choices("none", "mask", "delete", "swap"),
    "augment.probability": _between(0.05, 0.5),
    "augment.strength": _between(0.05, 0.3),
    "augment.rows": _choices("all", "positives"),
    "task.null_threshold": _between(-3.0, 3.0),
    "task.max_answer_length": _choices(16, 32, 64, 128),
    "task.n_best": _choices(5, 10, 20, 50),
    "task.criteria_weight": _between(0.2, 0.8),
}

_LARGE_24GB = {
    **_NARROW,
    "model.name": _choices(*_LARGE_MODELS),
    "tok.max_length": {"low": 128, "high": 384, "step": 64},
    "optim.lr": _between(5e-6, 5e-5, log=True),
    "train.batch_size": _choices(4, 8, 12, 16),
    "train.grad_accum": _choices(1, 2, 3, 4),
}

_MEMORY_SAFE = {
    name: _NARROW[name]
    for name in (
        "model.name",
        "head.dropout",
        "loss.class_weighting",
        "optim.lr",
        "optim.weight_decay",
        "schedule.warmup_ratio",
        "task.criteria_weight",
    )
}

CATALOGUE: dict[str, NamedSpace] = {
    "narrow": NamedSpace(_NARROW),
    "wide": NamedSpace(_WIDE),
    "large_models_24gb": NamedSpace(_LARGE_24GB, {"limits": "users_24gb"}),
    "memory_safe": NamedSpace(
        _MEMORY_SAFE,
        {
            "train.batch_size": 16,
            "train.grad_accum": 1,
            "train.checkpointing": True,
            "tok.max_length": 256,
            "head.layers": 0,
        },
        by_family={"deberta": {"train.precision": "fp32"}},
    ),
}
"""Named spaces.

``narrow`` suits a first search. ``wide`` holds every parameter. ``large_models_24gb`` holds large models within the
limits that users of 24 GB cards set by hand. ``memory_safe`` fixes the settings that need memory to values that fit
nearly anywhere.
"""
