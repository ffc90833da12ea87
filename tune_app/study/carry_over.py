"""Transfer of a study's finished trials to a study with another record.

A trial fits if the other record allows every setting that its training read: in its space, or fixed to the same value.
A setting that nothing read may have any value, and gets the one that the new space gives it.
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

# A trial's checkpoints stay with the study that trained it, and are deleted with that study.
_LEFT_BEHIND = (LATEST, BEST)


@dataclass
class CarryOver:
    """Result of a transfer: trials in the form of the new study, and the numbers of trials left behind, by reason."""

    trials: list[FrozenTrial] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def carry_over(
    sources: Iterable[tuple[str, StudyRecord, Collection[FrozenTrial]]],
    here: StudyRecord,
    space: ActiveSpace,
    distributions: Mapping[str, BaseDistribution],
    known: Collection[Origin] = (),
) -> CarryOver:
    """Carry over every finished trial that fits, once.

    Args:
        sources: name, record and trials of each study, the oldest first. A trial that a study carried over counts for
            its original study.
        here: record of the new study.
        space: space of the new study.
        distributions: distributions of the new study.
        known: origins of trials that the new study already has.
    """
    found = CarryOver()
    seen = set(known)
    for study, there, trials in sources:
        for trial in trials:
            origin = carried_from(trial) or Origin(study, trial.number)
            if not trial.state.is_finished() or origin in seen:
                continue
            params = params_in_space(trial.params, there, here, space)
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
        there: reports in an epoch of the study that trained the trial.
        here: reports in an epoch of the new study.
    """
    if there == here:
        return trial
    values = trial.intermediate_values.items()
    trial.intermediate_values = {step * here // there: value for step, value in values if step * here % there == 0}
    trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if step_of_metrics(name) is None}
    return trial


@dataclass(frozen=True)
class Misfit:
    """Short reason why a trial does not fit; trials with the same reason share the text."""

    reason: str


def params_in_space(
    params: Mapping[str, Any], there: StudyRecord, here: StudyRecord, space: ActiveSpace
) -> Params | Misfit:
    """Return a trial's parameters in another space, or the reason why it does not fit.

    Args:
        params: the trial's parameters in the space that it was trained in.
        there: record of the study that trained the trial. Its fixed settings give the values of parameters that it did
            not search.
        here: the other record.
        space: space of ``here``, with its fixed settings. They give the values of settings that ``there`` lacks.
    """
    incomparable = there.incomparable(here)
    if incomparable:
        return Misfit(f"{incomparable[0].parameter} differs")
    used: dict[str, Any] = {**space.fixed, **there.all_fixed, **params}
    for name in there.changed_models(here):
        if name in (used.get("model.name"), used.get("model.criteria_name")):
            return Misfit(f"the folder of model {name} differs")
    wanted = {name: _in_entry(space.space.entries[name], used.get(name)) for name in space.space}
    # A value outside the new entry still decides, as it was, which parameters are read.
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
    """Return a value in the entry's own type, such as 16 for 16.0; None if the entry does not contain it."""
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
    """Return a value as text after a name; empty for floats, which differ in every trial."""
    return "" if isinstance(value, float) else f" {json.dumps(value)}"
