"""Objectives of a search: one measure of its trials, or several at once without a trade-off between them.

Several objectives have no single best trial but a front: the trials that no other beats (the Pareto set).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    # Configurations name objectives, and loading one must not wait for Optuna.
    from optuna.trial import FrozenTrial

Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Objective:
    """Measure by its name, with its direction: higher is better (``max``) or lower is better (``min``)."""

    name: str
    mode: Mode

    def shown(self, value: float) -> str:
        """Return a value as text: to four decimals for a score (``max``), to four digits for a cost (``min``)."""
        return f"{value:.4f}" if self.mode == "max" else f"{value:.4g}"

    def __str__(self) -> str:
        return f"{self.name} ({self.mode})"


def shown_values(objectives: Sequence[Objective], values: Sequence[float | None]) -> str:
    """Return values with their names, such as ``macro_f1 0.9012, peak_gib 0.0513``, without those that are None."""
    return ", ".join(
        f"{objective.name} {objective.shown(value)}"
        for objective, value in zip(objectives, values, strict=True)
        if value is not None
    )


def values_of(trial: "FrozenTrial") -> tuple[float, ...]:
    """Return a trial's values, one per objective; empty unless it is complete."""
    return tuple(trial.values or ()) if trial.state.name == "COMPLETE" else ()


def named_values(trial: "FrozenTrial", objectives: Sequence[Objective]) -> dict[str, float]:
    """Return the values of a complete trial by the names of the objectives, in their order."""
    return {objective.name: value for objective, value in zip(objectives, values_of(trial), strict=True)}


def measured(
    objectives: Sequence[Objective], first: float, metrics: Mapping[str, Any], facts: Mapping[str, Any]
) -> tuple[float | None, ...]:
    """Return a trial's values, one per objective. The further ones come from the epoch's metrics or the trial's facts.

    None stands for an objective that was not measured.

    Args:
        first: value of the first objective, which compares a trial's epochs.
        metrics: metrics of the epoch of ``first``, or means over the folds.
        facts: facts of the trial.
    """
    others = ({**facts, **metrics}.get(objective.name) for objective in objectives[1:])
    return (first, *(None if value is None else float(value) for value in others))


def front(trials: Sequence["FrozenTrial"], objectives: Sequence[Objective]) -> list["FrozenTrial"]:
    """Return the complete trials that no other beats, that is, none is as good in every objective and better in one.

    With one objective, these are the best trials; with several, the Pareto set. The order is that of ``trials``.
    """
    losses = {trial.number: _losses(values_of(trial), objectives) for trial in trials if values_of(trial)}
    retained: list[tuple[float, ...]] = []
    # In ascending order of losses, no entry can be beaten by a later one.
    for own in sorted(set(losses.values())):
        if not any(all(theirs <= mine for theirs, mine in zip(other, own, strict=True)) for other in retained):
            retained.append(own)
    on_front = set(retained)
    return [trial for trial in trials if losses.get(trial.number) in on_front]


def _losses(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    return tuple(
        -value if objective.mode == "max" else value for value, objective in zip(values, objectives, strict=True)
    )
