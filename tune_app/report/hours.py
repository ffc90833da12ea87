"""Where the hours went: by outcome and by phase, waiting included."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from tune_app.outcomes import Outcome
from tune_app.report.source import Source
from tune_app.study.occupancy import Occupancy, occupancy, seconds_of
from tune_app.study.remaining import Course
from tune_app.study.times import Doing, facts_of, working_s

PHASES = {
    "load_s": "loading model and data",
    "fit_s": "sizing the passes",
    "train_s": "training",
    "eval_s": "validating",
    "other_s": "starting and saving",
}
"""Phases of a trial's work by the attribute of their seconds; ``other_s`` is the rest of its working time."""


@dataclass(frozen=True)
class Spent:
    """Hours of the trials with one outcome.

    Attributes:
        trials: their number.
        phases: hours at work by phase, of ``PHASES``. Where trials run on GPUs, a trial counts by its share of a card.
        waited: hours that they waited, for a worker or at a rung; a trial that waits holds no card.
        paused: hours in which no search was running.
    """

    outcome: str
    trials: int
    phases: dict[str, float]
    waited: float
    paused: float

    @property
    def worked(self) -> float:
        return sum(self.phases.values())


@dataclass(frozen=True)
class Hours:
    """Hours of a study.

    Attributes:
        unit: ``GPU-hours``, or ``hours`` of workers where no trial runs on a GPU.
        by_outcome: the outcomes with trials, in the order of ``Outcome``, and open trials last.
        used: use of the slots.
    """

    unit: str
    by_outcome: tuple[Spent, ...]
    used: Occupancy

    @property
    def total(self) -> float:
        return sum(spent.worked for spent in self.by_outcome)


def hours(source: Source) -> Hours:
    """Return the hours of the trials that the study launched itself."""
    on_gpus = any((trial.user_attrs.get("gpu_fraction") or 0) > 0 for trial in source.launched)
    grouped: dict[str, list[FrozenTrial]] = {outcome.value: [] for outcome in Outcome}
    for trial in source.launched:
        grouped.setdefault(source.state(trial), []).append(trial)
    return Hours(
        "GPU-hours" if on_gpus else "hours",
        tuple(_spent(outcome, trials, source.now, on_gpus=on_gpus) for outcome, trials in grouped.items() if trials),
        occupancy(source.trials, Course.of(source.config).slots, source.now),
    )


def _spent(outcome: str, trials: Sequence[FrozenTrial], now: float | None, *, on_gpus: bool) -> Spent:
    phases = dict.fromkeys(PHASES.values(), 0.0)
    waited_s = paused_s = 0.0
    for trial in trials:
        share = float(trial.user_attrs.get("gpu_fraction") or 0.0) if on_gpus else 1.0
        for name, seconds in _phases_s(trial, now).items():
            phases[PHASES[name]] += share * seconds / 3600
        idle = seconds_of(trial, now)
        waited_s, paused_s = waited_s + idle[Doing.WAITING], paused_s + idle[Doing.PAUSED]
    return Spent(outcome, len(trials), phases, waited_s / 3600, paused_s / 3600)


def _phases_s(trial: FrozenTrial, now: float | None) -> dict[str, float]:
    """Return a trial's seconds at work by phase."""
    facts, worked = facts_of(trial), working_s(trial, now)
    measured = {name: float(facts.get(name) or 0.0) for name in PHASES if name != "other_s"}
    return {**measured, "other_s": max(0.0, worked - sum(measured.values()))}
