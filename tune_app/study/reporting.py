"""Counts and rankings of a study's trials, computed from the study alone."""

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
from tune_app.step_scale import StepScale
from tune_app.study.store import StudyStore

RUNNING, WAITING, INTERRUPTED = "running", "waiting", "interrupted"

_BASELINES = {
    "majority": "always guessing the most frequent class",
    "empty": "always answering that no words show it",
    "first_words": "always answering with the first words",
    "majority_empty": "always guessing the most frequent class, and that no words show it,",
}
"""Answers that need no model, by the prefix of the metrics that hold their scores."""


@dataclass(frozen=True)
class Best:
    """Best trial of a group.

    Attributes:
        value: value of the first objective.
        carried_from: origin of a trial that was carried over; None if this study launched it.
        is_collapsed: whether its model gives one answer for every row.
    """

    number: int
    value: float
    params: dict[str, Any]
    carried_from: Origin | None = None
    is_collapsed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the contract's keys, and the other attributes only if they are set."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name in _OF_BEST or value}


_OF_BEST = ("number", "value", "params")


@dataclass(frozen=True)
class Ahead:
    """Open trial that has reported a better value than every complete trial.

    Attributes:
        state: ``running``, ``waiting``, or ``interrupted``.
        at: epoch or fold of the value.
    """

    number: int
    value: float
    state: str
    at: str


@dataclass(frozen=True)
class OnFront:
    """Trial that no other beats, with its ``values`` by objective."""

    number: int
    values: dict[str, float]
    params: dict[str, Any]
    is_collapsed: bool = False


@dataclass(frozen=True)
class StudyStatus:
    """Status of a study, which defines the contract of ``headroom status --json``.

    ``trials`` counts trials by outcome, ``launched`` all but the infeasible ones. Neither includes trials carried over
    from another study, which ``carried`` counts by outcome. Carried trials are ranked among the others, so one may be
    ``best``.

    ``metric``, ``mode`` and ``best`` belong to the first objective. ``recommended`` is the best complete trial with a
    recommended configuration. ``front`` holds the trials that no other beats, in the leaderboard's order. The JSON
    contains ``recommended`` and ``carried`` only if there are such trials. It contains ``objectives`` and ``front``
    only if there are several objectives.

    ``waiting`` counts the running trials that their scheduler paused at a rung. ``baselines`` are the scores of answers
    that need no model, by answer. ``ahead`` is an open trial that is better so far than the complete ones. The contract
    excludes these three.
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
        """Whether the study has several objectives, and thus a front."""
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
    """Return the outcome of a trial; None while it is open."""
    stored = trial.user_attrs.get(OUTCOME_ATTRIBUTE)
    return Outcome(stored) if stored and trial.state.is_finished() else None


def is_infeasible(trial: FrozenTrial) -> bool:
    """Return whether a rule rejected the sample; such a trial was never launched."""
    return outcome_of(trial) is Outcome.INFEASIBLE


def was_launched(trial: FrozenTrial) -> bool:
    """Return whether the study launched the trial: no rule rejected it, and no other study trained it."""
    return not is_infeasible(trial) and carried_from(trial) is None


def is_recommended(trial: FrozenTrial) -> bool:
    """Return whether a trial runs a recommended configuration."""
    return bool(trial.user_attrs.get(RECOMMENDED_ATTRIBUTE))


def waits_at_rung(trial: FrozenTrial) -> bool:
    """Return whether an open trial is paused at a rung by its scheduler."""
    waits_at = trial.user_attrs.get(WAITS_ATTRIBUTE)
    return not trial.state.is_finished() and waits_at == max(trial.intermediate_values, default=0)


def study_status(store: StudyStore, *, is_running: bool) -> StudyStatus:
    """Count and rank the trials of a study.

    Args:
        is_running: whether a search is at work on the study. If not, open trials are ``interrupted``.
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
        ahead=_ahead(trials, ranked, store.record.step_scale, is_running=is_running),
    )


