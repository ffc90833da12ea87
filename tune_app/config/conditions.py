"""Conditions under which runs read a parameter, with those that follow from the registries' entries."""

from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.conditions import CONDITIONS, ActiveSpace, Condition, Is, IsNot, Meets
from search_spaces.space import Scalar, Space
from trainables.augmentations import AUGMENTATIONS
from trainables.declaration import added_settings
from trainables.models.families import FAMILIES, Family
from trainables.models.sizes import family_of
from trainables.optimizers import OPTIMIZERS
from trainables.poolings import POOLINGS
from trainables.registry import Entry, Registry
from trainables.schedules import SCHEDULES
from trainables.task_entry import NATIVE
from trainables.task_registry import TASKS

SEARCHABLE = ("model", "tok", "head", "loss", "optim", "schedule", "train", "augment", "task")
"""Sections whose settings a space may vary, except those that must be the same for a whole study."""

_CHOSEN: tuple[Registry[Any], ...] = (TASKS, POOLINGS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS)
# Parameter → whether the models of a family can follow any value of it.
_FOLLOWED: dict[str, Callable[[Family], bool]] = {
    "model.dropout": lambda family: bool(family.dropout),
    "model.freeze_layers": lambda family: not family.shares_layers,
    "optim.layer_decay": lambda family: not family.shares_layers,
    "train.checkpointing": lambda family: family.can_checkpoint,
}


def conditions() -> Mapping[str, tuple[Condition, ...]]:
    """Return the conditions of every parameter that some runs do not read."""
    by_parameter: dict[str, tuple[Condition, ...]] = {}
    sources: list[Mapping[str, Condition]] = [
        {name: _of_models(followed) for name, followed in _FOLLOWED.items()},
        *(_of_entries(str(registry.chooser), registry) for registry in _CHOSEN),
        *(_of_added(section) for section in SEARCHABLE),
    ]
    for source in sources:
        for name, condition in source.items():
            by_parameter[name] = (*by_parameter.get(name, ()), condition)
    for name, others in CONDITIONS.items():
        by_parameter[name] = (*by_parameter.get(name, ()), *others)
    return by_parameter


def active_space(space: Space, fixed: Mapping[str, Scalar]) -> ActiveSpace:
    """Return a space with the conditions under which runs read its parameters.

    Args:
        fixed: settings outside the space, by dotted name.
    """
    return ActiveSpace(space, fixed, conditions())


def _of_models(followed: Callable[[Family], bool]) -> Condition:
    without = [name for name, family in FAMILIES.items() if not followed(family)]
    return Meets("model.name", f"that is no {' or '.join(without)}", lambda model: followed(family_of(str(model))))


def _of_entries(chooser: str, registry: Mapping[str, Entry]) -> dict[str, Condition]:
    """Return the conditions on the entry that a setting chooses, for the settings that some entries do not read."""
    by_parameter: dict[str, Condition] = {}
    for name in dict.fromkeys(name for entry in registry.values() for name in sorted(entry.reads)):
        readers = tuple(key for key, entry in registry.items() if name in entry.reads)
        others = [key for key in registry if key not in readers]
        if others:
            is_other = others in (["none"], [NATIVE])
            by_parameter[name] = IsNot(chooser, others[0]) if is_other else Is(chooser, readers)
    return by_parameter


def _of_added(section: str) -> dict[str, Condition]:
    return {
        f"{section}.{name}": Is(f"{section}.{declared.chosen_by}", declared.entries)
        for name, declared in added_settings(section).items()
    }
