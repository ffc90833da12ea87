"""Which finished trials of a study could as well have been trained under another record, and how they are taken there.

A trial fits where every setting that its training read is one that the other record allows: in its space, or fixed to
that very value. What nothing read may be anything, and becomes the one value that the new space gives it.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, create_trial

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Choices, Entry, FloatRange, Params, Scalar
from tune_app.outcomes import CARRIED_ATTRIBUTE, Origin, carried_from, step_of_metrics
from tune_app.study.checkpoints import BEST, LATEST
from tune_app.study.record import StudyRecord

# Its model stays with the study that trained it, and is deleted with that.
_LEFT_BEHIND = (LATEST, BEST)


@dataclass
class CarryOver:
    """What is taken over: trials as they are to stand in the new study, and how many are not, by the reason."""

    trials: list[FrozenTrial] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def carry_over(
    sources: Iterable[tuple[str, StudyRecord, Collection[FrozenTrial]]],
    here: StudyRecord,
    space: ActiveSpace,
    distributions: Mapping[str, BaseDistribution],
    known: Collection[Origin] = (),
) -> CarryOver:
    """Take over every finished trial that fits, once.

    Args:
        sources: name, record and trials of each study, the oldest first. What one took over from another is the
            other's.
        here: the new study's record, with its ``space`` and ``distributions``.
        known: what the new study has already.
    """
    found = CarryOver()
    seen = set(known)
    for study, there, trials in sources:
        for trial in trials:
            origin = carried_from(trial) or Origin(study, trial.number)
            if not trial.state.is_finished() or origin in seen:
                continue
            params = fitted(trial.params, there, here, space)
            if isinstance(params, Misfit):
                found.left[params.reason] += 1
            else:
                seen.add(origin)
                carried = _carried(trial, params, origin, distributions)
                found.trials.append(_in_steps_of(carried, there.per_epoch, here.per_epoch))
    return found


def _carried(
    trial: FrozenTrial, params: Params, origin: Origin, distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    attributes = {name: value for name, value in trial.user_attrs.items() if name not in _LEFT_BEHIND}
    carried = create_trial(
        state=trial.state,
        values=trial.values,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs={**attributes, CARRIED_ATTRIBUTE: asdict(origin)},
        intermediate_values=dict(trial.intermediate_values),
        constraints=dict(trial.constraints),
    )
    carried.datetime_start, carried.datetime_complete = trial.datetime_start, trial.datetime_complete
    return carried


def _in_steps_of(trial: FrozenTrial, there: int, here: int) -> FrozenTrial:
    """Renumber a trial's reports for a study with another number of reports an epoch; drop those between its steps.

    Args:
        there: reports in an epoch where the trial was trained.
        here: those of the new study.
    """
    if there == here:
        return trial
    values = trial.intermediate_values.items()
    trial.intermediate_values = {step * here // there: value for step, value in values if step * here % there == 0}
    trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if step_of_metrics(name) is None}
    return trial


@dataclass(frozen=True)
class Misfit:
    """Why a trial does not fit, in a few words that trials with the same reason share."""

    reason: str


def fitted(params: Mapping[str, Any], there: StudyRecord, here: StudyRecord, space: ActiveSpace) -> Params | Misfit:
    """A trial's parameters in another space, or why it has no place there.

    Args:
        params: what the trial was given of the space that it was trained in.
        there: record of the study that it was trained in. Its fixed settings say what the trial used of a parameter
            that was not searched then.
        here: the other record.
        space: the space of ``here`` with the settings beside it. They stand for what ``there`` does not know of.
    """
    incomparable = there.incomparable(here)
    if incomparable:
        return Misfit(f"{incomparable[0].parameter} differs")
    used: dict[str, Any] = {**space.fixed, **there.all_fixed, **params}
    for name in there.changed_models(here):
        if name in (used.get("model.name"), used.get("model.criteria_name")):
            return Misfit(f"the folder of model {name} differs")
    wanted = {name: _in_entry(space.space.entries[name], used.get(name)) for name in space.space}
    # A value that the entry lacks decides as it was what is read.
    decides: dict[str, Any] = {name: used.get(name) if value is None else value for name, value in wanted.items()}
    for name, value in wanted.items():
        if value is None and space.is_active(name, decides):
            return Misfit(f"{name}{_text(used.get(name))} is not in the space")
    for name, value in here.all_fixed.items():
        if name in used and used[name] != value and space.is_active(name, decides):
            return Misfit(f"{name}{_text(used[name])} is not the fixed{_text(value) or ' value'}")
    resting = {name: entry.examples[0] for name, entry in space.space.entries.items()}
    return space.normalised({name: resting[name] if value is None else value for name, value in wanted.items()})


def _in_entry(entry: Entry, value: Any) -> Scalar | None:
    """A value as the entry has it, where it has it: 16 among whole numbers may have been 16.0."""
    if isinstance(entry, FloatRange):
        return float(value) if entry.contains(value) else None
    if isinstance(entry, Choices):
        same = (choice for choice in entry.choices if _same(choice, value))
        return next(same, None)
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return whole if entry.contains(whole) else None


def _same(choice: object, value: object) -> bool:
    return choice == value and isinstance(choice, bool) == isinstance(value, bool)


def _text(value: object) -> str:
    """A value behind a name. Of floats each trial has another, and they are left out."""
    return "" if isinstance(value, float) else f" {json.dumps(value)}"