def _first(ranked: Sequence[FrozenTrial]) -> Best | None:
    for trial in ranked:
        return Best(trial.number, values_of(trial)[0], dict(trial.params), carried_from(trial), is_collapsed(trial))
    return None


def _ahead(
    trials: Sequence[FrozenTrial], ranked: Sequence[FrozenTrial], step_scale: StepScale, *, is_running: bool
) -> Ahead | None:
    best = values_of(ranked[0])[0] if ranked else None
    candidates = [
        Ahead(
            trial.number,
            value,
            state_of(trial, is_running=is_running),
            step_scale.label(step_scale.representative_step(reports)),
        )
        for trial in trials
        if not trial.state.is_finished()
        and (value := step_scale.value_so_far(reports := trial.intermediate_values)) is not None
        and (best is None or value > best)
    ]
    return max(candidates, key=lambda ahead: ahead.value, default=None)


def state_of(trial: FrozenTrial, *, is_running: bool) -> str:
    """Return a trial's outcome, or an open trial's state: ``running``, ``waiting`` at a rung, or ``interrupted``."""
    outcome = outcome_of(trial)
    if outcome is not None:
        return outcome.value
    if not is_running:
        return INTERRUPTED
    return WAITING if waits_at_rung(trial) else RUNNING


def is_collapsed(trial: FrozenTrial) -> bool:
    """Return whether a trial's model gives one answer for every row, according to its reports so far."""
    return bool(trial.user_attrs.get("collapsed")) or _metrics_of(trial).get("collapsed", 0.0) >= 0.5


def _metrics_of(trial: FrozenTrial) -> Mapping[str, float]:
    """Return the metrics of an ended trial's best epoch, or of an open trial's last step."""
    if "metrics" in trial.user_attrs:
        return dict(trial.user_attrs["metrics"])
    steps = {step: name for name in trial.user_attrs if (step := step_of_metrics(name)) is not None}
    return dict(trial.user_attrs[steps[max(steps)]]) if steps else {}


def baselines(store: StudyStore) -> dict[str, float]:
    """Return the scores of answers that need no model in the first objective, by answer.

    In a study of an earlier version they come from its trials' metrics, and are empty before the first report.
    """
    if store.baselines:
        return store.baselines
    measured = (baselines_in(_metrics_of(trial), store.record.metric) for trial in store.trials())
    return next(filter(None, measured), {})


def baselines_in(metrics: Mapping[str, float], metric: str) -> dict[str, float]:
    """Return the scores of answers that need no model in a metric, by answer, from a trial's metrics."""
    return {answer: metrics[name] for prefix, answer in _BASELINES.items() if (name := f"{prefix}_{metric}") in metrics}


def leaderboard(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> list[FrozenTrial]:
    """Return the complete trials, those that no other beats first.

    The first objective orders both groups, the best first, and equal trials by number. With one objective, the order is
    that of its values.
    """
    best = {trial.number for trial in front(trials, objectives)}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    # The first objective is always maximised.
    return sorted(complete, key=lambda trial: (trial.number not in best, -values_of(trial)[0], trial.number))


def varying(trials: Sequence[FrozenTrial]) -> set[str]:
    """Return the names of the parameters in which the launched trials differ; with fewer than two trials, all names."""
    launched = [trial for trial in trials if not is_infeasible(trial)]
    names = {name for trial in launched for name in trial.params}
    if len(launched) < 2:
        return names
    return {name for name in names if len({repr(trial.params.get(name)) for trial in launched}) > 1}


def params_text(params: Mapping[str, Any]) -> str:
    """Return a sample on one line, without sections and random seeds: ``model=tiny-bert batch_size=16``."""
    shown = {name: value for name, value in params.items() if not name.startswith("seeds.")}
    return " ".join(f"{name.removesuffix('.name').split('.')[-1]}={_short(value)}" for name, value in shown.items())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def reason_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(REASON_ATTRIBUTE) or "")
