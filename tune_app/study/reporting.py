"""What a study holds, counted and ranked: read from the study alone."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
)
from tune_app.study.store import StudyStore

RUNNING, INTERRUPTED = "running", "interrupted"


@dataclass(frozen=True)
class Best:
    """``value`` is the first objective's; ``carried_from`` says of which study the trial is, if not of this one."""

    number: int
    value: float
    params: dict[str, Any]
    carried_from: Origin | None = None


@dataclass(frozen=True)
class OnFront:
    """A trial that no other beats; ``values`` by objective."""

    number: int
    values: dict[str, float]
    params: dict[str, Any]


@dataclass(frozen=True)
class StudyStatus:
    """The contract of ``headroom status --json``; ``trials`` counts by outcome, ``launched`` all but the infeasible.

    Trials that were carried over from another study are in neither: ``carried`` counts them by outcome. They are ranked
    among the others, so one may be ``best``.

    ``recommended`` is the best of the complete trials with recommended configurations; the JSON has it only where there
    is one. ``metric``, ``mode`` and ``best`` are of the first objective. ``front`` holds the trials that no other
    beats, as the leaderboard has them. The JSON has it, and ``objectives``, only where there are several, and
    ``carried`` only where there are such trials.
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

    @property
    def has_several(self) -> bool:
        """Whether there is a front to speak of: trials of several objectives."""
        return len(self.objectives) > 1

    def as_json(self) -> str:
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        if not self.has_several:
            del values["objectives"], values["front"]
        if not self.carried:
            del values["carried"]
        if self.recommended is None:
            del values["recommended"]
        for name in ("best", "recommended"):
            if values.get(name) and values[name]["carried_from"] is None:
                del values[name]["carried_from"]
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
            OnFront(trial.number, named_values(trial, objectives), dict(trial.params))
            for trial in front(ranked, objectives)
        ),
        carried=dict(carried),
        recommended=_first([trial for trial in ranked if is_recommended(trial)]),
    )


def _first(ranked: Sequence[FrozenTrial]) -> Best | None:
    for trial in ranked:
        return Best(trial.number, values_of(trial)[0], dict(trial.params), carried_from(trial))
    return None


def leaderboard(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> list[FrozenTrial]:
    """Complete trials: those that no other beats before the others, and the best by the first objective first.

    The earlier comes first among equals. Of one objective that is the order of its values.
    """
    best = {trial.number for trial in front(trials, objectives)}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    # The first objective is one to be high.
    return sorted(complete, key=lambda trial: (trial.number not in best, -values_of(trial)[0], trial.number))


def duration_text(seconds: float) -> str:
    """``75`` → ``1 min 15 s``; three places at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def params_text(params: Mapping[str, Any]) -> str:
    """A sample on one line: ``model=tiny-bert batch_size=16``, the sections left out."""
    return " ".join(f"{name.removesuffix('.name').split('.')[-1]}={_short(value)}" for name, value in params.items())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def reason_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(REASON_ATTRIBUTE) or "")
