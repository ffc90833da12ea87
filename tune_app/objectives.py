"""What a search improves: one measure of its trials, or several at once, none of which is traded for another.

Of several there is no single best trial but a front: the trials that no other beats (the Pareto set).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Objective:
    """A measure by its name, and whether more of it is better (``max``) or less (``min``)."""

    name: str
    mode: Mode

    def shown(self, value: float) -> str:
        """A value of it, as people are shown it: scores to four decimals, costs to four digits."""
        return f"{value:.4f}" if self.mode == "max" else f"{value:.4g}"

    def __str__(self) -> str:
        return f"{self.name} ({self.mode})"


def shown_values(objectives: Sequence[Objective], values: Sequence[float | None]) -> str:
    """``macro_f1 0.9012, peak_gib 0.0513``; what is None is left out."""
    return ", ".join(
        f"{objective.name} {objective.shown(value)}"
        for objective, value in zip(objectives, values, strict=True)
        if value is not None
    )


def values_of(trial: FrozenTrial) -> tuple[float, ...]:
    """A trial's values, one per objective; empty unless it is complete."""
    return tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else ()


def named_values(trial: FrozenTrial, objectives: Sequence[Objective]) -> dict[str, float]:
    """The values of a complete trial by the names of the objectives, in their order."""
    return {objective.name: value for objective, value in zip(objectives, values_of(trial), strict=True)}


def measured(
    objectives: Sequence[Objective], first: float, metrics: Mapping[str, Any], facts: Mapping[str, Any]
) -> tuple[float | None, ...]:
    """The values of a trial: the first objective's, and what was measured in that epoch, or of the whole trial.

    None stands for what was not measured.

    Args:
        first: the first objective's value, by which a trial's epochs are compared.
        metrics: of the epoch, or means over the folds, that ``first`` is of.
        facts: of the trial.
    """
    others = ({**facts, **metrics}.get(objective.name) for objective in objectives[1:])
    return (first, *(None if value is None else float(value) for value in others))


def front(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> list[FrozenTrial]:
    """Complete trials that no other beats: none is as good in every objective and better in one.

    Of one objective these are the best trials; of several the Pareto set. In the order of ``trials``.
    """
    losses = {trial.number: _losses(values_of(trial), objectives) for trial in trials if values_of(trial)}
    kept: list[tuple[float, ...]] = []
    # By their losses in order nobody is beaten by a later one.
    for own in sorted(set(losses.values())):
        if not any(all(theirs <= mine for theirs, mine in zip(other, own, strict=True)) for other in kept):
            kept.append(own)
    on_front = set(kept)
    return [trial for trial in trials if losses.get(trial.number) in on_front]


def _losses(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    return tuple(
        -value if objective.mode == "max" else value for value, objective in zip(values, objectives, strict=True)
    )
