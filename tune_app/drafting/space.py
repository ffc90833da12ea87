"""Entries of a draft's space: those of the catalogue's first space, as the data and the models ask for."""

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.catalogue import CATALOGUE
from trainables.models.recommended import recommendations
from trainables.models.sizes import architecture
from trainables.task_entry import TaskEntry
from tune_app.drafting.text import Drafted

_NARROW: Mapping[str, Mapping[str, Any]] = CATALOGUE["narrow"].entries
_AROUND = 2.0
_BATCHES = (4, 8, 16, 32, 64, 128)
_MOST_BATCHES = 4
_FEWEST_STEPS = 8
_WHY_POOLING = "How the tokens become one vector: the first, or their mean."
_EVEN = 1.5


def space_settings(task: TaskEntry, models: Sequence[str], train_rows: int, imbalance: float) -> list[Drafted]:
    """Return the entries of the space.

    Args:
        imbalance: ratio of the rows of the most frequent class to those of the rarest.
    """
    entries = [_rates(models), _batches(train_rows)]
    if len(models) > 1:
        entries.insert(0, Drafted("model.name", {"choices": list(models)}, "Every model is tried; see model.name."))
    entries += [
        Drafted("optim.weight_decay", _NARROW["optim.weight_decay"], "Restrains the weights, on a log scale."),
        Drafted("schedule.warmup_ratio", _NARROW["schedule.warmup_ratio"], "Share of the steps before the full rate."),
    ]
    # A draft of another task has a native head, which reads no settings.
    if task.native_head is None:
        poolings = [pooling for pooling in _NARROW["head.pooling"]["choices"] if task.takes_pooling(pooling)]
        entries.append(Drafted("head.dropout", _NARROW["head.dropout"]))
        entries.append(Drafted("head.pooling", {"choices": poolings}, _WHY_POOLING))
    if imbalance >= _EVEN:
        entries.append(_weighting(imbalance))
    if task.chooses_class and task.finds_spans:
        entries.append(Drafted("task.criteria_weight", _NARROW["task.criteria_weight"], "Weight of the classes' loss."))
    return [Drafted(f"space.{entry.name}", dict(entry.value), entry.why) for entry in entries]


def _weighting(imbalance: float) -> Drafted:
    return Drafted(
        "loss.class_weighting",
        _NARROW["loss.class_weighting"],
        f"The most frequent class has {imbalance:,.1f} times the rows of the rarest: both weightings give rare classes"
        " more weight. Against more of it: loss.name: {choices: [cross_entropy, focal]}, and augment.rows: positives.",
    )


def _rates(models: Sequence[str]) -> Drafted:
    rates = [
        float(settings["optim.lr"])
        for model in models
        for settings in recommendations(architecture(model, fetch=False))
    ]
    low, high = _two_digits(min(rates) / _AROUND), _two_digits(max(rates) * _AROUND)
    why = f"Half the lowest to twice the highest rate that is recommended for {', '.join(models)}, on a log scale."
    return Drafted("optim.lr", {"low": low, "high": high, "log": True}, why)


def _two_digits(rate: float) -> float:
    return float(f"{rate:.1e}")


def _batches(train_rows: int) -> Drafted:
    able = [batch for batch in _BATCHES if batch * _FEWEST_STEPS <= train_rows] or [_BATCHES[0]]
    able = able if len(able) > 1 else list(_BATCHES[:2])
    why = f"Effective batches with at least {_FEWEST_STEPS} steps an epoch; a card of any size trains exactly these."
    return Drafted("train.batch_size", {"choices": able[-_MOST_BATCHES:]}, why)
