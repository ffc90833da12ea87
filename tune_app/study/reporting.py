"""What a study holds, counted and ranked: read from the study alone."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tune_app.objectives import Objective, front, named_values, values_of
from tune_app.outcomes import (
    OUTCOME_ATTRIBUTE,
    REASON_ATTRIBUTE,
    RECOMMENDED_ATTRIBUTE,
    WAITS_ATTRIBUTE,
    Origin,
    Outcome,
    carried_from,
    step_of_metrics,
)
from tune_app.study.store import StudyStore
from tune_app.unit import Unit

RUNNING, WAITING, INTERRUPTED = "running", "waiting", "interrupted"

_BASELINES = {
    "majority": "always guessing the most frequent class",
    "empty": "always saying that no words show it",
    "first_words": "always saying the first words",
    "majority_empty": "always guessing the most frequent class, and that no words show it,",
}
"""Answers that need no model, by the prefix of the metrics that say what they score."""


@dataclass(frozen=True)
class Best:
    """A trial that stands out.

    Attributes:
        value: of the first objective.
        carried_from: study that launched the trial, if it is not this one.
        is_collapsed: its model gives one answer for every row.
    """

    number: int
    value: float
    params: dict[str, Any]
    carried_from: Origin | None = None
    is_collapsed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return what the contract has; the other attributes only where they say something."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name in _OF_BEST or value}


_OF_BEST = ("number", "value", "params")


@dataclass(frozen=True)
class Ahead:
    """An open trial that has reported a better value than any that is complete.

    Attributes:
        state: ``running``, ``waiting``, or ``interrupted``.
        at: the epoch or fold of the value.
    """

    number: int
    value: float
    state: str
    at: str


@dataclass(frozen=True)
class OnFront:
    """A trial that no other beats; ``values`` by objective."""

    number: int
    values: dict[str, float]
    params: dict[str, Any]
    is_collapsed: bool = False


@dataclass(frozen=True)
class StudyStatus:
    """The contract of ``headroom status --json``; ``trials`` counts by outcome, ``launched`` all but the infeasible.

    Trials that were carried over from another study are in neither: ``carried`` counts them by outcome. They are ranked
    among the others, so one may be ``best``.

    ``recommended`` is the best of the complete trials with recommended configurations; the JSON has it only where there
    is one. ``metric``, ``mode`` and ``best`` are of the first objective. ``front`` holds the trials that no other
    beats, as the leaderboard has them. The JSON has it, and ``objectives``, only where there are several, and
    ``carried`` only where there are such trials.

    ``waiting`` counts those of the running trials that their scheduler has wait at a rung. ``baselines`` are the scores
    of answers that need no model, by how one answers. ``ahead`` is an open trial that is better so far
    than those that are complete. The contract has none of the three.
    """

    study: str
    metric: str
    mode: str
    target: int
    launched: int
    trials: dict[str, int]
    best: Best | None
    objectives: tuple[Objective, ...]
    front: tuple[OnFront, ...]
    carried: dict[str, int]
    recommended: Best | None = None
    waiting: int = 0
    baselines: dict[str, float] = field(default_factory=dict)
    ahead: Ahead | None = None

    @property
    def baseline(self) -> float | None:
        """The best score of an answer that needs no model."""
        return max(self.baselines.values(), default=None)

    @property
    def has_several(self) -> bool:
        """Whether there is a front to speak of: trials of several objectives."""
        return len(self.objectives) > 1

    def as_json(self) -> str:
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        del values["waiting"], values["baselines"], values["ahead"]
        if not self.has_several:
            del values["objectives"], values["front"]
        if not self.carried:
            del values["carried"]
        for name, trial in (("best", self.best), ("recommended", self.recommended)):
            values[name] = trial and trial.as_dict()
        if self.recommended is None:
            del values["recommended"]
        return values


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """The outcome of a trial, or None while it is open."""
    stored = trial.user_attrs.get(OUTCOME_ATTRIBUTE)
    return Outcome(stored) if stored and trial.state.is_finished() else None


def is_infeasible(trial: FrozenTrial) -> bool:
    """Return whether a rule rejected the sample; such a trial was never launched."""
    return outcome_of(trial) is Outcome.INFEASIBLE


def was_launched(trial: FrozenTrial) -> bool:
    """Return whether the study itself launched it: no rule rejected it, and no other study trained it."""
    return not is_infeasible(trial) and carried_from(trial) is None


def is_recommended(trial: FrozenTrial) -> bool:
    """Return whether a trial runs a recommended configuration."""
    return bool(trial.user_attrs.get(RECOMMENDED_ATTRIBUTE))


def waits_at_rung(trial: FrozenTrial) -> bool:
    """Return whether an open trial is paused by its scheduler, which compares it with others."""
    waits_at = trial.user_attrs.get(WAITS_ATTRIBUTE)
    return not trial.state.is_finished() and waits_at == max(trial.intermediate_values, default=0)


def study_status(store: StudyStore, *, is_running: bool) -> StudyStatus:
    """Count and rank.

    Args:
        is_running: whether a search is at work on the study; open trials are ``interrupted`` otherwise.
    """
    trials = store.trials()
    counts = dict.fromkeys([*(outcome.value for outcome in Outcome), RUNNING, INTERRUPTED], 0)
    carried: Counter[str] = Counter()
    for trial in trials:
        outcome = outcome_of(trial)
        counted = carried if carried_from(trial) else counts
        counted[outcome.value if outcome else RUNNING if is_running else INTERRUPTED] += 1
    objectives = store.record.objectives
    ranked = leaderboard(trials, objectives)
    return StudyStatus(
        study=store.name,
        metric=store.record.metric,
        mode=store.record.mode,
        target=store.target,
        launched=sum(map(was_launched, trials)),
        trials=counts,
        best=_first(ranked),
        objectives=objectives,
        front=tuple(
            OnFront(trial.number, named_values(trial, objectives), dict(trial.params), is_collapsed(trial))
            for trial in front(ranked, objectives)
        ),
        carried=dict(carried),
        recommended=_first([trial for trial in ranked if is_recommended(trial)]),
        waiting=sum(map(waits_at_rung, trials)) if is_running else 0,
        baselines=baselines(store),
        ahead=_ahead(trials, ranked, store.record.unit, is_running=is_running),
    )


def _first(ranked: Sequence[FrozenTrial]) -> Best | None:
    for trial in ranked:
        return Best(trial.number, values_of(trial)[0], dict(trial.params), carried_from(trial), is_collapsed(trial))
    return None


def _ahead(
    trials: Sequence[FrozenTrial], ranked: Sequence[FrozenTrial], unit: Unit, *, is_running: bool
) -> Ahead | None:
    best = values_of(ranked[0])[0] if ranked else None
    found = [
        Ahead(trial.number, value, state_of(trial, is_running=is_running), unit.label(unit.telling_step(reports)))
        for trial in trials
        if not trial.state.is_finished()
        and (value := unit.value_so_far(reports := trial.intermediate_values)) is not None
        and (best is None or value > best)
    ]
    return max(found, key=lambda ahead: ahead.value, default=None)


def state_of(trial: FrozenTrial, *, is_running: bool) -> str:
    """Return a trial's outcome, or what an open trial does: ``running``, ``waiting`` at a rung, or ``interrupted``."""
    outcome = outcome_of(trial)
    if outcome is not None:
        return outcome.value
    if not is_running:
        return INTERRUPTED
    return WAITING if waits_at_rung(trial) else RUNNING


