"""Conditions under which runs read a parameter: also those of added settings, and what families of models lack."""

from collections.abc import Callable, Mapping

from search_spaces.conditions import CONDITIONS, ActiveSpace, Condition, Is, Meets
from search_spaces.space import Scalar, Space
from trainables.declaration import added_settings
from trainables.models.families import FAMILIES, Family
from trainables.models.sizes import family_of

SEARCHABLE = ("model", "tok", "head", "loss", "optim", "schedule", "train", "augment", "task")
"""Sections whose settings a space may vary, except those that must be the same for a whole study."""

# Parameter → whether the models of a family can follow any value of it.
_FOLLOWED: dict[str, Callable[[Family], bool]] = {
    "model.dropout": lambda family: bool(family.dropout),
    "model.freeze_layers": lambda family: not family.shares_layers,
    "optim.layer_decay": lambda family: not family.shares_layers,
    "train.checkpointing": lambda family: family.can_checkpoint,
}


def conditions() -> Mapping[str, tuple[Condition, ...]]:
    """Return the conditions of every parameter that some runs do not read."""
    added: dict[str, tuple[Condition, ...]] = {
        f"{section}.{name}": (Is(f"{section}.{declared.chosen_by}", declared.entries),)
        for section in SEARCHABLE
        for name, declared in added_settings(section).items()
    }
    return {**CONDITIONS, **{name: (_of_models(followed),) for name, followed in _FOLLOWED.items()}, **added}


def active_space(space: Space, fixed: Mapping[str, Scalar]) -> ActiveSpace:
    """Return a space with the conditions under which runs read its parameters.

    Args:
        fixed: settings outside the space, by dotted name.
    """
    return ActiveSpace(space, fixed, conditions())


def _of_models(followed: Callable[[Family], bool]) -> Condition:
    without = [name for name, family in FAMILIES.items() if not followed(family)]
    return Meets("model.name", f"that is no {' or '.join(without)}", lambda model: followed(family_of(str(model))))