def is_collapsed(trial: FrozenTrial) -> bool:
    """Return whether the model of a trial gives one answer for every row, as far as the trial has come."""
    return bool(trial.user_attrs.get("collapsed")) or _metrics_of(trial).get("collapsed", 0.0) >= 0.5


def _metrics_of(trial: FrozenTrial) -> Mapping[str, float]:
    """Return what was measured in the best epoch of a trial that has ended, or in the last one of an open trial."""
    if "metrics" in trial.user_attrs:
        return dict(trial.user_attrs["metrics"])
    steps = {step: name for name in trial.user_attrs if (step := step_of_metrics(name)) is not None}
    return dict(trial.user_attrs[steps[max(steps)]]) if steps else {}


def baselines(store: StudyStore) -> dict[str, float]:
    """Return what answers that need no model score in the first objective, by how one answers.

    A study of an earlier version has what its trials measured; empty before their first report.
    """
    if store.baselines:
        return store.baselines
    measured = (baselines_in(_metrics_of(trial), store.record.metric) for trial in store.trials())
    return next(filter(None, measured), {})


def baselines_in(metrics: Mapping[str, float], metric: str) -> dict[str, float]:
    """Return what answers that need no model score in a metric, by how one answers, as a trial has measured it."""
    return {answer: metrics[name] for prefix, answer in _BASELINES.items() if (name := f"{prefix}_{metric}") in metrics}


def leaderboard(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> list[FrozenTrial]:
    """Complete trials: those that no other beats before the others, and the best by the first objective first.

    The earlier comes first among equals. Of one objective that is the order of its values.
    """
    best = {trial.number for trial in front(trials, objectives)}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    # The first objective is one to be high.
    return sorted(complete, key=lambda trial: (trial.number not in best, -values_of(trial)[0], trial.number))


def varying(trials: Sequence[FrozenTrial]) -> set[str]:
    """Return the names of the parameters in which the launched trials differ; of a single trial all of them."""
    launched = [trial for trial in trials if not is_infeasible(trial)]
    names = {name for trial in launched for name in trial.params}
    if len(launched) < 2:
        return names
    return {name for name in names if len({repr(trial.params.get(name)) for trial in launched}) > 1}


def params_text(params: Mapping[str, Any]) -> str:
    """A sample on one line: ``model=tiny-bert batch_size=16``, the sections left out."""
    return " ".join(f"{name.removesuffix('.name').split('.')[-1]}={_short(value)}" for name, value in params.items())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def reason_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(REASON_ATTRIBUTE) or "")
